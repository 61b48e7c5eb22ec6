//! The interface of error injection, which rewrites right answers into plausible wrong ones.

use std::error::Error;
use std::num::NonZeroUsize;

use bpo_pairs::{RequestQueue, UsageMeter, answer_in_batches};

use crate::{Cut, Rejection};

/// One answer to rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionRequest {
    /// The question or instruction; `<image>` in it is ignored.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// Seed of the rewrite. The result does not depend on the other requests of a batch.
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
}

impl Injection {
    /// Creates a wrong answer that was accepted after `attempts` drafts.
    pub fn new(text: impl Into<String>, attempts: u32) -> Self {
        Self { text: text.into(), attempts, cuts: Vec::new() }
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
    /// All drafts were rejected. The sample must be skipped and counted.
    #[error("skipped after {attempts} attempt(s): the last draft was rejected ({reason})")]
    Skipped {
        /// The reason why the last draft was rejected.
        reason: Rejection,
        /// Number of drafts.
        attempts: u32,
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

    /// Returns the reason why the last draft was rejected, or `None` if there was no draft.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Skipped { reason, .. } => Some(*reason),
            Self::Refused { .. } | Self::Failed { .. } => None,
        }
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
}
