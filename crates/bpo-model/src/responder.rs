//! [`Llava`] as the model that bpo-pairs asks about images.

use bpo_inject::Generated;
use bpo_pairs::responder::{VisionLanguageModel, VisionRequest};

use crate::error::ModelError;
use crate::generate::Prompt;
use crate::llava::Llava;
use crate::lora::Adapters;
use crate::processor::{Processor, ProcessorError, Turn};
use crate::weaken::weakened_pixels;

/// A model with its processor.
pub struct LlavaResponder {
    model: Llava,
    processor: Processor,
    adapters: Adapters,
}

impl LlavaResponder {
    /// Answers with the model and, where it has them, its adapters.
    pub fn new(model: Llava, processor: Processor) -> Self {
        Self { model, processor, adapters: Adapters::On }
    }

    /// Sets whether adapters take part.
    pub fn with_adapters(mut self, adapters: Adapters) -> Self {
        self.adapters = adapters;
        self
    }

    /// The model and its processor back.
    pub fn into_parts(self) -> (Llava, Processor) {
        (self.model, self.processor)
    }

    fn prompt(&self, request: &VisionRequest) -> Result<Prompt, ModelError> {
        let image = &self.processor.image;
        let pixels = match &request.weakening {
            Some(weakening) => weakened_pixels(image, &request.image, &weakening.distortion, weakening.seed)?,
            None => image.process(&request.image)?,
        };
        let history: Vec<_> = request.history.iter().map(Turn::from).collect();
        let image_tokens = self.model.config().image_tokens();
        let ids = self.processor.prompt_ids(&history, &request.prompt, image_tokens)?;
        self.model.config().check_input(&ids, Some(&pixels))?;
        let context = self.model.config().text_config.max_position_embeddings;
        if ids.len() >= context {
            return Err(ModelError::ContextTooShort { prompt: ids.len(), wanted: 1, context });
        }
        Ok(Prompt { ids, pixels: Some(pixels), sampling: request.sampling.clone() })
    }
}

impl VisionLanguageModel for LlavaResponder {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        let prompts: Vec<_> = requests.iter().map(|request| self.prompt(request)).collect();
        let good: Vec<_> = prompts.iter().filter_map(|prompt| prompt.as_ref().ok().cloned()).collect();
        let mut answers = match self.model.generate(&good, self.processor.text.eos_ids(), self.adapters) {
            Ok(answers) => answers.into_iter(),
            // a batch fails as one only where a prompt and its image do not fit; ask one by one to name it
            Err(_) if requests.len() > 1 => {
                return requests
                    .iter()
                    .flat_map(|request| self.respond(std::slice::from_ref(request)))
                    .collect();
            }
            Err(error) => return vec![Err(error)],
        };
        prompts
            .into_iter()
            .map(|prompt| {
                prompt?;
                let answer = answers.next().expect("one answer for each prompt");
                Ok(Generated {
                    text: self.processor.text.decode(&answer.ids, true)?,
                    finish: answer.finish,
                    tokens: Some(answer.ids.len()),
                })
            })
            .collect()
    }

    /// Prompts and images that this model can never take; a failing template or device would fail for others too.
    fn is_request_error(&self, error: &ModelError) -> bool {
        use ProcessorError as P;
        match error {
            ModelError::ContextTooShort { .. }
            | ModelError::ImageTokens { .. }
            | ModelError::Image { .. } => true,
            ModelError::Processor(error) => matches!(
                error,
                P::PromptTooLong { .. }
                    | P::SpecialToken { .. }
                    | P::ImageTokens { .. }
                    | P::EmptyImage { .. }
                    | P::ImageTooLarge { .. }
            ),
            _ => false,
        }
    }
}
