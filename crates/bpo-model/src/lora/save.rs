//! The adapters of a model into a directory.

use std::path::Path;

use bpo_pairs::files::write_bytes;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use serde::Serialize;
use serde_json::{Value, json};

use super::config::{LoraConfig, WHOLE_PROJECTOR};
use super::names::{AdapterTensor, Factor};
use super::patterns::ModulePatterns;
use super::peft::{CONFIG, WEIGHTS};
use crate::checkpoint::{Stored, to_bytes};
use crate::error::ModelError;
use crate::families::FamilySpec;
use crate::json::JsonError;
use crate::vlm::{HEAD, Vlm};

/// The model that an adapter belongs to, as `adapter_config.json` records it. PEFT loads it by this
/// name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterBase {
    /// Name on the Hugging Face Hub, or path.
    pub name: String,
    /// Branch, tag or commit on the hub. PEFT takes `main` if there is none.
    pub revision: Option<String>,
}

impl From<&str> for AdapterBase {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), revision: None }
    }
}

/// Writes the model's adapters (and modules trained in full) as a PEFT directory, in f32.
///
/// `base` is recorded as the model the adapter belongs to. The same weights always give the same
/// bytes.
///
/// # Errors
/// [`ModelError::NotFiniteWeights`]; if the directory cannot be written.
pub fn save_adapter(
    model: &Vlm,
    config: &LoraConfig,
    base: impl Into<AdapterBase>,
    dir: &Path,
) -> Result<(), ModelError> {
    let spec = model.config().spec();
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Io { path: dir.into(), source })?;
    let mut collect = Collect::default();
    model.visit(&mut collect);
    // a copy of the projector may have a linear that is not trained
    collect.found.retain(|(tensor, _)| match tensor {
        AdapterTensor::Saved(weight) => {
            weight.rsplit_once('.').is_some_and(|(linear, _)| config.is_whole(linear, spec))
        }
        _ => true,
    });
    // as PEFT does: an adapter of a head may be loaded with another head than the checkpoint's
    if let Some(head) = model.lm_head.as_ref().filter(|head| head.weight.adapter().is_some()) {
        let stored = Stored::transposed(head.weight.base().detach(), model.dtype());
        collect.found.push((AdapterTensor::Base(HEAD.to_owned()), stored));
    }
    let tensors = collect.found.into_iter().map(|(tensor, stored)| (tensor.name(spec), stored));
    let weights = dir.join(WEIGHTS);
    write_bytes(&weights, &to_bytes(tensors, &weights)?)?;
    let mut text = serde_json::to_string_pretty(&peft_config(config, &base.into(), spec))
        .map_err(|source| JsonError::Syntax { path: dir.join(CONFIG), source })?;
    text.push('\n');
    Ok(write_bytes(&dir.join(CONFIG), text.as_bytes())?)
}

/// Number of adapted linears.
pub(crate) fn count_adapters(model: &Vlm) -> usize {
    let mut collect = Collect { names_only: true, ..Collect::default() };
    model.visit(&mut collect);
    collect.names.iter().filter(|tensor| matches!(tensor, AdapterTensor::Lora(_, Factor::A))).count()
}

/// `adapter_config.json`, with its keys in alphabetical order and patterns in the order of their
/// keys.
#[derive(Serialize)]
struct PeftConfig<'a> {
    #[serde(skip_serializing_if = "ModulePatterns::is_empty")]
    alpha_pattern: &'a ModulePatterns<f64>,
    auto_mapping: Value,
    base_model_name_or_path: &'a str,
    bias: &'a str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: f64,
    lora_dropout: f64,
    modules_to_save: Option<Vec<String>>,
    peft_type: &'a str,
    r: usize,
    #[serde(skip_serializing_if = "ModulePatterns::is_empty")]
    rank_pattern: &'a ModulePatterns<usize>,
    revision: Option<&'a str>,
    target_modules: &'a str,
    task_type: Option<&'a str>,
    use_dora: bool,
    use_rslora: bool,
}

fn peft_config<'a>(config: &'a LoraConfig, base: &'a AdapterBase, spec: &FamilySpec) -> PeftConfig<'a> {
    let name = |module: &String| match module.as_str() {
        WHOLE_PROJECTOR => spec.projector_name(),
        other => other.to_owned(),
    };
    let modules: Vec<_> = config.modules_to_save.iter().map(name).collect();
    PeftConfig {
        alpha_pattern: &config.alpha_pattern,
        auto_mapping: json!({
            "base_model_class": spec.class,
            "parent_library": spec.module,
        }),
        base_model_name_or_path: &base.name,
        bias: "none",
        fan_in_fan_out: false,
        inference_mode: true,
        init_lora_weights: true,
        lora_alpha: config.lora_alpha,
        lora_dropout: config.lora_dropout,
        modules_to_save: (!modules.is_empty()).then_some(modules),
        peft_type: "LORA",
        r: config.r,
        rank_pattern: &config.rank_pattern,
        revision: base.revision.as_deref(),
        target_modules: config.target_modules.expression(spec),
        task_type: None,
        use_dora: false,
        use_rslora: config.use_rslora,
    }
}

/// Gathers what is trained, in the layout of the file.
#[derive(Default)]
struct Collect {
    path: Vec<String>,
    names_only: bool,
    names: Vec<AdapterTensor>,
    found: Vec<(AdapterTensor, Stored)>,
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
            self.found.push((tensor.clone(), stored));
        }
        self.names.push(tensor);
    }
}
