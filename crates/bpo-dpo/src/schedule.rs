//! The learning rate over the steps of a run, as `transformers.optimization` computes it.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The learning rate after a linear warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// Half a cosine down to zero: `get_cosine_schedule_with_warmup`.
    #[default]
    Cosine,
    /// A line down to zero: `get_linear_schedule_with_warmup`.
    Linear,
    /// Unchanged: `get_constant_schedule_with_warmup`.
    Constant,
}

/// A schedule for a run of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LrSchedule {
    schedule: Schedule,
    warmup_steps: usize,
    total_steps: usize,
}

impl LrSchedule {
    /// Warm-up takes `ceil(warmup_ratio * total_steps)` steps, as in
    /// `TrainingArguments.get_warmup_steps`.
    pub fn new(schedule: Schedule, warmup_ratio: f64, total_steps: usize) -> Self {
        let warmup_steps = (warmup_ratio * total_steps as f64).ceil() as usize;
        Self { schedule, warmup_steps, total_steps }
    }

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> usize {
        self.warmup_steps
    }

    /// The factor of the peak learning rate in a step, counted from 0. With warm-up the first step
    /// has factor 0, as in transformers.
    pub fn factor(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = (step - self.warmup_steps) as f64 / decay_steps as f64;
        match self.schedule {
            Schedule::Cosine => (0.5 * (1.0 + (PI * progress).cos())).max(0.0),
            Schedule::Linear => (1.0 - progress).max(0.0),
            Schedule::Constant => 1.0,
        }
    }
}
