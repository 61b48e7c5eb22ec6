//! Callbacks during a run, for instance for a progress bar.

use bpo_pairs::Skipped;

use crate::metrics::{EvalMetrics, StepMetrics};

/// The decision of an observer after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Continue with the next step.
    Continue,
    /// Write a checkpoint, end the run and return the policy.
    Stop,
}

/// The sizes of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunPlan<'a> {
    /// Number of steps that earlier runs have done.
    pub done_steps: usize,
    /// Number of steps of the whole training.
    pub total_steps: usize,
    /// Number of pairs to train on.
    pub pairs: usize,
    /// Number of pairs to evaluate on.
    pub eval_pairs: usize,
    /// Pairs that failed the check.
    pub skipped: &'a [Skipped],
}

/// Receives the progress of a run. Every `FnMut(&StepMetrics) -> Control` is an observer. `()` is
/// an observer that does nothing.
pub trait Observer {
    /// Handles the start of the run. Called once, before the first step.
    fn on_start(&mut self, plan: &RunPlan<'_>) {
        let _ = plan;
    }

    /// Handles an evaluation. Called after each evaluation, which follows a step.
    fn on_evaluation(&mut self, metrics: &EvalMetrics) {
        let _ = metrics;
    }

    /// Handles a step, and decides whether the run continues. Called after each step.
    fn on_step(&mut self, metrics: &StepMetrics) -> Control;
}

impl<F: FnMut(&StepMetrics) -> Control> Observer for F {
    fn on_step(&mut self, metrics: &StepMetrics) -> Control {
        self(metrics)
    }
}

impl Observer for () {
    fn on_step(&mut self, _: &StepMetrics) -> Control {
        Control::Continue
    }
}
