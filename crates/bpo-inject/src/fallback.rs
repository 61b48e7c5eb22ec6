//! A second injector for the answers whose drafts were all rejected.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_pairs::{RequestQueue, UsageMeter};
use serde::{Deserialize, Serialize};

use crate::injector::inject_by_queue;
use crate::{ErrorInjector, Injection, InjectionFailure, InjectionQueue, InjectionRequest, Rejection};

/// What happens to an answer whose drafts were all rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fallback {
    /// It is skipped.
    #[default]
    Skip,
    /// [`CoOccurrence`](crate::CoOccurrence) rewrites it.
    CoOccurrence,
}

impl Fallback {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Skip, Self::CoOccurrence];

    /// Returns the name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::CoOccurrence => "co-occurrence",
        }
    }
}

/// An [`ErrorInjector`] that gives the answers for which all drafts of the first injector were
/// rejected to a second one.
///
/// Requests that the first injector refuses or fails to answer are not passed on, so that an
/// unusable server is noticed. [`Injection::rejected`] has the reasons of the first injector.
#[derive(Clone, Debug)]
pub struct WithFallback<I, F> {
    first: I,
    second: F,
}

impl<I: ErrorInjector, F: ErrorInjector> WithFallback<I, F> {
    /// Creates an injector from both.
    pub fn new(first: I, second: F) -> Self {
        Self { first, second }
    }

    /// Returns the first injector.
    pub fn first(&self) -> &I {
        &self.first
    }
}

impl<I: ErrorInjector, F: ErrorInjector> ErrorInjector for WithFallback<I, F> {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        inject_by_queue(self, requests)
    }

    fn inject_queue(&mut self, queue: &mut InjectionQueue<'_>, at_a_time: NonZeroUsize) {
        let Self { first, second } = self;
        let mut queue = Intercepted { queue, second, taken: 0, awaited: HashMap::new() };
        first.inject_queue(&mut queue, at_a_time);
    }

    fn usage(&self) -> Option<UsageMeter> {
        self.first.usage()
    }

    /// The second injector gets one request at a time.
    fn is_batch_invariant(&self) -> bool {
        self.first.is_batch_invariant()
    }
}

/// Hands the requests of a queue to the first injector, and gives those that it skips to the second.
struct Intercepted<'a, 'q, F> {
    queue: &'a mut InjectionQueue<'q>,
    second: &'a mut F,
    /// Number of requests taken from the queue.
    taken: usize,
    /// Requests that await an answer, by their number.
    awaited: HashMap<usize, InjectionRequest>,
}

impl<F: ErrorInjector> RequestQueue<InjectionRequest, Result<Injection, InjectionFailure>>
    for Intercepted<'_, '_, F>
{
    fn next_request(&mut self) -> Option<InjectionRequest> {
        let request = self.queue.next_request()?;
        self.awaited.insert(self.taken, request.clone());
        self.taken += 1;
        Some(request)
    }

    fn receive(&mut self, number: usize, answer: Result<Injection, InjectionFailure>) -> ControlFlow<()> {
        let answer = match (answer, self.awaited.remove(&number)) {
            (Err(InjectionFailure::Skipped { rejected }), Some(request)) => {
                again(self.second, &request, rejected)
            }
            (answer, _) => answer,
        };
        self.queue.receive(number, answer)
    }
}

/// Gives a request to the second injector. `rejected` are the reasons of the first one.
fn again(
    second: &mut impl ErrorInjector,
    request: &InjectionRequest,
    mut rejected: Vec<Rejection>,
) -> Result<Injection, InjectionFailure> {
    match second.inject(std::slice::from_ref(request)).into_iter().next() {
        Some(Ok(mut injection)) => {
            rejected.append(&mut injection.rejected);
            injection.rejected = rejected;
            Ok(injection)
        }
        Some(Err(InjectionFailure::Skipped { rejected: more })) => {
            rejected.extend(more);
            Err(InjectionFailure::Skipped { rejected })
        }
        Some(Err(other)) => Err(other),
        None => Err(InjectionFailure::Skipped { rejected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoOccurrence, InjectError, Rejection};

    /// Rejects, refuses, fails and answers in turn.
    struct Mixed;

    impl ErrorInjector for Mixed {
        fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
            let error = || InjectError::MissingResult { expected: 1, found: 0 };
            let result = |request: &InjectionRequest| match request.seed {
                0 => Err(InjectionFailure::Skipped { rejected: vec![Rejection::Empty, Rejection::Refusal] }),
                1 => Err(InjectionFailure::Refused { source: Box::new(error()) }),
                2 => Err(InjectionFailure::failed(error())),
                _ => Ok(Injection::new("A plate.", 1).with_error("free")),
            };
            requests.iter().map(result).collect()
        }
    }

    #[test]
    fn names_are_those_of_serde() {
        for fallback in Fallback::ALL {
            assert_eq!(serde_json::to_string(&fallback).unwrap(), format!("\"{}\"", fallback.as_str()));
        }
    }

    #[test]
    fn only_rejected_answers_reach_the_second_injector() {
        let mut injector = WithFallback::new(Mixed, CoOccurrence::from_corpus(["A red cup."]));
        let requests: Vec<InjectionRequest> =
            (0..4).map(|seed| InjectionRequest::new("What is it?", "A red cup.", seed)).collect();
        let results = injector.inject(&requests);
        let first = results[0].as_ref().unwrap();
        assert_eq!(first.error.as_deref(), Some(CoOccurrence::ERROR));
        assert_eq!(first.rejected, [Rejection::Empty, Rejection::Refusal]);
        assert_ne!(first.text, "A red cup.");
        assert!(matches!(results[1], Err(InjectionFailure::Refused { .. })));
        assert!(matches!(results[2], Err(InjectionFailure::Failed { .. })));
        assert_eq!(results[3].as_ref().unwrap().error.as_deref(), Some("free"));

        let nothing = injector.inject(&[InjectionRequest::new("What?", "???", 0)]).remove(0).unwrap_err();
        assert_eq!(nothing.rejection(), Some(Rejection::NothingToChange));
        let text = "skipped after 3 attempt(s): the drafts were rejected (empty, refusal, nothing to change)";
        assert_eq!(nothing.to_string(), text);
    }
}
