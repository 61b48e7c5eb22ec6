//! Watching a run, for instance with a progress bar.

use bpo_pairs::Skipped;

use crate::metrics::{EvalMetrics, StepMetrics};

/// Whether a run goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// With the next step.
    Continue,
    /// Not now: write a checkpoint and give the policy back.
    Stop,
}

/// What a run is about to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunPlan<'a> {
    /// Steps done by earlier runs.
    pub done_steps: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// Pairs to train on.
    pub pairs: usize,
    /// Pairs to evaluate on.
    pub eval_pairs: usize,
    /// Pairs that cannot be used.
    pub skipped: &'a [Skipped],
}

/// Told of a run's progress. Every `FnMut(&StepMetrics) -> Control` is one, and `()` is one that does nothing.
pub trait Observer {
    /// Called once, before the first step.
    fn on_start(&mut self, plan: &RunPlan<'_>) {
        let _ = plan;
    }

    /// Called after each evaluation, which comes after its step.
    fn on_evaluation(&mut self, metrics: &EvalMetrics) {
        let _ = metrics;
    }

    /// Called after each step.
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
