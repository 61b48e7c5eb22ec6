//! Progress of a run.

#[cfg(feature = "model")]
use bpo_dpo::{Control, EvalMetrics, StepMetrics, TrainOutput};

use bpo_pairs::RequestUsage;

use crate::stage::Stage;
use crate::summary::StageSummary;

/// Receives the progress of a run, for example to draw progress bars. `()` ignores it.
pub trait Progress {
    /// Called when `done` of `total` bytes of a file of a model are downloaded, and when its download
    /// starts.
    fn downloading(&mut self, file: &str, done: u64, total: u64) {
        let _ = (file, done, total);
    }

    /// Called when a stage starts. `done` of `total` items (steps, for training) are done by
    /// earlier runs.
    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        let _ = (stage, done, total);
    }

    /// Called when `done` items of the stage are done.
    fn advanced(&mut self, stage: Stage, done: usize) {
        let _ = (stage, done);
    }

    /// Called from time to time, and at the end, while a stage sends requests to a server. `done`
    /// items are done by this process, and `left` items are left.
    fn requested(&mut self, stage: Stage, usage: &RequestUsage, done: usize, left: usize) {
        let _ = (stage, usage, done, left);
    }

    /// Called after each training step. [`Control::Stop`] stops the run after a checkpoint.
    #[cfg(feature = "model")]
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        let _ = metrics;
        Control::Continue
    }

    /// Called after each evaluation on held-out pairs.
    #[cfg(feature = "model")]
    fn evaluated(&mut self, metrics: &EvalMetrics) {
        let _ = metrics;
    }

    /// Called when training ends, even if no step was left. [`finished`](Self::finished)
    /// follows.
    #[cfg(feature = "model")]
    fn trained(&mut self, summary: &TrainOutput) {
        let _ = summary;
    }

    /// Called when a stage ends.
    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        let _ = (stage, summary);
    }
}

impl Progress for () {}
