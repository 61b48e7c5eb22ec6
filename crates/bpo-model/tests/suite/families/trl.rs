//! Ten steps of TRL's DPOTrainer on the cases that have some: from photographs and texts to the
//! metrics of each step. `tools/golden/families/trl_family.py` records them.

use bpo_dpo::{Control, StepMetrics, Trainer};
use bpo_model::{ImageError, VlmCollator, load_adapter};
use bpo_pairs::{CompletionKind, PreferencePair};
use image::RgbImage;
use serde_json::Value;

use super::case::{Checkpoint, Layout, Loaded, each_checkpoint, photo};
use crate::support::read_json;
use crate::trl_steps::{assert_columns, config};

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
            chosen_kind: None,
            provenance: None,
            margin: None,
            beta: None,
            contrast_images: Vec::new(),
            contrast_answer: None,
        }
    };
    list.iter().enumerate().map(pair).collect()
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
    let config = config(&golden["settings"], steps)
        .with_batch_size(pairs.len())
        // the adapter is not fresh, so policy and reference differ before the first step
        .with_reference_differs(true);
    Trainer::new(config, policy, collate, None).unwrap().train(pairs, &mut observer).unwrap();
    assert_columns(&checkpoint.name, &found, column);
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
