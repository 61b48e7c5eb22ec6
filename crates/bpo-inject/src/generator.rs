//! The interface of text models for error injection.

use std::num::NonZeroUsize;

use bpo_pairs::{Generated, RequestFailure, RequestQueue, Sampling, UsageMeter, answer_in_batches};

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

/// The requests for a text model, one after another, and the receiver of their results.
pub type TextQueue<'a, E> = dyn RequestQueue<TextRequest, Result<Generated, RequestFailure<E>>> + 'a;

/// A text model.
pub trait TextGenerator {
    /// Error of a request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns one result per request, in order. A failed request does not affect the others.
    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Takes requests from `queue` and passes it each result as soon as it is available, in any
    /// order. The default calls [`generate`](Self::generate) with `at_a_time` requests, again and
    /// again.
    fn generate_queue(&mut self, queue: &mut TextQueue<'_, Self::Error>, at_a_time: NonZeroUsize) {
        answer_in_batches(queue, at_a_time.get(), |requests| {
            let results = self.generate(requests);
            let failed = |error| {
                let is_request_error = self.is_request_error(&error);
                RequestFailure { error, is_request_error }
            };
            results.into_iter().map(|result| result.map_err(failed)).collect()
        });
    }

    /// Returns the counts of the requests, if the generator counts them.
    fn usage(&self) -> Option<UsageMeter> {
        None
    }

    /// Returns whether a result does not depend on the other requests of a batch, to the last digit.
    /// If it does, requests must be repeated in the same batches to get the same results. Default:
    /// true.
    fn is_batch_invariant(&self) -> bool {
        true
    }

    /// Returns whether an error is caused by the request itself, so that a repetition would also
    /// fail. Returns false if the generator is the cause, for example a server that is down.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }
}
