//! Files with values that are not finite are never written: adapters, checkpoints, merged
//! checkpoints.

use std::path::{Path, PathBuf};

use crate::support::{Golden, device, root};
use bpo_model::{LoadOptions, ModelError, Vlm, load_adapter, merge_checkpoint, save_adapter};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor};
use safetensors::SafeTensors;

fn base() -> Vlm {
    Vlm::from_pretrained(&Golden::open().checkpoint(), &LoadOptions::default(), &device()).unwrap()
}

/// A copy of a directory in which the first value of a tensor is NaN.
fn broken(dir: &Path, file: &str, tensor: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.path().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let name = file.names().into_iter().find(|name| name.contains(tensor)).unwrap().to_owned();
        let view = file.tensor(&name).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        view.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    copy
}

/// Multiplies a parameter of a model by infinity.
struct Break(&'static str, Vec<String>);

impl ModuleMapper for Break {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.1.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.1.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.1.join(".") != self.0 {
            return param;
        }
        param.map(|value| value * f32::INFINITY)
    }
}

#[track_caller]
fn refused<T>(saved: Result<T, ModelError>, expected: &str) {
    match saved.err().expect("it was saved") {
        ModelError::NotFiniteWeights { names, .. } => {
            assert!(names.len() == 1 && names[0].contains(expected), "{names:?}");
        }
        other => panic!("{other}"),
    }
}

fn adapter() -> PathBuf {
    root().join("trl/adapter")
}

#[test]
fn a_merged_checkpoint() {
    let model = Golden::open().checkpoint();
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let spoilt = broken(&adapter(), "adapter_model.safetensors", "layers.1.mlp.up_proj.lora_A");
    refused(merge_checkpoint(&model, spoilt.path(), 1.0, &at("a"), &device()), "layers.1.mlp.up_proj.weight");
    // a weight that the adapter does not change
    let spoilt = broken(&model, "model.safetensors", "layers.0.input_layernorm.weight");
    refused(
        merge_checkpoint(spoilt.path(), &adapter(), 1.0, &at("b"), &device()),
        "layers.0.input_layernorm.weight",
    );
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "something was written");
    merge_checkpoint(&model, &adapter(), 1.0, &at("c"), &device()).unwrap();
}

#[test]
fn an_adapter() {
    let out = tempfile::tempdir().unwrap();
    let (model, config) = load_adapter(base(), &adapter()).unwrap();
    let path = "language_model.layers.0.self_attn.q_proj.weight.lora.a";
    let model = model.map(&mut Break(path, Vec::new()));
    refused(save_adapter(&model, &config, "base", out.path()), "layers.0.self_attn.q_proj.lora_A");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "something was written");
}

#[test]
fn a_whole_checkpoint() {
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let model = base().map(&mut Break("multi_modal_projector.linear_1.bias", Vec::new()));
    let checkpoint = Golden::open().checkpoint();
    refused(model.save_checkpoint(&checkpoint, &at("model")), "multi_modal_projector.linear_1.bias");
    refused(model.save_weights(&at("w"), FloatDType::F32), "multi_modal_projector.linear_1.bias");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "something was written");
}
