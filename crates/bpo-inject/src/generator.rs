//! What error injection asks of a text model.

use bpo_pairs::{Generated, Sampling};

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

/// A text model.
pub trait TextGenerator {
    /// What can go wrong with one request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One result per request, in order; a bad item does not fail the batch.
    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Whether an error is the request's own fault, so that asking again would not help; false when it is the
    /// generator's, as when a server is down.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }
}
