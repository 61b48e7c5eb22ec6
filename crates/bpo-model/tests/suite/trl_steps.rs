//! Twenty steps of TRL's DPOTrainer on the golden pairs, with weight decay: full training, and
//! training of a loaded adapter.

use std::convert::Infallible;

use crate::support::{Golden, device, read_json, root};
use crate::trl_batch::Batch;
use bpo_dpo::{Collate, Control, DpoConfig, PromptGroup, Reference, Schedule, StepMetrics, Trainer};
use bpo_model::ScoreBatch;
use bpo_model::load_adapter;
use bpo_model::{LoadOptions, Vlm};
use bpo_pairs::{CompletionKind, PreferencePair};
use burn::module::Module;
use serde_json::Value;

/// Collates the golden sequences of pairs, which are named by their numbers.
struct Fixed {
    batch: Batch,
    model: Vlm,
}

impl Collate for Fixed {
    type Batch = ScoreBatch;
    type Error = Infallible;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ScoreBatch, Infallible> {
        let number = |text: &String| text.parse::<usize>().unwrap();
        let images = groups.iter().map(|group| self.batch.images[number(&group.images[0])].clone()).collect();
        let sequences = |group: &PromptGroup| {
            group.completions.iter().map(|row| self.batch.sequences[number(row)].clone()).collect()
        };
        let groups: Vec<_> =
            groups.iter().enumerate().map(|(at, group)| (vec![at], sequences(group))).collect();
        Ok(self.batch.score_batch(&self.model, images, &groups))
    }
}

fn model() -> Vlm {
    Vlm::from_pretrained(&Golden::open().checkpoint(), &LoadOptions::default(), &device()).unwrap()
}

fn pairs(count: usize) -> Vec<PreferencePair> {
    let pair = |i: usize| PreferencePair {
        id: i.to_string(),
        images: vec![i.to_string()],
        system: None,
        history: Default::default(),
        prompt: i.to_string(),
        chosen: i.to_string(),
        rejected: (count + i).to_string(),
        kind: CompletionKind::ErrorInjected,
        chosen_kind: None,
        provenance: None,
        margin: None,
        beta: None,
        contrast_images: Vec::new(),
        contrast_answer: None,
    };
    (0..count).map(pair).collect()
}

/// The settings of the golden steps.
pub fn config(settings: &Value, steps: usize) -> DpoConfig {
    let number = |key: &str| settings[key].as_f64().unwrap();
    assert_eq!(settings["lr_scheduler_type"], "linear");
    DpoConfig::default()
        .with_learning_rate(number("learning_rate"))
        .with_weight_decay(number("weight_decay"))
        .with_max_grad_norm(number("max_grad_norm"))
        .with_schedule(Schedule::Linear)
        .with_warmup_ratio(number("warmup_steps") / steps as f64)
        .with_max_steps(Some(steps))
}

/// Compares the metrics of steps with the recorded columns.
pub fn assert_columns(name: &str, found: &[StepMetrics], recorded: impl Fn(&str) -> Vec<f64>) {
    type Column = fn(&StepMetrics) -> f64;
    let columns: [(&str, Column, f64); 4] = [
        ("loss", |step| step.loss, 2e-4),
        ("margins", |step| step.rewards_margins, 5e-4),
        ("grad_norm", |step| step.grad_norm, 1e-3),
        ("learning_rate", |step| step.learning_rate, 1e-9),
    ];
    for (key, of, tolerance) in columns {
        let recorded = recorded(key);
        assert_eq!(found.len(), recorded.len(), "{name}: {key}");
        for (step, expected) in found.iter().zip(recorded) {
            let error = (of(step) - expected).abs();
            let allowed = tolerance * expected.abs().max(1e-2);
            assert!(error <= allowed, "{name}, step {}: {key} {} and TRL {expected}", step.step, of(step));
        }
    }
}

fn compare(name: &str, policy: Vlm, reference: Vlm) {
    let golden = read_json(&root().join("trl/steps.json"));
    let column = |key: &str| -> Vec<f64> {
        golden[name][key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let steps = column("loss").len();
    assert_eq!(steps, 20);
    let batch = Batch::open();
    let pairs = pairs(batch.pairs());
    let mut found = Vec::new();
    let mut observer = |metrics: &StepMetrics| {
        found.push(metrics.clone());
        Control::Continue
    };
    let collate = Fixed { batch, model: model() };
    let trainer = Trainer::new(config(&golden["settings"], steps), policy, collate, None).unwrap();
    trainer.with_reference(Reference::Frozen(reference)).train(pairs, &mut observer).unwrap();
    assert_columns(name, &found, column);
    println!("{name}: loss {} after {steps} steps, TRL {}", found[steps - 1].loss, column("loss")[steps - 1]);
}

#[test]
fn training_in_full_with_weight_decay() {
    compare("full", model().train().unfreeze(|_| true), model());
}

#[test]
fn training_that_goes_on_from_an_adapter() {
    let adapted = || load_adapter(model(), &root().join("trl/adapter")).unwrap().0;
    compare("adapter", adapted(), adapted());
}
