//! Adapters on disk as PEFT has them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::config::LoraConfig;
use super::names::{AdapterTensor, Factor};
use super::targets::of_suffixes;
use crate::error::{ModelError, WeightProblems, read_settings};
use crate::weights::WeightIndex;

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// Rank, scale and contents of an adapter directory, ready to be loaded or merged.
pub(super) struct PeftAdapter {
    pub config: LoraConfig,
    /// The expression that tells which modules PEFT adapts, if the file has one.
    pub targets: Option<String>,
    pub index: WeightIndex,
}

/// Beginnings of the names of modules that have adapters.
const ADAPTED: [&str; 3] =
    ["language_model.layers.", "vision_tower.encoder.layers.", "multi_modal_projector."];

/// The keys of `adapter_config.json` that matter here; PEFT writes many more.
#[derive(Debug, Deserialize)]
struct PeftConfig {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Option<Targets>,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    bias: Option<String>,
    /// `true`, or the name of a method; some of these change the base weights too.
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    alora_invocation_tokens: Value,
    #[serde(default)]
    layer_replication: Value,
    #[serde(default)]
    target_parameters: Value,
    #[serde(default)]
    use_qalora: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, Value>,
}

/// What PEFT takes for `target_modules`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a regular expression or a list of module names")]
enum Targets {
    Expression(String),
    Names(Vec<String>),
}

impl PeftAdapter {
    pub(super) fn open(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let peft: PeftConfig = read_settings(&path)?;
        let refuse = |reason: String| Err(ModelError::Adapter { path: path.clone(), reason });
        if let Some(kind) = peft.peft_type.as_deref().filter(|kind| *kind != "LORA") {
            return refuse(format!("peft_type is {kind}; only LORA is supported"));
        }
        let foreign = [
            ("use_dora", peft.use_dora),
            ("fan_in_fan_out", peft.fan_in_fan_out),
            ("lora_bias", peft.lora_bias),
            ("rank_pattern", !peft.rank_pattern.is_empty()),
            ("alpha_pattern", !peft.alpha_pattern.is_empty()),
            ("use_qalora", peft.use_qalora),
            ("alora_invocation_tokens", is_set(&peft.alora_invocation_tokens)),
            ("layer_replication", is_set(&peft.layer_replication)),
            ("target_parameters", is_set(&peft.target_parameters)),
            ("bias", peft.bias.as_deref().is_some_and(|bias| bias != "none")),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, set)| *set) {
            return refuse(format!("{key} is set, which is not supported"));
        }
        // the others (pissa, olora, corda, loftq, ...) start from other base weights than the checkpoint's
        const SAME_BASE: [&str; 3] = ["gaussian", "orthogonal", "eva"];
        if let Some(method) = peft.init_lora_weights.as_str().filter(|method| !SAME_BASE.contains(method)) {
            return refuse(format!(
                "init_lora_weights is {method}, which changes the base model too; convert it with PEFT's \
                 path_initial_model_for_weight_conversion"
            ));
        }
        if peft.r == 0 {
            return refuse("r is 0".into());
        }
        if !(0.0..1.0).contains(&peft.lora_dropout) {
            return refuse(format!(
                "lora_dropout is {}; it must be at least 0 and below 1",
                peft.lora_dropout
            ));
        }
        let index = WeightIndex::open_files(vec![dir.join(WEIGHTS)], |name| {
            AdapterTensor::parse(name).map_or_else(|| name.to_owned(), |tensor| tensor.name())
        })?;
        let mut config = LoraConfig::default()
            .with_rank(peft.r, peft.lora_alpha)
            .with_rslora(peft.use_rslora)
            .with_dropout(peft.lora_dropout)
            .with_train_projector(false);
        for name in index.entries().keys() {
            match AdapterTensor::parse(name) {
                Some(AdapterTensor::Saved(weight)) if weight.starts_with("multi_modal_projector.") => {
                    config.train_projector = true;
                }
                Some(AdapterTensor::Lora(module, _))
                    if ADAPTED.iter().any(|part| module.starts_with(part)) => {}
                _ => {
                    return refuse(format!(
                        "{WEIGHTS} has {name}, which belongs to no linear of the language model's layers, the vision \
                         tower's or the projector"
                    ));
                }
            }
        }
        if index.entries().is_empty() {
            return refuse(format!("{WEIGHTS} holds no tensor"));
        }
        let missing: Vec<_> = index
            .entries()
            .keys()
            .filter_map(|name| match AdapterTensor::parse(name)? {
                AdapterTensor::Lora(module, factor) => {
                    Some(AdapterTensor::Lora(module, factor.other()).name())
                }
                AdapterTensor::Saved(_) => None,
            })
            .filter(|name| !index.entries().contains_key(name))
            .collect();
        if !missing.is_empty() {
            let problems = WeightProblems { missing, ..WeightProblems::default() };
            return Err(ModelError::Weights { dir: dir.into(), problems: problems.into() });
        }
        let targets = peft.target_modules.map(|targets| match targets {
            Targets::Expression(expression) => expression,
            Targets::Names(names) => of_suffixes(&names),
        });
        Ok(Self { config, targets, index })
    }

    /// Names of the adapted modules.
    pub(super) fn modules(&self) -> Vec<String> {
        let module = |name: &String| match AdapterTensor::parse(name) {
            Some(AdapterTensor::Lora(module, Factor::A)) => Some(module),
            _ => None,
        };
        self.index.entries().keys().filter_map(module).collect()
    }
}

/// The name or path of the model that an adapter says it belongs to, if it does.
///
/// # Errors
/// If its `adapter_config.json` cannot be read.
pub fn base_of_adapter(dir: &Path) -> Result<Option<String>, ModelError> {
    Ok(read_settings::<PeftConfig>(&dir.join(CONFIG))?.base_model_name_or_path)
}

/// Anything but nothing, null and an empty list or map.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
        _ => true,
    }
}
