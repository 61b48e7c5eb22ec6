//! Training: `checkpoints/`, `metrics.jsonl`, `eval.jsonl`.

use bpo_dpo::{Collate, Control, EvalMetrics, Observer, Policy, RunPlan, StepMetrics, TrainOutput, Trainer};
use bpo_pairs::PreferencePair;

use super::StageOutcome;
use crate::error::BpoError;
use crate::progress::Progress;
use crate::stage::Stage;

/// The result of training.
#[derive(Clone, Debug)]
pub struct Trained<P> {
    /// The policy in training state.
    pub policy: P,
    /// The summary of the trainer.
    pub summary: TrainOutput,
    /// The outcome of the stage.
    pub outcome: StageOutcome,
}

/// Trains on pairs.
///
/// Pairs that the collator refuses are skipped before the first step. If `progress` stops the
/// training, [`TrainOutput::is_finished`] is false, and the same call resumes it.
///
/// # Errors
/// Returns the errors of [`Trainer::train`].
pub fn train<P, C>(
    trainer: Trainer<P, C>,
    pairs: Vec<PreferencePair>,
    progress: &mut dyn Progress,
) -> Result<Trained<P>, BpoError>
where
    P: Policy,
    C: Collate<Batch = P::Batch> + Send,
    C::Batch: Send,
{
    let (policy, summary) = trainer.train(pairs, &mut Watch(&mut *progress))?;
    progress.trained(&summary);
    let skipped = summary.skipped.clone();
    let outcome = StageOutcome::new(summary.pairs, skipped);
    progress.finished(Stage::Train, &outcome.summary);
    Ok(Trained { policy, summary, outcome })
}

/// Forwards the progress of the trainer.
struct Watch<'a>(&'a mut dyn Progress);

impl Observer for Watch<'_> {
    fn on_start(&mut self, plan: &RunPlan<'_>) {
        self.0.started(Stage::Train, plan.done_steps, plan.total_steps);
    }

    fn on_evaluation(&mut self, metrics: &EvalMetrics) {
        self.0.evaluated(metrics);
    }

    fn on_step(&mut self, metrics: &StepMetrics) -> Control {
        self.0.advanced(Stage::Train, metrics.step);
        self.0.stepped(metrics)
    }
}
