//! Full fine-tuning of the tiny model.
#![cfg(feature = "flex")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::dpo::{Control, ReferenceSync, StepMetrics};
use bpo::model::{FamilySpec, WeightIndex};
use bpo::pairs::{CompletionKind, PreferencePair};
use bpo::{BpoError, ImageRoot, LocalBackend, PipelineBackend, Progress, RunConfig, RunDir, RunStatus};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-model/tests/golden/tiny-llava")
}

fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/photos")
}

/// Settings that train some of language model, projector and vision tower, for `steps` steps.
fn config(parts: [bool; 3], steps: usize) -> RunConfig {
    let mut config = RunConfig::default();
    config.model.path = Some(tiny());
    let full = config.full_finetune.insert(Default::default());
    [full.language_model, full.projector, full.vision_tower] = parts;
    config.train = config
        .train
        .with_learning_rate(1e-3)
        .with_warmup_ratio(0.0)
        .with_batch_size(3)
        .with_save_every(1)
        .with_max_steps(Some(steps));
    config
}

fn pairs() -> Vec<PreferencePair> {
    let pair = |id: &str, image: &str, chosen: &str, rejected: &str| PreferencePair {
        id: id.into(),
        images: vec![image.into()],
        system: None,
        history: Default::default(),
        prompt: "What is it?".into(),
        chosen: chosen.into(),
        rejected: rejected.into(),
        kind: CompletionKind::ErrorInjected,
        chosen_kind: None,
        provenance: None,
        margin: None,
        beta: None,
        contrast_images: Vec::new(),
        contrast_answer: None,
    };
    vec![
        pair("a", "cat.jpg", "A cat.", "A dog on a mat."),
        pair("b", "coffee.jpg", "A cup of coffee.", "Two cups."),
        pair("c", "cat.jpg", "One cat.", "No cat."),
    ]
}

/// Stops after a step, and keeps the metrics of all steps.
struct Until(usize, Vec<StepMetrics>);

impl Progress for Until {
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        self.1.push(metrics.clone());
        if metrics.step == self.0 { Control::Stop } else { Control::Continue }
    }
}

/// Trains in a directory up to a step, and returns the metrics of the steps.
fn train(config: &RunConfig, dir: &Path, stop: usize) -> Result<(RunStatus, Vec<StepMetrics>), BpoError> {
    config.validate()?;
    let images = ImageRoot::new(photos()).expect("photographs");
    let dir = RunDir::open(dir)?;
    let mut progress = Until(stop, Vec::new());
    let mut parts = LocalBackend::new(config.clone(), Device::flex(), None);
    let (completion, _) = parts.train(pairs(), &images, &dir, &mut progress)?;
    assert_eq!(completion == RunStatus::Finished, dir.result(config).join("config.json").exists());
    assert!(!dir.adapter().exists());
    Ok((completion, progress.1))
}

/// Returns name, type and shape, and the bytes of all weights by canonical name.
fn weights(dir: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let index = WeightIndex::open(dir, FamilySpec::of_checkpoint(dir).expect("a family")).expect("weights");
    let about = |entry: &bpo::model::TensorEntry| {
        (format!("{} {:?} {:?}", entry.name, entry.dtype, entry.shape), index.bytes(entry).to_vec())
    };
    index.entries().iter().map(|(name, entry)| (name.clone(), about(entry))).collect()
}

/// Exactly the enabled parts are changed, and the change is written.
#[test]
fn only_selected_parts_are_trained() {
    let base = weights(&tiny());
    // the third vision layer and the last norm are behind the layer whose features are used
    let runs = |name: &str| !name.contains("encoder.layers.2.") && !name.contains("post_layernorm");
    for parts in
        [[true, true, false], [true, false, false], [false, true, false], [false, false, true], [true; 3]]
    {
        let dir = tempfile::tempdir().unwrap();
        let (_, steps) = train(&config(parts, 2), dir.path(), usize::MAX).unwrap();
        assert!((steps[0].loss - std::f64::consts::LN_2).abs() < 1e-5, "{parts:?}: {:?}", steps[0]);
        assert!(steps[0].rewards_margins.abs() < 1e-4 && steps[1].loss < steps[0].loss, "{parts:?}");

        let trained = weights(&dir.path().join("model"));
        let about = |weights: &BTreeMap<String, (String, Vec<u8>)>| -> Vec<String> {
            weights.values().map(|(about, _)| about.clone()).collect()
        };
        assert_eq!(about(&trained), about(&base));
        let changed: BTreeSet<&String> =
            base.iter().filter(|(name, weight)| trained[*name].1 != weight.1).map(|(name, _)| name).collect();
        let names = [&["language_model.", "lm_head."][..], &["multi_modal_projector."], &["vision_tower."]];
        let on = |name: &str| {
            parts.iter().zip(names).any(|(on, names)| *on && names.iter().any(|part| name.starts_with(part)))
        };
        let expected: BTreeSet<&String> = base.keys().filter(|name| on(name) && runs(name)).collect();
        // softmax is invariant to the bias of a key: its gradient is only rounding
        let but: BTreeSet<&String> = base.keys().filter(|name| name.ends_with("k_proj.bias")).collect();
        assert_eq!(&changed - &but, &expected - &but, "{parts:?}");
    }
}

#[test]
fn finetuned_model_is_a_checkpoint_in_the_format_of_its_base() {
    let dir = tempfile::tempdir().unwrap();
    train(&config([true, true, false], 3), dir.path(), usize::MAX).unwrap();
    let model = dir.path().join("model");
    for file in fs::read_dir(tiny()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "model.safetensors" {
            assert_eq!(fs::read(model.join(name)).unwrap(), fs::read(&path).unwrap(), "{name:?}");
        }
    }
    // it can be loaded and trained again
    let mut again = config([true, true, false], 2);
    again.model.path = Some(model.clone());
    let other = tempfile::tempdir().unwrap();
    let (_, steps) = train(&again, other.path(), usize::MAX).unwrap();
    assert!((steps[0].loss - std::f64::consts::LN_2).abs() < 1e-5);
    assert_ne!(weights(&other.path().join("model")), weights(&model));
    // it is written again if it is damaged
    let bytes = weights(&model);
    fs::write(model.join("model.safetensors"), "cut").unwrap();
    let (_, steps) = train(&config([true, true, false], 3), dir.path(), usize::MAX).unwrap();
    assert!(steps.is_empty());
    assert_eq!(weights(&model), bytes);
}

/// With a fixed reference, and with one that is synchronized.
#[test]
fn resumed_full_finetuning_equals_uninterrupted_run() {
    for moving in [None, Some(ReferenceSync::new(2, 0.6))] {
        let mut config = config([true; 3], 5);
        config.train.reference_sync = moving;
        config.train.batch_size = 2;
        let whole = tempfile::tempdir().unwrap();
        train(&config, whole.path(), usize::MAX).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (completion, _) = train(&config, dir.path(), 3).unwrap();
        assert_eq!(completion, RunStatus::Stopped);
        train(&config, dir.path(), usize::MAX).unwrap();
        let metrics = |dir: &Path| fs::read(dir.join("metrics.jsonl")).unwrap();
        assert!(metrics(dir.path()) == metrics(whole.path()), "{moving:?}");
        assert!(weights(&dir.path().join("model")) == weights(&whole.path().join("model")), "{moving:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let refused = |key: &str, change: &dyn Fn(&mut RunConfig)| {
        let mut config = config([true, true, false], 1);
        change(&mut config);
        let error = config.validate().unwrap_err();
        let named = |found: &str| found == key;
        let known = match &error {
            BpoError::Setting { key, .. } | BpoError::Conflict { key, .. } => named(key),
            _ => false,
        };
        assert!(known, "{error}");
    };
    refused("full_finetune", &|config| {
        let full = config.full_finetune.get_or_insert_default();
        (full.language_model, full.projector) = (false, false);
    });
    refused("model.dtype", &|config| config.model.dtype = bpo::Dtype::Bf16);
    refused("lora", &|config| config.lora.r = 4);
}
