//! The interface of a text model for error injection.

use std::ops::ControlFlow;

use bpo_pairs::{Generated, RequestFailure, Sampling};

/// One instruction for a text model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextRequest {
    /// System message.
    pub system: Option<String>,
    /// User message.
    pub prompt: String,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

/// A callback for the result of one request, with the index of the request in its batch. After
/// [`ControlFlow::Break`] no further request is started; started ones are still passed to it.
pub type OnText<'a, E> = dyn FnMut(usize, Result<Generated, RequestFailure<E>>) -> ControlFlow<()> + 'a;

/// A text model.
pub trait TextGenerator {
    /// What can go wrong with one request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns one result per request, in order. A failed request does not fail the batch.
    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Passes the result of each request to `on_answer` once, as soon as it is there, in any order.
    /// The default calls [`generate`](Self::generate) with all requests first.
    fn generate_each(&mut self, requests: &[TextRequest], on_answer: &mut OnText<'_, Self::Error>) {
        for (place, answer) in self.generate(requests).into_iter().enumerate() {
            let answer = answer.map_err(|error| {
                let is_request_error = self.is_request_error(&error);
                RequestFailure { error, is_request_error }
            });
            let _ = on_answer(place, answer);
        }
    }

    /// Whether an error is the request's own fault, so that asking again would not help; false when
    /// it is the generator's, as when a server is down.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }
}
