//! Weakened answers that say little about the bias of the model.

use std::cell::{Cell, RefCell};

use bpo_inject::AcceptanceRules;
use bpo_pairs::{CompletionKind, FinishReason, Record, SftSample, SkipCounts, SkipReason, Skipped};

use super::record::Bootstrapped;
use crate::config::{ChosenAnswer, RunConfig};

/// Finds weakened answers that were cut off, and refusals ("I'm sorry, I cannot see ..."). They make
/// pairs unless `pair.skip_cut` and `pair.skip_refusals` are set.
#[derive(Debug)]
pub(super) struct AnswerCheck<'a> {
    skip_cut: bool,
    skip_refusals: bool,
    /// Whether the annotated answers are used.
    has_annotated: bool,
    is_judged: bool,
    rules: &'a AcceptanceRules,
    kept: RefCell<SkipCounts>,
    left_out: RefCell<SkipCounts>,
    /// Whether an answer of the sample was left out.
    of_sample: Cell<bool>,
}

impl<'a> AnswerCheck<'a> {
    pub(super) fn new(config: &'a RunConfig) -> Self {
        Self {
            skip_cut: config.pair.skip_cut,
            skip_refusals: config.pair.skip_refusals,
            has_annotated: config.chosen.has_annotated(),
            is_judged: config.chosen == ChosenAnswer::Judged,
            rules: &config.inject.llm.acceptance,
            kept: RefCell::default(),
            left_out: RefCell::default(),
            of_sample: Cell::default(),
        }
    }

    /// Returns whether an answer makes a pair of its sample, and counts it otherwise.
    pub(super) fn keeps(&self, sample: &SftSample, answer: &Bootstrapped) -> bool {
        // of judged answers, none that was cut off or declines makes a pair
        if answer.kind != CompletionKind::ImageWeakened || self.is_judged {
            return true;
        }
        let is_cut = answer.finish == Some(FinishReason::Length);
        let annotated = if self.has_annotated { sample.answer.as_str() } else { "" };
        let is_refusal = self.rules.is_refusal(&answer.response, annotated);
        let found = [
            (SkipReason::WeakenedRefusal, is_refusal, self.skip_refusals),
            (SkipReason::WeakenedCut, is_cut, self.skip_cut),
        ];
        if let Some((reason, ..)) = found.into_iter().find(|(_, is_found, skips)| *is_found && *skips) {
            self.left_out.borrow_mut().add(reason);
            self.of_sample.set(true);
            return false;
        }
        for (reason, ..) in found.into_iter().filter(|(_, is_found, _)| *is_found) {
            self.kept.borrow_mut().add(reason);
        }
        true
    }

    /// Returns whether a record, whose answers were checked last, has none left. They are counted, so
    /// that the record need not be. A sample that is skipped is not left out.
    pub(super) fn is_left_out(&self, record: &Result<Record, Skipped>) -> bool {
        let has_left_out = self.of_sample.take();
        has_left_out && record.as_ref().is_ok_and(|record| record.completions.len() == 1)
    }

    /// Warns of refusals that were not left out, and returns the number of answers that were.
    pub(super) fn finish(self) -> SkipCounts {
        let kept = self.kept.into_inner();
        let [refusals, cut] =
            [SkipReason::WeakenedRefusal, SkipReason::WeakenedCut].map(|reason| kept.get(reason));
        if refusals > 0 {
            tracing::warn!(
                answers = refusals,
                "weakened answers decline to answer; `pair.skip_refusals` (`bpo pair --skip-refusals`) leaves \
                 them out"
            );
        }
        if cut > 0 {
            tracing::info!(
                answers = cut,
                "weakened answers reached `weaken.max_new_tokens`; `pair.skip_cut` (`bpo pair --skip-cut`) \
                 leaves them out"
            );
        }
        self.left_out.into_inner()
    }
}
