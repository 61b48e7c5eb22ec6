//! The answers to the requests of a batch, which arrive in any order.

use std::ops::ControlFlow;

use crate::error::BpoError;
use crate::stage::Stage;

/// Tracks which requests have an answer, and the first error.
pub(super) struct Answers {
    stage: Stage,
    is_answered: Vec<bool>,
    count: usize,
    error: Option<BpoError>,
}

impl Answers {
    /// Creates the state for `requests` unanswered requests.
    pub(super) fn new(stage: Stage, requests: usize) -> Self {
        Self { stage, is_answered: vec![false; requests], count: 0, error: None }
    }

    /// Receives the answer to a request and calls `write` to store it. After the first error it
    /// asks for no further requests, but answers that still arrive are stored.
    pub(super) fn receive(
        &mut self,
        request: usize,
        write: impl FnOnce() -> Result<(), BpoError>,
    ) -> ControlFlow<()> {
        self.count += 1;
        match self.is_answered.get_mut(request) {
            Some(is_answered) if !*is_answered => {
                *is_answered = true;
                if let Err(error) = write() {
                    self.error.get_or_insert(error);
                }
            }
            // finish() reports the wrong number of answers
            _ => {}
        }
        if self.error.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Checks that each request was answered once.
    ///
    /// # Errors
    /// Returns the first error, or [`BpoError::AnswerCount`] if a request was not answered exactly
    /// once.
    pub(super) fn finish(self) -> Result<(), BpoError> {
        let Self { stage, is_answered, count, error } = self;
        if let Some(error) = error {
            return Err(error);
        }
        if count == is_answered.len() && is_answered.iter().all(|&is_answered| is_answered) {
            return Ok(());
        }
        Err(BpoError::AnswerCount { stage: stage.as_str(), requests: is_answered.len(), answers: count })
    }
}
