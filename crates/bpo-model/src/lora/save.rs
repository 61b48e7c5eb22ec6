//! The adapters of a model into a directory.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use serde_json::{Value, json};

use super::config::LoraConfig;
use super::names::{AdapterTensor, Factor};
use super::peft::{CONFIG, WEIGHTS};
use crate::error::ModelError;
use crate::files::write_atomically;
use crate::llava::Llava;
use crate::weights::{Stored, to_bytes};

/// Writes the model's adapters (and trained projector) as a PEFT directory, in f32.
///
/// `base` is recorded as the model the adapter belongs to. The same weights always give the same bytes.
///
/// # Errors
/// [`ModelError::NotFiniteWeights`]; if the directory cannot be written.
pub fn save_adapter(model: &Llava, config: &LoraConfig, base: &str, dir: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Io { path: dir.into(), source })?;
    let mut collect = Collect::default();
    model.visit(&mut collect);
    let weights = dir.join(WEIGHTS);
    write_atomically(&weights, &to_bytes(collect.found, &weights)?)?;
    let mut text = serde_json::to_string_pretty(&peft_config(config, base))
        .map_err(|source| ModelError::Json { path: dir.join(CONFIG), source })?;
    text.push('\n');
    write_atomically(&dir.join(CONFIG), text.as_bytes())
}

/// Number of adapted linears.
pub(crate) fn count_adapters(model: &Llava) -> usize {
    let mut collect = Collect { names_only: true, ..Collect::default() };
    model.visit(&mut collect);
    collect.names.iter().filter(|tensor| matches!(tensor, AdapterTensor::Lora(_, Factor::A))).count()
}

fn peft_config(config: &LoraConfig, base: &str) -> Value {
    json!({
        "auto_mapping": {
            "base_model_class": "LlavaForConditionalGeneration",
            "parent_library": "transformers.models.llava.modeling_llava",
        },
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "modules_to_save": config.train_projector.then_some(["multi_modal_projector"]),
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": config.target_modules.expression(),
        "task_type": null,
        "use_dora": false,
        "use_rslora": config.use_rslora,
    })
}

/// Gathers what is trained, in the layout of the file.
#[derive(Default)]
struct Collect {
    path: Vec<String>,
    names_only: bool,
    names: Vec<AdapterTensor>,
    found: Vec<(String, Stored)>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(tensor) = AdapterTensor::of_path(&self.path.join(".")) else { return };
        if !self.names_only {
            let value = param.base().detach();
            let stored = if D == 2 {
                Stored::transposed(value, FloatDType::F32)
            } else {
                Stored::new(value, FloatDType::F32)
            };
            self.found.push((tensor.name(), stored));
        }
        self.names.push(tensor);
    }
}
