//! The interface of error injection, which rewrites right answers into plausible wrong ones.

use std::error::Error;
use std::num::NonZeroUsize;

use bpo_pairs::{RequestQueue, RequestSlice, UsageMeter, answer_in_batches};

use crate::{Cut, Rejection};

/// One answer to rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionRequest {
    /// The question or instruction; `<image>` in it is ignored.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// Seed of the rewrite.
    pub seed: u64,
}

impl InjectionRequest {
    /// Creates a request to rewrite `answer`.
    pub fn new(question: impl Into<String>, answer: impl Into<String>, seed: u64) -> Self {
        Self { question: question.into(), answer: answer.into(), seed }
    }
}

/// A wrong answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injection {
    /// The rewritten answer.
    pub text: String,
    /// Number of drafts that were generated, including the accepted one.
    pub attempts: u32,
    /// Kinds of text that were removed from the draft, each once.
    pub cuts: Vec<Cut>,
    /// Kind of the error, such as the name of an [`ErrorKind`](crate::ErrorKind), if it is known.
    pub error: Option<String>,
    /// The reasons for which earlier drafts were rejected, in their order.
    pub rejected: Vec<Rejection>,
}

impl Injection {
    /// Creates a wrong answer that was accepted after `attempts` drafts.
    pub fn new(text: impl Into<String>, attempts: u32) -> Self {
        Self { text: text.into(), attempts, cuts: Vec::new(), error: None, rejected: Vec::new() }
    }

    /// Sets the kind of the error.
    #[must_use]
    pub fn with_error(mut self, kind: impl Into<String>) -> Self {
        self.error = Some(kind.into());
        self
    }

    /// Sets the reasons for which earlier drafts were rejected.
    #[must_use]
    pub fn with_rejected(mut self, rejected: Vec<Rejection>) -> Self {
        self.rejected = rejected;
        self
    }

    /// Sets the kinds of text that were removed from the draft.
    #[must_use]
    pub fn with_cuts(mut self, cuts: Vec<Cut>) -> Self {
        self.cuts = cuts;
        self
    }
}

/// The reason why there is no wrong answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectionFailure {
    /// All drafts were rejected, or there was nothing to request. The sample must be skipped and
    /// counted.
    #[error("skipped after {} attempt(s): {}", rejected.len(), reasons(rejected))]
    Skipped {
        /// The reasons for which the drafts were rejected, in their order. There is at least one.
        rejected: Vec<Rejection>,
    },
    /// The generator refuses the request, for example because it exceeds the context length. A
    /// repetition would also fail.
    #[error("the generator refuses the request")]
    Refused {
        /// The error of the generator.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The generator failed to return a draft, for example because the server is down. The sample
    /// can be tried again.
    #[error("the generator returned no draft")]
    Failed {
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl InjectionFailure {
    /// Creates a [`Failed`](Self::Failed) from its cause.
    pub fn failed(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed { source: Box::new(source) }
    }

    /// Creates a [`Skipped`](Self::Skipped) with one reason.
    pub fn skipped(reason: Rejection) -> Self {
        Self::Skipped { rejected: vec![reason] }
    }

    /// Returns the reason why the last draft was rejected, or `None` if there was no draft.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Skipped { rejected } => rejected.last().copied(),
            Self::Refused { .. } | Self::Failed { .. } => None,
        }
    }
}

/// Lists the reasons of rejected drafts.
fn reasons(rejected: &[Rejection]) -> String {
    let reasons: Vec<String> = rejected.iter().map(Rejection::to_string).collect();
    match reasons.as_slice() {
        [reason] => format!("the draft was rejected ({reason})"),
        reasons => format!("the drafts were rejected ({})", reasons.join(", ")),
    }
}

/// The requests for an injector, one after another, and the receiver of their results.
pub type InjectionQueue<'a> = dyn RequestQueue<InjectionRequest, Result<Injection, InjectionFailure>> + 'a;

/// Rewrites right answers into wrong ones.
pub trait ErrorInjector {
    /// Returns one result per request, in order. A failed request does not affect the others.
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>>;

    /// Takes requests from `queue` and passes it each result as soon as it is available, in any
    /// order. The default calls [`inject`](Self::inject) with `at_a_time` requests, again and again.
    fn inject_queue(&mut self, queue: &mut InjectionQueue<'_>, at_a_time: NonZeroUsize) {
        answer_in_batches(queue, at_a_time.get(), |requests| self.inject(requests));
    }

    /// Returns the counts of the requests to a server, if the injector uses one.
    fn usage(&self) -> Option<UsageMeter> {
        None
    }

    /// Returns whether a result does not depend on the other requests of a batch, to the last digit.
    /// If it does, requests must be repeated in the same batches to get the same results. Default:
    /// true.
    fn is_batch_invariant(&self) -> bool {
        true
    }
}

/// Returns the results of [`ErrorInjector::inject_queue`] in the order of the requests, for injectors
/// that implement [`ErrorInjector::inject`] by it.
pub(crate) fn inject_by_queue(
    injector: &mut impl ErrorInjector,
    requests: &[InjectionRequest],
) -> Vec<Result<Injection, InjectionFailure>> {
    let mut queue = RequestSlice::new(requests);
    injector.inject_queue(&mut queue, NonZeroUsize::new(requests.len()).unwrap_or(NonZeroUsize::MIN));
    queue.into_answers()
}

impl<I: ErrorInjector + ?Sized> ErrorInjector for &mut I {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        (**self).inject(requests)
    }

    fn inject_queue(&mut self, queue: &mut InjectionQueue<'_>, at_a_time: NonZeroUsize) {
        (**self).inject_queue(queue, at_a_time);
    }

    fn usage(&self) -> Option<UsageMeter> {
        (**self).usage()
    }

    fn is_batch_invariant(&self) -> bool {
        (**self).is_batch_invariant()
    }
}

impl<I: ErrorInjector + ?Sized> ErrorInjector for Box<I> {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        (**self).inject(requests)
    }

    fn inject_queue(&mut self, queue: &mut InjectionQueue<'_>, at_a_time: NonZeroUsize) {
        (**self).inject_queue(queue, at_a_time);
    }

    fn usage(&self) -> Option<UsageMeter> {
        (**self).usage()
    }

    fn is_batch_invariant(&self) -> bool {
        (**self).is_batch_invariant()
    }
}
