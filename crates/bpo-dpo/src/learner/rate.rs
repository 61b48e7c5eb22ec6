//! Our learning rate as a scheduler of burn.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::config::DpoConfig;
use crate::schedule::Plan;

/// The [learning rate](DpoConfig::learning_rate) of some settings over a run of known length, with their
/// [`schedule`](DpoConfig::schedule) and [`warmup_ratio`](DpoConfig::warmup_ratio).
///
/// [`lr_groups`](DpoConfig::lr_groups) are not for it: burn has groups of its own,
/// [`ModuleLrScheduler`](burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedRate {
    peak: f64,
    plan: Plan,
    step: usize,
}

impl PlannedRate {
    /// The rate over `total_steps` optimizer steps.
    pub fn new(config: &DpoConfig, total_steps: usize) -> Self {
        let plan = Plan::new(config.schedule, config.warmup_ratio, total_steps);
        Self { peak: config.learning_rate, plan, step: 0 }
    }
}

impl LrScheduler for PlannedRate {
    fn step(&mut self) -> f64 {
        let rate = self.peak * self.plan.factor(self.step);
        self.step += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar(STEP, self.step)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(step) = record.scalar(STEP) {
            self.step = step;
        }
    }
}

const STEP: &str = "step";
