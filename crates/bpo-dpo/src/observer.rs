//! Callbacks during a run, for instance for a progress bar.

use bpo_pairs::Skipped;

use crate::metrics::{EvalMetrics, StepMetrics};

/// The observer's answer to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Take the next step.
    Continue,
    /// Write a checkpoint and return the policy.
    Stop,
}

/// Sizes of a run.
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
    /// Pairs that the check refused.
    pub skipped: &'a [Skipped],
}

/// Receives the progress of a run. Every `FnMut(&StepMetrics) -> Control` is an observer; `()` is
/// one that does nothing.
pub trait Observer {
    /// Called once, before the first step.
    fn on_start(&mut self, plan: &RunPlan<'_>) {
        let _ = plan;
    }

    /// Called after each evaluation, which follows its step.
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
