//! Adapters on disk as PEFT has them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::attach::Factors;
use super::config::{LoraConfig, TargetModules};
use super::names::{AdapterTensor, Factor};
use crate::error::{ModelError, WeightProblems, read_settings};
use crate::files::write_atomically;
use crate::llava::Llava;
use crate::projector::Projector;
use crate::weights::{Stored, WeightIndex, WeightLoader};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Rank, scale and contents of an adapter directory, ready to be loaded or merged.
pub(super) struct PeftAdapter {
    pub config: LoraConfig,
    pub index: WeightIndex,
}

/// The keys of `adapter_config.json` that matter here; PEFT writes many more.
#[derive(Debug, Deserialize)]
struct PeftConfig {
    peft_type: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
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
        // rank-stabilized scaling divides by sqrt(r); told as the alpha that gives the same scale
        let lora_alpha =
            if peft.use_rslora { peft.lora_alpha * (peft.r as f64).sqrt() } else { peft.lora_alpha };
        let index = WeightIndex::open_files(vec![dir.join(WEIGHTS)], |name| {
            AdapterTensor::parse(name).map_or_else(|| name.to_owned(), |tensor| tensor.name())
        })?;
        let mut config = LoraConfig::default().with_rank(peft.r, lora_alpha).with_train_projector(false);
        for name in index.entries().keys() {
            match AdapterTensor::parse(name) {
                Some(AdapterTensor::Saved(weight)) if weight.starts_with("multi_modal_projector.") => {
                    config.train_projector = true;
                }
                Some(AdapterTensor::Lora(module, _)) if module.starts_with("language_model.layers.") => {}
                _ => {
                    return refuse(format!(
                        "{WEIGHTS} has {name}, which is no linear of the language model's layers and not the projector"
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
        Ok(Self { config, index })
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

/// Anything but nothing, null and an empty list or map.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
        _ => true,
    }
}

/// Loads a PEFT LoRA directory onto a freshly loaded model. The adapters (and the projector, where the directory has
/// one) require gradients, so that training can go on. Also gives the settings the adapter was made with.
///
/// # Errors
/// If the directory is not a LoRA of a kind that is supported, or was made for another model: all the weights that do
/// not fit are listed.
///
/// # Panics
/// If the model has adapters already.
pub fn load_adapter(model: Llava, dir: &Path) -> Result<(Llava, LoraConfig), ModelError> {
    let adapter = PeftAdapter::open(dir)?;
    let (modules, mut config) = (adapter.modules(), adapter.config);
    if !modules.iter().any(|module| module.contains(".mlp.")) {
        config.target_modules = TargetModules::Attention;
    }
    let shapes = linear_shapes(&model);
    let mut weights = WeightLoader::new(dir, adapter.index, FloatDType::F32, &model.device());
    let mut factors = BTreeMap::new();
    let mut foreign = WeightProblems::default();
    for module in modules {
        let name = |factor| AdapterTensor::Lora(module.clone(), factor).name();
        let Some([d_in, d_out]) = shapes.get(&module) else {
            foreign.extra.push(name(Factor::A));
            continue;
        };
        let a = weights.tensor(&name(Factor::A), [config.r, *d_in]).transpose();
        let b = weights.tensor(&name(Factor::B), [*d_out, config.r]).transpose();
        factors.insert(module, (a, b));
    }
    if !foreign.extra.is_empty() {
        return Err(ModelError::Weights { dir: dir.into(), problems: foreign.into() });
    }
    let projector = config.train_projector.then(|| {
        let name = AdapterTensor::Saved("multi_modal_projector".into()).name();
        Projector::load(&mut weights, &name, model.config())
    });
    weights.finish()?;
    let mut model = model.attach(&config, Factors::Given(factors));
    if let Some(projector) = projector {
        model.trained_projector = Some(projector.trainable());
    }
    Ok((model, config))
}

/// Writes the model's adapters (and trained projector) as a PEFT directory, in f32.
///
/// `base` is recorded as the model the adapter belongs to. The same weights always give the same bytes.
///
/// # Errors
/// If the directory cannot be written.
pub fn save_adapter(model: &Llava, config: &LoraConfig, base: &str, dir: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Io { path: dir.into(), source })?;
    let mut collect = Collect::default();
    model.visit(&mut collect);
    let bytes = safetensors::serialize(collect.found, Some([("format".to_owned(), "pt".to_owned())].into()))
        .map_err(|error| ModelError::Safetensors { path: dir.join(WEIGHTS), reason: error.to_string() })?;
    write_atomically(&dir.join(WEIGHTS), &bytes)?;
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
        "lora_dropout": 0.0,
        "modules_to_save": config.train_projector.then_some(["multi_modal_projector"]),
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": format!(".*language_model.*\\.({})", config.target_modules.names().join("|")),
        "task_type": null,
        "use_dora": false,
        "use_rslora": false,
    })
}

/// `[d_in, d_out]` of every linear of the language model's layers.
fn linear_shapes(model: &Llava) -> BTreeMap<String, [usize; 2]> {
    #[derive(Default)]
    struct Shapes {
        path: Vec<String>,
        found: BTreeMap<String, [usize; 2]>,
    }
    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.path.join(".");
            let shape = param.lazy_shape();
            if let (Some(module), [d_in, d_out]) = (path.strip_suffix(".weight"), shape.as_slice()) {
                self.found.insert(module.to_owned(), [*d_in, *d_out]);
            }
        }
    }
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    shapes.found
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
