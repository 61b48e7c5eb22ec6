//! A model on this machine that answers without an image, as the text model of error injection.

use std::borrow::Cow;
use std::fmt;

use bpo_inject::{TextGenerator, TextRequest};
use bpo_model::{ImageQuestion, ModelError, VlmResponder};
use bpo_pairs::Generated;

/// A model on this machine as a [`TextGenerator`]: a language model, or a vision-language model that
/// sees no image. The authors rewrite answers in the second way.
///
/// Where the chat template has no place for a system message, its text stands in front of the
/// prompt.
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
        let takes_system = self.0.takes_system();
        let prompts: Vec<_> = requests.iter().map(|request| prompt(request, takes_system)).collect();
        let pairs = requests.iter().zip(&prompts);
        let questions: Vec<_> = pairs.map(|(request, prompt)| question(request, prompt)).collect();
        self.0.answer(&questions)
    }

    fn is_batch_invariant(&self) -> bool {
        false
    }

    fn is_request_error(&self, error: &ModelError) -> bool {
        error.is_of_request()
    }
}

/// The text of the user's message.
fn prompt(request: &TextRequest, takes_system: bool) -> Cow<'_, str> {
    match request.system.as_deref().filter(|_| !takes_system) {
        Some(system) => Cow::Owned(format!("{system}\n\n{}", request.prompt)),
        None => Cow::Borrowed(&request.prompt),
    }
}

fn question<'a>(request: &'a TextRequest, prompt: &'a str) -> ImageQuestion<'a> {
    ImageQuestion {
        images: Vec::new(),
        frames: Vec::new(),
        weakened: None,
        system: request.system.as_deref(),
        history: &[],
        prompt,
        answer_prefix: "",
        sampling: &request.sampling,
    }
}

#[cfg(test)]
mod tests {
    use bpo_pairs::Sampling;

    use super::*;

    #[test]
    fn a_system_text_without_a_place_begins_the_prompt() {
        let mut request =
            TextRequest { system: None, prompt: "Change it.".into(), sampling: Sampling::greedy(1) };
        assert_eq!(prompt(&request, false), "Change it.");
        request.system = Some("Be brief.".into());
        assert_eq!(prompt(&request, true), "Change it.");
        assert_eq!(prompt(&request, false), "Be brief.\n\nChange it.");
    }
}
