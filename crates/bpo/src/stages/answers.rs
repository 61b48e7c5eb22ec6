//! The answers to the requests of one batch, which may come in any order.

use std::ops::ControlFlow;

use crate::error::BpoError;
use crate::stage::Stage;

/// Keeps track of which requests have their answer, and of the first error.
pub(super) struct Answers {
    stage: Stage,
    is_answered: Vec<bool>,
    count: usize,
    error: Option<BpoError>,
}

impl Answers {
    /// No answer yet to any of `requests`.
    pub(super) fn new(stage: Stage, requests: usize) -> Self {
        Self { stage, is_answered: vec![false; requests], count: 0, error: None }
    }

    /// Has `write` write the answer to a request. The first error stops further requests, but not the writing of
    /// answers that come afterwards.
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
            // finish() finds that the numbers differ
            _ => {}
        }
        if self.error.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// # Errors
    /// The first error; [`BpoError::AnswerCount`] if not every request was answered once.
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
