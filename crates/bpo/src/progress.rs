//! Watching a run.

#[cfg(feature = "model")]
use bpo_dpo::{Control, EvalMetrics, StepMetrics, TrainOutput};

use crate::stage::Stage;
use crate::summary::StageSummary;

/// Receives the progress of a run, for instance to draw bars. `()` ignores it.
pub trait Progress {
    /// A stage begins; `done` of `total` items (training: steps) are there from earlier runs.
    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        let _ = (stage, done, total);
    }

    /// `done` of the stage's items are there.
    fn advanced(&mut self, stage: Stage, done: usize) {
        let _ = (stage, done);
    }

    /// A training step is done. [`Control::Stop`] ends the run behind a checkpoint.
    #[cfg(feature = "model")]
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        let _ = metrics;
        Control::Continue
    }

    /// Training was evaluated on pairs that it does not see.
    #[cfg(feature = "model")]
    fn evaluated(&mut self, metrics: &EvalMetrics) {
        let _ = metrics;
    }

    /// Training ended, whether or not anything is left to do; the stage's end comes next.
    #[cfg(feature = "model")]
    fn trained(&mut self, summary: &TrainOutput) {
        let _ = summary;
    }

    /// A stage ends.
    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        let _ = (stage, summary);
    }
}

impl Progress for () {}
