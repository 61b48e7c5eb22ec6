//! Adapters of each family: gradients, gradient checkpointing, saving, loading and merging.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_model::{
    Adapters, LoraConfig, ScoreBatch, TargetModules, Vlm, load_adapter, merge_checkpoint, save_adapter,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::case::{Layout, Loaded, cases, each_checkpoint, load};
use super::{NATS, batch, sums};
use crate::support::{device, floats, gradients, read_json, waved};

/// Tolerance for sums in another order, relative to the largest value.
const RELATIVE: f32 = 1e-4;

/// Adapters on all parts of the model.
pub(super) fn lora() -> LoraConfig {
    let lora = LoraConfig::default().with_rank(3, 6.0);
    lora.with_target_modules(TargetModules::PeftAllLinear).with_modules_to_save(&[])
}

/// Adapters on the language model, and a trained projector.
fn lora_and_projector() -> LoraConfig {
    LoraConfig::default().with_rank(3, 6.0)
}

/// The model in training state, with adapters that add something.
pub(super) fn adapted(loaded: &Loaded, lora: &LoraConfig) -> Vlm {
    waved(loaded.model.clone().with_lora(lora, 1).unwrap().train())
}

fn near(found: &[f64], expected: &[f64], relative: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= relative * expected.abs(), "{what}: {found} and {expected}");
    }
}

/// The sum of all log-probabilities, each completion with its own weight, and its gradients.
pub(super) fn measured(model: &Vlm, batch: &ScoreBatch) -> (f64, BTreeMap<String, TensorData>) {
    let (logps, _) = model.completion_logps(batch, Adapters::On).unwrap();
    let [rows, _] = logps.dims();
    let weights: Vec<f32> = (0..rows).map(|row| (row as f32 * 1.3).cos()).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [rows, 1]), &logps.device());
    let sum = (logps * weights).sum();
    (f64::from(floats(sum.clone())[0]), gradients(model, sum))
}

/// Moves trained parameters along their gradients.
pub(super) struct Moved<'a> {
    pub(super) path: Vec<String>,
    pub(super) gradients: &'a BTreeMap<String, TensorData>,
    pub(super) factor: f32,
}

impl ModuleMapper for Moved<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.get(&self.path.join(".")) else { return param };
        param.map(|value| {
            let step = Tensor::from_data(gradient.clone(), &value.device()) * self.factor;
            (value + step).detach().require_grad()
        })
    }
}

#[test]
fn gradients_are_slopes_and_checkpointing_keeps_them() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let batch = batch(&loaded, &cases(checkpoint));
        for lora in [lora(), lora_and_projector()] {
            let model = adapted(&loaded, &lora);
            let (value, found) = measured(&model, &batch);
            let of_vision = |path: &String| path.starts_with("vision_tower.") || path.contains("projector");
            assert!(found.keys().any(of_vision), "{}: {:?}", checkpoint.name, found.keys());

            let squares = |data: &TensorData| data.iter::<f32>().map(|x| f64::from(x).powi(2)).sum::<f64>();
            let length = found.values().map(squares).sum::<f64>().sqrt();
            let at = |step: f64| {
                let factor = (step / length) as f32;
                let mut moved = Moved { path: Vec::new(), gradients: &found, factor };
                measured(&model.clone().map(&mut moved), &batch).0
            };
            let step = 2e-3;
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!((slope - length).abs() < 0.03 * length, "{}: {slope}, {length}", checkpoint.name);

            let recomputing = model.with_gradient_checkpointing(true).unwrap();
            let (again, other) = measured(&recomputing, &batch);
            near(&[again], &[value], 1e-5, &checkpoint.name);
            assert!(found.keys().eq(other.keys()), "{}", checkpoint.name);
            let scale =
                found.values().flat_map(|data| data.iter::<f32>()).fold(0.0, |a: f32, b| a.max(b.abs()));
            for (path, gradient) in &found {
                let pairs = gradient.iter::<f32>().zip(other[path].iter::<f32>());
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= RELATIVE * scale, "{}: {path} is off by {worst}", checkpoint.name);
            }
        }
    });
}

#[test]
fn adapters_are_switched_off_saved_loaded_and_merged() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let batch = batch(&loaded, &cases(checkpoint));
        let base = sums(&loaded.model, &batch, Adapters::On);
        for lora in [lora(), lora_and_projector()] {
            let trained = adapted(&loaded, &lora).valid();
            let expected = sums(&trained, &batch, Adapters::On);
            assert_ne!(expected, base, "{}", checkpoint.name);
            near(&sums(&trained, &batch, Adapters::Off), &base, 1e-6, &checkpoint.name);

            let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let (adapter, merged) = (dirs[0].path().join("adapter"), dirs[1].path().join("merged"));
            save_adapter(&trained, &lora, "base", &adapter).unwrap();
            let (again, settings) = load_adapter(loaded.model.clone(), &adapter).unwrap();
            assert_eq!(settings, lora, "{}", checkpoint.name);
            near(&sums(&again, &batch, Adapters::On), &expected, 1e-6, &checkpoint.name);
            merge_checkpoint(checkpoint.path(), &adapter, 1.0, &merged, &device()).unwrap();
            near(&sums(&load(&merged), &batch, Adapters::On), &expected, 1e-4, &checkpoint.name);
            near(&sums(&trained.merged(), &batch, Adapters::On), &expected, 1e-4, &checkpoint.name);
        }
    });
}

/// Names and shapes of the tensors of an adapter.
fn tensors(adapter: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
}

#[test]
fn adapters_of_peft_compute_what_they_do_there() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let cases = cases(checkpoint);
        let batch = batch(&loaded, &cases);
        let adapter = checkpoint.case.join("adapter");
        let (adapted, settings) = load_adapter(loaded.model.clone(), &adapter).unwrap();
        let answers = cases.iter().flat_map(|case| &case.answers);
        let expected: Vec<f64> = answers.map(|answer| answer.adapted_logp).collect();
        let check = |model: &Vlm, what: &str| {
            for (found, expected) in sums(model, &batch, Adapters::On).iter().zip(&expected) {
                assert!((found - expected).abs() < NATS, "{}, {what}: {found}, {expected}", checkpoint.name);
            }
        };
        check(&adapted, "loaded");
        let dir = tempfile::tempdir().unwrap();
        let [again, merged] = ["again", "merged"].map(|name| dir.path().join(name));
        save_adapter(&adapted, &settings, "base", &again).unwrap();
        check(&load_adapter(loaded.model.clone(), &again).unwrap().0, "saved again");
        // PEFT knows all tensors of our file; those of layers that do not run are not in it
        let theirs = tensors(&adapter);
        for (name, shape) in tensors(&again) {
            assert_eq!(theirs.get(&name), Some(&shape), "{}: {name}", checkpoint.name);
        }
        merge_checkpoint(checkpoint.path(), &adapter, 1.0, &merged, &device()).unwrap();
        check(&load(&merged), "merged");
    });
}

/// The SHA-256 hash of each tensor of a checkpoint, in lower-case hexadecimal digits.
fn hashes(file: &Path) -> BTreeMap<String, String> {
    let bytes = std::fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let hash = |data: &[u8]| Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    file.iter().map(|(name, view)| (name.to_owned(), hash(view.data()))).collect()
}

/// Merged weights have the bits of PEFT's `merge_and_unload` in f32, and all others are unchanged.
#[test]
fn merged_weights_are_those_of_peft() {
    each_checkpoint(|checkpoint| {
        if checkpoint.layout == Layout::V5 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let merged = dir.path().join("merged");
        let adapter = checkpoint.case.join("adapter");
        merge_checkpoint(checkpoint.path(), &adapter, 1.0, &merged, &device()).unwrap();
        let mut expected = hashes(&checkpoint.path().join("model.safetensors"));
        let changed = read_json(&checkpoint.case.join("merged.json"));
        for (name, hash) in changed.as_object().unwrap() {
            let before = expected.insert(name.clone(), hash.as_str().unwrap().to_owned());
            assert!(before.is_some_and(|before| before != *hash), "{}: {name}", checkpoint.name);
        }
        assert!(!changed.as_object().unwrap().is_empty());
        let found = hashes(&merged.join("model.safetensors"));
        let different: Vec<_> =
            expected.iter().filter(|(name, hash)| found.get(*name) != Some(hash)).collect();
        assert!(different.is_empty(), "{}: {different:?}", checkpoint.name);
        assert_eq!(found.len(), expected.len(), "{}", checkpoint.name);
    });
}
