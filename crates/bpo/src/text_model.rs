//! A vision-language model that answers without an image, as the text model of error injection.

use std::fmt;

use bpo_inject::{TextGenerator, TextRequest};
use bpo_model::{ImageQuestion, ModelError, VlmResponder};
use bpo_pairs::Generated;

/// A vision-language model as a [`TextGenerator`]: it sees no image. The authors rewrite answers
/// this way.
pub struct TextModel(VlmResponder);

impl TextModel {
    /// Answers with a model.
    pub fn new(model: VlmResponder) -> Self {
        Self(model)
    }
}

impl fmt::Debug for TextModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextModel").finish_non_exhaustive()
    }
}

impl TextGenerator for TextModel {
    type Error = ModelError;

    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, ModelError>> {
        let questions: Vec<ImageQuestion<'_>> = requests.iter().map(question).collect();
        self.0.answer(&questions)
    }

    fn is_batch_invariant(&self) -> bool {
        false
    }

    fn is_request_error(&self, error: &ModelError) -> bool {
        self.0.is_request_error(error)
    }
}

fn question(request: &TextRequest) -> ImageQuestion<'_> {
    ImageQuestion {
        images: Vec::new(),
        frames: Vec::new(),
        weakened: None,
        system: request.system.as_deref(),
        history: &[],
        prompt: &request.prompt,
        answer_prefix: "",
        sampling: &request.sampling,
    }
}
