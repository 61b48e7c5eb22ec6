//! The interface of text models for error injection.

use std::ops::ControlFlow;

use bpo_pairs::{Generated, RequestFailure, Sampling};

/// One instruction for a text model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextRequest {
    /// System message.
    pub system: Option<String>,
    /// User message.
    pub prompt: String,
    /// Sampling parameters.
    pub sampling: Sampling,
}

/// Callback for the result of one request, which it identifies by its index. [`ControlFlow::Break`]
/// asks the generator to start no further requests. Results of started requests may still be passed
/// on.
pub type OnText<'a, E> = dyn FnMut(usize, Result<Generated, RequestFailure<E>>) -> ControlFlow<()> + 'a;

/// A text model.
pub trait TextGenerator {
    /// Error of a request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns one result per request, in order. A failed request does not affect the others.
    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Passes the result of each request to `on_answer` once, as soon as it is available, in any
    /// order. The default calls [`generate`](Self::generate) with all requests first.
    fn generate_each(&mut self, requests: &[TextRequest], on_answer: &mut OnText<'_, Self::Error>) {
        for (place, answer) in self.generate(requests).into_iter().enumerate() {
            let answer = answer.map_err(|error| {
                let is_request_error = self.is_request_error(&error);
                RequestFailure { error, is_request_error }
            });
            let _ = on_answer(place, answer);
        }
    }

    /// Returns whether an error is caused by the request itself, so that a repetition would also
    /// fail. Returns false if the generator is the cause, for example a server that is down.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }
}
