//! The trait of error injectors, and its requests and results.

use std::error::Error;

use crate::{Cut, Rejection};

/// One answer to rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionRequest {
    /// The question or instruction. `<image>` in it is ignored.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// Seed of this rewrite. The result does not depend on the rest of the batch.
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
    /// Number of drafts, the accepted one included.
    pub attempts: u32,
    /// Kinds of text that were cut from the draft, each once.
    pub cuts: Vec<Cut>,
}

impl Injection {
    /// Creates a wrong answer that the `attempts`-th draft gave.
    pub fn new(text: impl Into<String>, attempts: u32) -> Self {
        Self { text: text.into(), attempts, cuts: Vec::new() }
    }

    /// Sets the kinds of text that were cut from the draft.
    #[must_use]
    pub fn with_cuts(mut self, cuts: Vec<Cut>) -> Self {
        self.cuts = cuts;
        self
    }
}

/// The reason why an answer was not rewritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectionFailure {
    /// Every draft broke an acceptance rule. The sample is skipped and counted.
    #[error("skipped after {attempts} attempt(s): the last draft was {reason}")]
    Skipped {
        /// The rule that the last draft broke.
        reason: Rejection,
        /// Number of drafts.
        attempts: u32,
    },
    /// The generator refuses the request, for example because it is longer than its context.
    /// Another attempt fails too.
    #[error("the generator refuses the request")]
    Refused {
        /// Error of the generator.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The generator returned no draft, for example because a server is down. Another attempt may
    /// succeed.
    #[error("no draft to judge")]
    Failed {
        /// Error of the generator.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl InjectionFailure {
    /// Creates the failure for a generator that returned no draft.
    pub fn failed(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed { source: Box::new(source) }
    }

    /// Returns the rule that the last draft broke, if there was a draft.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Skipped { reason, .. } => Some(*reason),
            Self::Refused { .. } | Self::Failed { .. } => None,
        }
    }
}

/// Rewrites right answers into wrong ones.
pub trait ErrorInjector {
    /// Returns one result per request, in order. A failed request does not fail the batch.
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>>;
}

impl<I: ErrorInjector + ?Sized> ErrorInjector for &mut I {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        (**self).inject(requests)
    }
}

impl<I: ErrorInjector + ?Sized> ErrorInjector for Box<I> {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        (**self).inject(requests)
    }
}
