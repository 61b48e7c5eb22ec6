//! The model of the weaken stage in a build with models: a local one, or one behind a server.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_pairs::{Generated, RequestFailure, RequestQueue, UsageMeter};

use crate::local_vlm::LocalVlm;
use crate::responder::ResponderError;
#[cfg(feature = "server")]
use crate::server_vlm::{ServerVlm, ServerVlmError};
use crate::vision::{OnAnswer, VisionLanguageModel, VisionQueue, VisionRequest};

/// A local model, or one behind a server.
pub enum WeakenModel {
    /// A model on this machine.
    Local(Box<LocalVlm>),
    /// A model behind an OpenAI-compatible server.
    #[cfg(feature = "server")]
    Server(Box<ServerVlm>),
}

/// Errors of a [`WeakenModel`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeakenModelError {
    /// An error of the local model.
    #[error(transparent)]
    Local(#[from] ResponderError),
    /// An error of the model behind a server.
    #[cfg(feature = "server")]
    #[error(transparent)]
    Server(#[from] ServerVlmError),
}

fn convert<E: Into<WeakenModelError>>(failure: RequestFailure<E>) -> RequestFailure<WeakenModelError> {
    let RequestFailure { error, is_request_error } = failure;
    RequestFailure { error: error.into(), is_request_error }
}

/// A queue whose answers have the error of one of the models.
struct Converted<'a, 'q>(&'a mut VisionQueue<'q, WeakenModelError>);

impl<E: Into<WeakenModelError>> RequestQueue<VisionRequest, Result<Generated, RequestFailure<E>>>
    for Converted<'_, '_>
{
    fn next_request(&mut self) -> Option<VisionRequest> {
        self.0.next_request()
    }

    fn receive(&mut self, number: usize, answer: Result<Generated, RequestFailure<E>>) -> ControlFlow<()> {
        self.0.receive(number, answer.map_err(convert))
    }
}

/// Converts the errors of a model.
fn converted<E: Into<WeakenModelError>>(
    answers: Vec<Result<Generated, E>>,
) -> Vec<Result<Generated, WeakenModelError>> {
    answers.into_iter().map(|answer| answer.map_err(Into::into)).collect()
}

impl VisionLanguageModel for WeakenModel {
    type Error = WeakenModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, WeakenModelError>> {
        match self {
            Self::Local(model) => converted(model.respond(requests)),
            #[cfg(feature = "server")]
            Self::Server(model) => converted(model.respond(requests)),
        }
    }

    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, WeakenModelError>> {
        match self {
            Self::Local(model) => converted(model.respond_continuous(requests, at_a_time)),
            #[cfg(feature = "server")]
            Self::Server(model) => converted(model.respond_continuous(requests, at_a_time)),
        }
    }

    fn respond_each(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, WeakenModelError>,
    ) {
        match self {
            Self::Local(model) => model.respond_each(requests, at_a_time, &mut |place, answer| {
                on_answer(place, answer.map_err(convert))
            }),
            #[cfg(feature = "server")]
            Self::Server(model) => model.respond_each(requests, at_a_time, &mut |place, answer| {
                on_answer(place, answer.map_err(convert))
            }),
        }
    }

    fn respond_calls(
        &mut self,
        calls: &[Vec<VisionRequest>],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, WeakenModelError>,
    ) {
        match self {
            Self::Local(model) => model.respond_calls(calls, at_a_time, &mut |place, answer| {
                on_answer(place, answer.map_err(convert))
            }),
            #[cfg(feature = "server")]
            Self::Server(model) => model.respond_calls(calls, at_a_time, &mut |place, answer| {
                on_answer(place, answer.map_err(convert))
            }),
        }
    }

    fn calls_at_once(&self) -> NonZeroUsize {
        match self {
            Self::Local(model) => model.calls_at_once(),
            #[cfg(feature = "server")]
            Self::Server(model) => model.calls_at_once(),
        }
    }

    fn respond_queue(&mut self, queue: &mut VisionQueue<'_, WeakenModelError>, at_a_time: NonZeroUsize) {
        match self {
            Self::Local(model) => model.respond_queue(&mut Converted(queue), at_a_time),
            #[cfg(feature = "server")]
            Self::Server(model) => model.respond_queue(&mut Converted(queue), at_a_time),
        }
    }

    fn is_batch_invariant(&self) -> bool {
        match self {
            Self::Local(model) => model.is_batch_invariant(),
            #[cfg(feature = "server")]
            Self::Server(model) => model.is_batch_invariant(),
        }
    }

    fn usage(&self) -> Option<UsageMeter> {
        match self {
            Self::Local(model) => model.usage(),
            #[cfg(feature = "server")]
            Self::Server(model) => model.usage(),
        }
    }

    fn is_request_error(&self, error: &WeakenModelError) -> bool {
        match (self, error) {
            (Self::Local(model), WeakenModelError::Local(error)) => model.is_request_error(error),
            #[cfg(feature = "server")]
            (Self::Server(model), WeakenModelError::Server(error)) => model.is_request_error(error),
            // an error of the other model
            #[cfg(feature = "server")]
            _ => false,
        }
    }

    fn takes_system(&self) -> bool {
        match self {
            Self::Local(model) => model.takes_system(),
            #[cfg(feature = "server")]
            Self::Server(model) => model.takes_system(),
        }
    }
}
