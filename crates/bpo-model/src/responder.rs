//! [`Llava`] as the model that bpo-pairs asks about images.

use std::num::NonZeroUsize;

use bpo_distort::{DistortError, Input};
use bpo_inject::Generated;
use bpo_pairs::provenance::{Contrast, ContrastMode};
use bpo_pairs::responder::{VisionLanguageModel, VisionRequest, Weakening};

use crate::error::ModelError;
use crate::generate::{ContrastInput, Prompt};
use crate::input::{ImageInput, ModelInput};
use crate::llava::Llava;
use crate::lora::Adapters;
use crate::processor::{Processor, ProcessorError, TokenizedCompletion, Turn};

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

    fn request(&self, request: &VisionRequest) -> Result<Request, ModelError> {
        let (view, against) = self.views(request)?;
        let (seen, begun) = self.seen(request, view)?;
        let mut prompt = Prompt::new(seen, request.sampling.clone());
        if let Some((view, contrast)) = against {
            let (seen, _) = self.seen(request, view)?;
            prompt = prompt.with_contrast(ContrastInput::new(seen, contrast.alpha, contrast.plausibility));
        }
        Ok(Request { prompt, begun })
    }

    /// What is seen of the image, and what that is contrasted with.
    fn views(
        &self,
        request: &VisionRequest,
    ) -> Result<(ImageInput, Option<(ImageInput, Contrast)>), ModelError> {
        let image = &self.processor.image;
        let clean = || Ok::<_, ModelError>(ImageInput::of(image.process(&request.image)?));
        let Some(Weakening { distortion, seed, other, contrast, .. }) = &request.weakening else {
            return Ok((clean()?, None));
        };
        let mut input = Input::new(&request.image);
        input.other = other.as_deref();
        let weakened =
            ImageInput::weakened(image, input, distortion, *seed, self.model.config().image_tokens())?;
        Ok(match contrast {
            None => (weakened, None),
            Some(contrast) => match contrast.mode {
                ContrastMode::AmplifyPrior => (weakened, Some((clean()?, *contrast))),
                ContrastMode::Vcd => (clean()?, Some((weakened, *contrast))),
            },
        })
    }

    /// A question with a view of its image, and the ids of what its answer begins with.
    fn seen(&self, request: &VisionRequest, view: ImageInput) -> Result<(ModelInput, Vec<u32>), ModelError> {
        let config = self.model.config();
        let system = request.system.as_deref().filter(|_| self.takes_system());
        let history: Vec<_> = request.history.iter().map(Turn::from).collect();
        let image_tokens = if view.pixels.is_some() { config.image_tokens() } else { 0 };
        let (ids, begun) = match request.begun.is_empty() {
            true => (self.processor.prompt_ids(system, &history, &request.prompt, image_tokens)?, Vec::new()),
            false => {
                let (prompt, begun) = (&request.prompt, &request.begun);
                let TokenizedCompletion { ids, answer_start, .. } =
                    self.processor.prefixed_ids(system, &history, prompt, begun, image_tokens)?;
                let begun = ids[answer_start..].to_vec();
                (ids, begun)
            }
        };
        let seen = ModelInput::new(ids, view);
        config.check_input(&seen.ids, seen.view.pixels.as_ref())?;
        let context = config.text_config.max_position_embeddings;
        match seen.ids.len() {
            prompt if prompt >= context => Err(ModelError::ContextTooShort { prompt, wanted: 1, context }),
            _ => Ok((seen, begun)),
        }
    }
}

/// A request as the model takes it.
struct Request {
    prompt: Prompt,
    /// Ids of the answer that are there already.
    begun: Vec<u32>,
}

impl VisionLanguageModel for LlavaResponder {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        self.respond_continuous(requests, NonZeroUsize::new(requests.len()).unwrap_or(NonZeroUsize::MIN))
    }

    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, ModelError>> {
        let asked: Vec<_> = requests.iter().map(|request| self.request(request)).collect();
        let good = asked.iter().filter_map(|request| Some(request.as_ref().ok()?.prompt.clone()));
        let good: Vec<_> = good.collect();
        let eos = self.processor.text.eos_ids();
        let mut answers = match self.model.generate_continuous(&good, at_a_time, eos, self.adapters) {
            Ok(answers) => answers.into_iter(),
            // one by one each error is its own request's
            Err(_) if requests.len() > 1 => {
                return requests
                    .iter()
                    .flat_map(|request| self.respond(std::slice::from_ref(request)))
                    .collect();
            }
            Err(error) => return vec![Err(error)],
        };
        asked
            .into_iter()
            .map(|request| {
                let Request { begun: mut ids, .. } = request?;
                let answer = answers.next().expect("one answer for each prompt");
                ids.extend(answer.ids);
                Ok(Generated {
                    text: self.processor.text.decode(&ids, true)?,
                    finish: answer.finish,
                    tokens: Some(ids.len()),
                })
            })
            .collect()
    }

    fn takes_system(&self) -> bool {
        self.processor.chat.takes_system()
    }

    /// Prompts and images that this model can never take; a failing template or device would fail for others too.
    fn is_request_error(&self, error: &ModelError) -> bool {
        use ProcessorError as P;
        match error {
            ModelError::ContextTooShort { .. }
            | ModelError::ImageTokens { .. }
            | ModelError::Image { .. } => true,
            ModelError::Distort(DistortError::Recompress { .. }) => true,
            ModelError::Processor(error) => matches!(
                error,
                P::PromptTooLong { .. }
                    | P::SpecialToken { .. }
                    | P::ImageTokens { .. }
                    | P::EmptyImage { .. }
                    | P::ImageTooLarge { .. }
                    | P::EmptyAnswer
                    | P::EosInAnswer { .. }
            ),
            _ => false,
        }
    }
}
