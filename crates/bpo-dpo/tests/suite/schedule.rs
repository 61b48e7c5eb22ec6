//! The learning rate against transformers.

use bpo_dpo::{LrSchedule, Schedule};

/// `_get_cosine_schedule_with_warmup_lr_lambda` and `_get_linear_schedule_with_warmup_lr_lambda`
/// for steps 0 to 10, with 3 warm-up steps, 10 training steps and `num_cycles=0.5`.
const COSINE: [f64; 11] = [
    0.0,
    0.3333333333333333,
    0.6666666666666666,
    1.0,
    0.9504844339512095,
    0.8117449009293668,
    0.6112604669781572,
    0.38873953302184283,
    0.18825509907063326,
    0.04951556604879048,
    0.0,
];
const LINEAR: [f64; 11] = [
    0.0,
    0.3333333333333333,
    0.6666666666666666,
    1.0,
    0.8571428571428571,
    0.7142857142857143,
    0.5714285714285714,
    0.42857142857142855,
    0.2857142857142857,
    0.14285714285714285,
    0.0,
];

fn factors(schedule: Schedule, ratio: f64, steps: usize) -> Vec<f64> {
    let plan = LrSchedule::new(schedule, ratio, steps);
    (0..=steps).map(|step| plan.factor(step)).collect()
}

fn assert_table(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
    }
}

#[test]
fn cosine_equals_transformers() {
    assert_table(&factors(Schedule::Cosine, 0.3, 10), &COSINE);
}

#[test]
fn linear_equals_transformers() {
    assert_table(&factors(Schedule::Linear, 0.3, 10), &LINEAR);
}

#[test]
fn constant_schedule_is_constant_after_warm_up() {
    let rise = [0.0, 1.0 / 3.0, 2.0 / 3.0];
    let expected: Vec<f64> = rise.into_iter().chain([1.0; 8]).collect();
    assert_table(&factors(Schedule::Constant, 0.3, 10), &expected);
}

#[test]
fn warm_up_is_rounded_up() {
    for (ratio, steps, warmup) in [(0.03, 100, 3), (0.03, 101, 4), (0.03, 1, 1), (0.0, 50, 0), (1.0, 7, 7)] {
        assert_eq!(
            LrSchedule::new(Schedule::Cosine, ratio, steps).warmup_steps(),
            warmup,
            "{ratio} of {steps}"
        );
    }
}

#[test]
fn first_step_without_warm_up_has_the_peak_rate() {
    assert_eq!(LrSchedule::new(Schedule::Cosine, 0.0, 5).factor(0), 1.0);
}

#[test]
fn rate_after_the_last_step_is_zero() {
    for schedule in [Schedule::Cosine, Schedule::Linear] {
        assert!(LrSchedule::new(schedule, 0.1, 5).factor(5) < 1e-15);
    }
}
