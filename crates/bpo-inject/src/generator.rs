//! The trait of text models.

use bpo_pairs::{Generated, Sampling};

/// One prompt for a text model.
#[derive(Clone, Debug, PartialEq)]
pub struct TextRequest {
    /// System message.
    pub system: Option<String>,
    /// User message.
    pub prompt: String,
    /// Temperature, nucleus mass, length and seed.
    pub sampling: Sampling,
}

/// A text model.
pub trait TextGenerator {
    /// Error of one request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns one result per request, in order. A failed request does not fail the batch.
    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Whether an error comes from the request itself, so that another attempt fails too. The
    /// default,
    /// `false`, means that the generator failed, for example because a server is down.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }
}
