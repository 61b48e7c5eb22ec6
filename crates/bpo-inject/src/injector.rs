//! Error injection: a right answer in, a plausible wrong one out.

use std::error::Error;
use std::ops::ControlFlow;

use crate::{Cut, Rejection};

/// One answer to rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionRequest {
    /// The question or instruction; `<image>` in it is ignored.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// Seed of this rewrite. The same request gives the same text, whatever else is in its batch.
    pub seed: u64,
}

impl InjectionRequest {
    /// A request to rewrite `answer`.
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
    /// Drafts it took, this one included.
    pub attempts: u32,
    /// What was cut from the draft, each kind once.
    pub cuts: Vec<Cut>,
}

impl Injection {
    /// A wrong answer found at the `attempts`-th draft.
    pub fn new(text: impl Into<String>, attempts: u32) -> Self {
        Self { text: text.into(), attempts, cuts: Vec::new() }
    }

    /// Records what was cut from the draft.
    #[must_use]
    pub fn with_cuts(mut self, cuts: Vec<Cut>) -> Self {
        self.cuts = cuts;
        self
    }
}

/// Why there is no wrong answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectionFailure {
    /// Every draft broke an acceptance rule: the sample is to be skipped and counted.
    #[error("skipped after {attempts} attempt(s): the last draft was rejected ({reason})")]
    Skipped {
        /// The rule that the last draft broke.
        reason: Rejection,
        /// Drafts made.
        attempts: u32,
    },
    /// The generator can never take this request, for instance because it is longer than its
    /// context.
    #[error("the generator refuses the request")]
    Refused {
        /// What it says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There was no draft to judge, for instance because the server is down: the sample can be
    /// tried again.
    #[error("no draft to judge")]
    Failed {
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl InjectionFailure {
    /// A failure to get any draft.
    pub fn failed(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed { source: Box::new(source) }
    }

    /// The broken rule, where there was a draft to judge.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Skipped { reason, .. } => Some(*reason),
            Self::Refused { .. } | Self::Failed { .. } => None,
        }
    }
}

/// A callback for the result of one request, with the index of the request in its batch. After
/// [`ControlFlow::Break`] no further request is started; started ones are still passed to it.
pub type OnInjection<'a> = dyn FnMut(usize, Result<Injection, InjectionFailure>) -> ControlFlow<()> + 'a;

/// Rewrites right answers into wrong ones.
pub trait ErrorInjector {
    /// Returns one result per request, in order. A failed request does not fail the batch.
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>>;

    /// Passes the result of each request to `on_result` once, as soon as it is there, in any order.
    /// The default calls [`inject`](Self::inject) with all requests first.
    fn inject_each(&mut self, requests: &[InjectionRequest], on_result: &mut OnInjection<'_>) {
        for (place, result) in self.inject(requests).into_iter().enumerate() {
            let _ = on_result(place, result);
        }
    }
}

impl<I: ErrorInjector + ?Sized> ErrorInjector for &mut I {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        (**self).inject(requests)
    }

    fn inject_each(&mut self, requests: &[InjectionRequest], on_result: &mut OnInjection<'_>) {
        (**self).inject_each(requests, on_result);
    }
}

impl<I: ErrorInjector + ?Sized> ErrorInjector for Box<I> {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        (**self).inject(requests)
    }

    fn inject_each(&mut self, requests: &[InjectionRequest], on_result: &mut OnInjection<'_>) {
        (**self).inject_each(requests, on_result);
    }
}
