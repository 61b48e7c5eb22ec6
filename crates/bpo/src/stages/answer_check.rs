//! Weakened answers that say little about the bias of the model.

use bpo_inject::AcceptanceRules;
use bpo_pairs::{CompletionKind, FinishReason, PairSelection, SftSample, SkipCounts, SkipReason};

use super::record::Bootstrapped;

/// Finds weakened answers that were cut off, and refusals ("I'm sorry, I cannot see ..."). They make
/// pairs unless `pair.skip_cut` and `pair.skip_refusals` are set.
#[derive(Debug)]
pub(super) struct AnswerCheck {
    skip_cut: bool,
    skip_refusals: bool,
    rules: AcceptanceRules,
    kept: SkipCounts,
    left_out: SkipCounts,
}

impl AnswerCheck {
    pub(super) fn new(selection: &PairSelection) -> Self {
        let PairSelection { skip_cut, skip_refusals, .. } = *selection;
        let (rules, kept, left_out) = Default::default();
        Self { skip_cut, skip_refusals, rules, kept, left_out }
    }

    /// Returns whether an answer makes a pair of its sample, and counts it otherwise.
    pub(super) fn keeps(&mut self, sample: &SftSample, answer: &Bootstrapped) -> bool {
        if answer.kind != CompletionKind::ImageWeakened {
            return true;
        }
        let (reason, is_skipped) = if answer.finish == Some(FinishReason::Length) {
            (SkipReason::WeakenedCut, self.skip_cut)
        } else if self.rules.is_refusal(&answer.response, &sample.answer) {
            (SkipReason::WeakenedRefusal, self.skip_refusals)
        } else {
            return true;
        };
        let counts = if is_skipped { &mut self.left_out } else { &mut self.kept };
        counts.add(reason);
        !is_skipped
    }

    /// Warns of refusals that are rejected answers now, and returns the number of answers that were left
    /// out.
    pub(super) fn finish(self) -> SkipCounts {
        let [refusals, cut] =
            [SkipReason::WeakenedRefusal, SkipReason::WeakenedCut].map(|reason| self.kept.get(reason));
        if refusals > 0 {
            tracing::warn!(
                answers = refusals,
                "weakened answers that decline to answer are rejected answers of pairs; \
                 to leave them out, set `pair.skip_refusals` (`bpo pair --skip-refusals`)"
            );
        }
        if cut > 0 {
            tracing::info!(
                answers = cut,
                "weakened answers that reached `weaken.max_new_tokens` are rejected answers of pairs; \
                 to leave them out, set `pair.skip_cut` (`bpo pair --skip-cut`)"
            );
        }
        self.left_out
    }
}
