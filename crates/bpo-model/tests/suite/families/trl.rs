//! Ten steps of TRL's DPOTrainer on the cases that have some: from photographs and texts to the
//! metrics of each step. `tools/golden/families/trl_family.py` records them.

use bpo_dpo::{Control, DpoConfig, Schedule, StepMetrics, Trainer};
use bpo_model::{ImageError, VlmCollator, load_adapter};
use bpo_pairs::{CompletionKind, PreferencePair};
use image::RgbImage;
use serde_json::Value;

use super::case::{Checkpoint, Layout, Loaded, each_checkpoint, photo};
use crate::support::read_json;

/// The recorded pairs.
fn pairs(steps: &Value) -> Vec<PreferencePair> {
    let list = steps["pairs"].as_array().unwrap();
    let pair = |(number, pair): (usize, &Value)| {
        let text = |key: &str| pair[key].as_str().unwrap().to_owned();
        PreferencePair {
            id: number.to_string(),
            images: vec![text("image")],
            system: None,
            history: Default::default(),
            prompt: text("prompt"),
            chosen: text("chosen"),
            rejected: text("rejected"),
            kind: CompletionKind::ErrorInjected,
            provenance: None,
            margin: None,
            beta: None,
        }
    };
    list.iter().enumerate().map(pair).collect()
}

/// The recorded settings.
fn config(settings: &Value, steps: usize, pairs: usize) -> DpoConfig {
    let number = |key: &str| settings[key].as_f64().unwrap();
    assert_eq!(settings["lr_scheduler_type"], "linear");
    DpoConfig::default()
        .with_learning_rate(number("learning_rate"))
        .with_weight_decay(number("weight_decay"))
        .with_max_grad_norm(number("max_grad_norm"))
        .with_schedule(Schedule::Linear)
        .with_warmup_ratio(number("warmup_steps") / steps as f64)
        .with_max_steps(Some(steps))
        .with_batch_size(pairs)
        // the adapter is not fresh, so policy and reference differ before the first step
        .with_reference_differs(true)
}

fn compare(checkpoint: &Checkpoint, golden: &Value) {
    let column = |key: &str| -> Vec<f64> { serde_json::from_value(golden[key].clone()).unwrap() };
    let steps = column("loss").len();
    let pairs = pairs(golden);
    let Loaded { model, processor } = Loaded::of(checkpoint);
    let (policy, _) = load_adapter(model, &checkpoint.case.join("trl/adapter")).unwrap();
    let images = |name: &str| -> Result<RgbImage, ImageError> { Ok(photo(name)) };
    let collate = VlmCollator::new(processor, &policy, images);
    let mut found = Vec::new();
    let mut observer = |metrics: &StepMetrics| {
        found.push(metrics.clone());
        Control::Continue
    };
    let config = config(&golden["settings"], steps, pairs.len());
    Trainer::new(config, policy, collate, None).unwrap().train(pairs, &mut observer).unwrap();
    assert_eq!(found.len(), steps);
    type Column = fn(&StepMetrics) -> f64;
    let columns: [(&str, Column, f64); 4] = [
        ("loss", |step| step.loss, 2e-4),
        ("margins", |step| step.rewards_margins, 5e-4),
        ("grad_norm", |step| step.grad_norm, 1e-3),
        ("learning_rate", |step| step.learning_rate, 1e-9),
    ];
    for (key, of, tolerance) in columns {
        for (step, expected) in found.iter().zip(column(key)) {
            let error = (of(step) - expected).abs();
            let allowed = tolerance * expected.abs().max(1e-2);
            assert!(
                error <= allowed,
                "{}, step {}: {key} {} and TRL {expected}",
                checkpoint.name,
                step.step,
                of(step)
            );
        }
    }
}

#[test]
fn steps_are_those_of_trl() {
    each_checkpoint(|checkpoint| {
        let file = checkpoint.case.join("trl/steps.json");
        if checkpoint.layout == Layout::Published && file.is_file() {
            compare(checkpoint, &read_json(&file));
        }
    });
}
