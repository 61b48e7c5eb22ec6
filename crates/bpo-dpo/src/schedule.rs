//! Learning-rate schedules, as in `transformers.optimization`.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The shape of the learning rate after a linear warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// Half a period of a cosine down to zero: `get_cosine_schedule_with_warmup`.
    #[default]
    Cosine,
    /// Linear decay to zero: `get_linear_schedule_with_warmup`.
    Linear,
    /// The peak learning rate: `get_constant_schedule_with_warmup`.
    Constant,
}

/// A schedule for a run with a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LrSchedule {
    schedule: Schedule,
    warmup_steps: usize,
    total_steps: usize,
}

impl LrSchedule {
    /// Creates a schedule whose warm-up takes `ceil(warmup_ratio * total_steps)` steps, as in
    /// `TrainingArguments.get_warmup_steps`.
    pub fn new(schedule: Schedule, warmup_ratio: f64, total_steps: usize) -> Self {
        let warmup_steps = (warmup_ratio * total_steps as f64).ceil() as usize;
        Self { schedule, warmup_steps, total_steps }
    }

    /// Returns the number of warm-up steps.
    pub fn warmup_steps(&self) -> usize {
        self.warmup_steps
    }

    /// Returns the factor of the peak learning rate in a step. Steps are numbered from 0. With
    /// warm-up the factor of the first step is 0, as in transformers.
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
