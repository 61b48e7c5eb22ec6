//! Adapter directories of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use bpo_pairs::UntrustedPath;
use serde::Deserialize;
use serde_json::Value;

use super::config::{LoraConfig, WHOLE_PROJECTOR, can_be_whole, role_of, trainable_whole};
use super::names::{AdapterTensor, Factor, unwrapped};
use super::patterns::{ModulePatterns, Ranks};
use super::save::AdapterBase;
use super::selection::{Names, Selection};
use super::targets::of_suffixes;
use crate::checkpoint::{WeightIndex, families};
use crate::error::{ModelError, WeightProblems, first_of};
use crate::families::FamilySpec;
use crate::json::{read_json, read_without_nulls};
use crate::vlm::{HEAD, ModelPart};

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";

/// The settings and the opened weights of an adapter directory, ready to be loaded or merged.
pub(super) struct PeftAdapter {
    /// The family of its model.
    pub spec: &'static FamilySpec,
    pub config: LoraConfig,
    /// The expression that selects modules in PEFT, if the file has one.
    pub targets: Option<String>,
    pub index: WeightIndex,
    /// Whether the file has names of transformers 4. If so, its settings may have them as well.
    pub legacy: bool,
    selection: Selection,
}

/// The modules of a model that an adapter has, and those that it lacks.
pub(super) struct Fit {
    /// Selected modules whose factors are in the file.
    pub present: Vec<String>,
    /// Selected modules whose factors are not in the file. They get new adapters, which add zero,
    /// as in PEFT.
    pub missing: Vec<String>,
}

/// The keys of `adapter_config.json` that are read. PEFT writes many more.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct PeftConfig {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    revision: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    lora_dropout: f64,
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    bias: Option<String>,
    /// `true`, or the name of a method. Some methods change the base weights as well.
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    alora_invocation_tokens: Value,
    #[serde(default)]
    layer_replication: Value,
    #[serde(default)]
    target_parameters: Value,
    #[serde(default)]
    trainable_token_indices: Value,
    #[serde(default)]
    use_qalora: bool,
}

/// The keys whose entries are tried in the order of the file.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Patterns {
    rank_pattern: Option<ModulePatterns<usize>>,
    alpha_pattern: Option<ModulePatterns<f64>>,
}

impl PeftConfig {
    /// The first key with an unsupported value, with the reason.
    fn unsupported(&self) -> Option<String> {
        if let Some(kind) = self.peft_type.as_deref().filter(|kind| *kind != "LORA") {
            return Some(format!("peft_type is {kind}; only LORA is supported"));
        }
        let foreign = [
            ("use_dora", self.use_dora),
            ("fan_in_fan_out", self.fan_in_fan_out),
            ("lora_bias", self.lora_bias),
            ("use_qalora", self.use_qalora),
            ("alora_invocation_tokens", is_set(&self.alora_invocation_tokens)),
            ("layer_replication", is_set(&self.layer_replication)),
            ("target_parameters", is_set(&self.target_parameters)),
            ("trainable_token_indices", is_set(&self.trainable_token_indices)),
            ("bias", self.bias.as_deref().is_some_and(|bias| bias != "none")),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, set)| *set) {
            return Some(format!("{key} is set, which is not supported"));
        }
        // the other methods (pissa, olora, corda, loftq, ...) start from other base weights than
        // the checkpoint's
        const SAME_BASE: [&str; 3] = ["gaussian", "orthogonal", "eva"];
        let method = self.init_lora_weights.as_str().filter(|method| !SAME_BASE.contains(method))?;
        Some(format!(
            "init_lora_weights is {method}, which changes the base model too; convert it with PEFT's \
             path_initial_model_for_weight_conversion"
        ))
    }
}

impl PeftAdapter {
    /// Opens an adapter of a model of a family. Without `spec`, the names of the tensors decide on
    /// the family.
    pub(super) fn open(dir: &Path, spec: Option<&'static FamilySpec>) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let peft: PeftConfig = read_without_nulls(&path)?;
        let selection: Selection = read_without_nulls(&path)?;
        let patterns: Patterns = read_json(&path)?;
        let refuse = |reason: String| Err(ModelError::Adapter { path: path.clone(), reason });
        if let Some(reason) = peft.unsupported() {
            return refuse(reason);
        }
        if let Some(reason) = selection.conflict() {
            return refuse(reason.to_owned());
        }
        let spec = match spec {
            Some(spec) => spec,
            None => family_of(dir)?,
        };
        let mut config = LoraConfig::default()
            .with_rank(peft.r, peft.lora_alpha)
            .with_rslora(peft.use_rslora)
            .with_dropout(peft.lora_dropout)
            .with_rank_pattern(patterns.rank_pattern.unwrap_or_default())
            .with_alpha_pattern(patterns.alpha_pattern.unwrap_or_default())
            .with_modules_to_save(&[]);
        for module in peft.modules_to_save.unwrap_or_default() {
            if can_be_whole(&module, spec) {
                config.modules_to_save.push(role_of(&module));
            } else {
                return refuse(format!(
                    "modules_to_save has {module:?}; only {} can be trained in full beside adapters",
                    trainable_whole(spec)
                ));
            }
        }
        match config.validate() {
            Err(ModelError::Setting { key, expected, found }) => {
                return refuse(format!("{key} must be {expected}, not {found}"));
            }
            other => other?,
        }
        if !dir.join(WEIGHTS).exists() && dir.join(PICKLE).exists() {
            return Err(pickled(dir));
        }
        let index = WeightIndex::open_files(vec![dir.join(WEIGHTS)], |name| {
            AdapterTensor::parse(name, spec).map_or_else(|| name.to_owned(), |tensor| tensor.name(spec))
        })?;
        check_tensors(&index, dir, &mut config, spec)?;
        let legacy = index.entries().values().any(|entry| is_legacy(&entry.name, spec));
        let targets = selection.target_modules.as_ref().map(|targets| match targets {
            Names::Expression(expression) => expression.clone(),
            Names::Ends(names) => of_suffixes(names),
        });
        Ok(Self { spec, config, targets, index, legacy, selection })
    }

    /// The modules whose factors are in the file.
    fn modules(&self) -> Vec<String> {
        let module = |name: &String| match AdapterTensor::parse(name, self.spec) {
            Some(AdapterTensor::Lora(module, Factor::A)) => Some(module),
            _ => None,
        };
        self.index.entries().keys().filter_map(module).collect()
    }

    /// Decides which linears of a model have adapters: as in PEFT, by the settings, not by the
    /// contents of the file. Warns where the two differ. `runs` returns false for modules that the
    /// model has but never runs.
    ///
    /// # Errors
    /// [`ModelError::Weights`] if the file has factors of modules that are not linears of the
    /// model; [`ModelError::Adapter`] if the settings select nothing of the file.
    pub(super) fn fit<'a>(
        &self,
        dir: &Path,
        linears: impl Iterator<Item = &'a str> + Clone,
        runs: impl Fn(&str) -> bool,
    ) -> Result<Fit, ModelError> {
        let known: Vec<&str> = linears.collect();
        let modules: Vec<_> = self.modules().into_iter().filter(|module| runs(module)).collect();
        let foreign = modules.iter().filter(|module| !known.contains(&module.as_str()));
        let extra: Vec<_> =
            foreign.map(|module| AdapterTensor::Lora(module.clone(), Factor::A).name(self.spec)).collect();
        if !extra.is_empty() {
            let problems = WeightProblems { hints: families(&extra), extra, ..WeightProblems::default() };
            return Err(ModelError::Weights { dir: dir.into(), problems: problems.into() });
        }
        let adaptable = known.iter().copied().filter(|linear| !self.config.is_whole(linear, self.spec));
        let Some(selected) = self.selection.select(adaptable, self.spec, self.legacy)? else {
            return Ok(Fit { present: modules, missing: Vec::new() });
        };
        let (present, missing): (Vec<_>, Vec<_>) =
            selected.into_iter().partition(|module| modules.contains(module));
        let surplus: Vec<_> = modules.into_iter().filter(|module| !present.contains(module)).collect();
        if present.is_empty() && !surplus.is_empty() || present.is_empty() && missing.is_empty() {
            let reason = format!(
                "target_modules and related keys select none of the modules of {WEIGHTS}, which has {}",
                if surplus.is_empty() { "none".to_owned() } else { first_of(&self.names(&surplus)) }
            );
            return Err(ModelError::Adapter { path: dir.join(CONFIG), reason });
        }
        let count =
            |modules: &[String]| format!("{} modules ({})", modules.len(), first_of(&self.names(modules)));
        if !missing.is_empty() {
            tracing::warn!(
                "{}: {WEIGHTS} lacks the adapters of {} that {CONFIG} selects; as with PEFT, these get new adapters, which add zero",
                UntrustedPath(dir),
                count(&missing)
            );
        }
        if !surplus.is_empty() {
            tracing::warn!(
                "{}: {WEIGHTS} has adapters of {} that {CONFIG} does not select; as with PEFT, these are ignored",
                UntrustedPath(dir),
                count(&surplus)
            );
        }
        Ok(Fit { present, missing })
    }

    /// Ranks and scales of the modules.
    pub(super) fn ranks(&self) -> Result<Ranks<'_>, ModelError> {
        Ranks::new(&self.config, self.spec, self.legacy)
    }

    /// Names in transformers 5.
    fn names(&self, modules: &[String]) -> Vec<String> {
        modules.iter().map(|module| self.spec.current(module)).collect()
    }
}

/// Checks that all tensors belong to linears that can be adapted or trained in full, and that each
/// factor has its counterpart. A module that is saved in full counts as one of `modules_to_save`
/// whatever the settings say, as in PEFT.
fn check_tensors(
    index: &WeightIndex,
    dir: &Path,
    config: &mut LoraConfig,
    spec: &FamilySpec,
) -> Result<(), ModelError> {
    let refuse = |reason: String| Err(ModelError::Adapter { path: dir.join(WEIGHTS), reason });
    if index.entries().is_empty() {
        return refuse("it has no tensors".to_owned());
    }
    let mut missing = Vec::new();
    for (name, entry) in index.entries() {
        let written = &entry.name;
        match AdapterTensor::parse(name, spec) {
            Some(AdapterTensor::Lora(module, factor)) if is_adaptable(&module, spec) => {
                let other = AdapterTensor::Lora(module, factor.other()).name(spec);
                missing.extend((!index.entries().contains_key(&other)).then_some(other));
            }
            Some(AdapterTensor::Base(module)) if module == HEAD => {}
            Some(AdapterTensor::Saved(weight)) if let Some(linear) = whole_linear(&weight, spec) => {
                if !config.is_whole(linear, spec) {
                    config.modules_to_save.push(linear.to_owned());
                }
            }
            Some(AdapterTensor::Saved(weight) | AdapterTensor::Base(weight))
                if weight.contains("embed_tokens") =>
            {
                return refuse(format!(
                    "it has {written}, a saved embedding, which is not supported: save the adapter with \
                     save_embedding_layers=False if the embedding was not trained, else merge it with PEFT"
                ));
            }
            None => {
                return refuse(format!(
                    "it has the key {written}, which is not of the form that PEFT's save_pretrained writes, as \
                     base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
                ));
            }
            _ => {
                return refuse(format!(
                    "it has {written}, which belongs to no linear of the language model's layers, the vision tower's, \
                     the projector or the head"
                ));
            }
        }
    }
    let linears = spec.projector;
    if linears.iter().all(|linear| config.modules_to_save.iter().any(|name| name == linear)) {
        config.modules_to_save.retain(|name| !linears.contains(&name.as_str()));
        config.modules_to_save.insert(0, WHOLE_PROJECTOR.to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    let problems = WeightProblems { missing, ..WeightProblems::default() };
    Err(ModelError::Weights { dir: dir.into(), problems: problems.into() })
}

/// The family of an adapter's model, by the names of the adapter's tensors. The first family if
/// there is no file; the caller reports that.
///
/// # Errors
/// Those of [`WeightIndex::open_files`].
fn family_of(dir: &Path) -> Result<&'static FamilySpec, ModelError> {
    let path = dir.join(WEIGHTS);
    if !path.exists() {
        return Ok(FamilySpec::of_names(std::iter::empty()));
    }
    let index = WeightIndex::open_files(vec![path], str::to_owned)?;
    Ok(FamilySpec::of_names(index.entries().keys().map(|name| unwrapped(name))))
}

fn is_adaptable(module: &str, spec: &FamilySpec) -> bool {
    module == HEAD
        || ModelPart::of_path(module) == Some(ModelPart::Projector)
        || spec
            .layers
            .iter()
            .any(|layers| module.strip_prefix(layers).is_some_and(|rest| rest.starts_with('.')))
}

/// The linear of a saved weight, if it can be trained in full.
fn whole_linear(weight: &str, spec: &FamilySpec) -> Option<&'static str> {
    let (linear, _) = weight.rsplit_once('.')?;
    spec.trainable_whole().find(|known| *known == linear)
}

/// Whether a name in the file is one of transformers 4.
fn is_legacy(written: &str, spec: &FamilySpec) -> bool {
    let name = unwrapped(written);
    spec.current(&spec.canonical(name)) != name
}

fn pickled(dir: &Path) -> ModelError {
    let path = dir.join(PICKLE);
    let convert = format!(
        "  import torch; from safetensors.torch import save_file\n  save_file({{k: v.contiguous() for k, v in \
         torch.load({path:?}, weights_only=True).items()}}, {:?})",
        dir.join(WEIGHTS)
    );
    ModelError::Pickle { path, convert }
}

/// The base model that `adapter_config.json` records, if any.
///
/// # Errors
/// If `adapter_config.json` cannot be read.
pub fn base_of_adapter(dir: &Path) -> Result<Option<AdapterBase>, ModelError> {
    let config: PeftConfig = read_without_nulls(&dir.join(CONFIG))?;
    let revision = config.revision;
    Ok(config.base_model_name_or_path.map(|name| AdapterBase { name, revision }))
}

/// Whether a value is anything but null, an empty list or an empty object.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
        _ => true,
    }
}
