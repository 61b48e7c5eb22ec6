//! Loading of an adapter directory.

use std::path::Path;

use burn::tensor::{FloatDType, Tensor};

use super::Linear;
use super::attach::{Factored, Factors, fresh};
use super::config::LoraConfig;
use super::linears::linear_shapes;
use super::names::{AdapterTensor, Factor};
use super::patterns::Ranks;
use super::peft::{Fit, PeftAdapter, WEIGHTS};
use super::targets::TargetModules;
use super::whole::saved;
use crate::checkpoint::WeightLoader;
use crate::error::ModelError;
use crate::vlm::{HEAD, PROJECTOR, Vlm};

/// Loads a PEFT LoRA directory onto a model without adapters. Returns the model and the settings of
/// the adapter. Adapters, and modules that the directory has in full, require gradients, so
/// training can continue.
///
/// As in PEFT, `adapter_config.json` decides which modules have adapters. Modules without weights
/// in the file get new adapters, which add zero, and adapters of other modules are ignored. A
/// warning names both.
///
/// # Errors
/// [`ModelError::HasAdapters`] if the model has adapters already; [`ModelError::Adapter`] if the
/// directory is not a LoRA of a supported kind; [`ModelError::Weights`] if it belongs to another
/// model, with all weights that do not fit.
pub fn load_adapter(model: Vlm, dir: &Path) -> Result<(Vlm, LoraConfig), ModelError> {
    model.check_plain()?;
    let spec = model.config().spec();
    let adapter = PeftAdapter::open(dir, Some(spec))?;
    model.check_gradient_checkpointing(adapter.config.lora_dropout)?;
    let shapes = linear_shapes(&model);
    let linears = || shapes.keys().map(String::as_str);
    let Fit { present, missing } =
        adapter.fit(dir, linears(), |module| model.config().family().runs(module))?;
    let all = [present.as_slice(), &missing].concat();
    let ranks = adapter.ranks()?;
    ranks.warn_of_unused(&all)?;
    let config = settings(&adapter, &ranks, &all, linears())?;
    let ranks = Ranks::new(&config, spec, false)?;

    let mut weights = WeightLoader::new(dir, adapter.index, FloatDType::F32, &model.device());
    let mut factors = Factors::new();
    for module in present {
        let [d_in, d_out] = shapes[&module];
        let name = |factor| AdapterTensor::Lora(module.clone(), factor).name(spec);
        let (r, _) = ranks.of(&module)?;
        let a = weights.tensor(&name(Factor::A), [r, d_in]).transpose();
        let b = weights.tensor(&name(Factor::B), [d_out, r]).transpose();
        let scale = ranks.scale(&module)?;
        factors.insert(module, Factored { a, b, scale });
    }
    for module in missing {
        let factored = fresh(&module, shapes[&module], &ranks, 0, &model.device())?;
        factors.insert(module, factored);
    }
    let whole: Vec<_> = config.whole(spec).collect();
    let projector = model
        .multi_modal_projector
        .clone()
        .filter(|_| whole.iter().any(|module| *module != HEAD))
        .map(|projector| saved(projector, PROJECTOR, &whole, &mut weights, spec));
    let head = whole.contains(&HEAD).then(|| {
        let ([d_in, d_out], name) = (shapes[HEAD], AdapterTensor::Saved(HEAD.to_owned()).name(spec));
        Linear::load(&mut weights, &name, d_in, d_out, false).trainable()
    });
    let base = AdapterTensor::Base(HEAD.to_owned()).name(spec);
    let [d_in, d_out] = shapes[HEAD];
    let base = (factors.contains_key(HEAD) && weights.has(&base))
        .then(|| weights.tensor(&base, [d_out, d_in]).transpose());
    // a warning has named the ignored weights
    weights.finish(|_| true)?;

    let model = match base {
        Some(base) => model.with_head(base, dir)?,
        None => model,
    };
    let model = model.attach_copies(&config, factors, projector, head);
    Ok((model, config))
}

/// Reads the settings of an adapter, without its model. `target_modules` are as the file states
/// them.
///
/// # Errors
/// If the directory is not a LoRA of a supported kind.
pub fn adapter_settings(dir: &Path) -> Result<LoraConfig, ModelError> {
    let PeftAdapter { config, targets, spec, .. } = PeftAdapter::open(dir, None)?;
    Ok(match targets {
        Some(expression) => config.with_target_modules(TargetModules::of_expression(expression, spec)),
        None => config,
    })
}

/// The settings of an adapter with the names of transformers 5, and with targets that select
/// exactly its modules.
fn settings<'a>(
    adapter: &PeftAdapter,
    ranks: &Ranks<'_>,
    modules: &[String],
    linears: impl Iterator<Item = &'a str> + Clone,
) -> Result<LoraConfig, ModelError> {
    let (mut config, spec) = (adapter.config.clone(), adapter.spec);
    let adaptable = linears.filter(|linear| !adapter.config.is_whole(linear, spec));
    config.target_modules = TargetModules::describing(modules, adapter.targets.clone(), adaptable, spec);
    if adapter.legacy && !(config.rank_pattern.is_empty() && config.alpha_pattern.is_empty()) {
        let mut rank_pattern = Vec::new();
        let mut alpha_pattern = Vec::new();
        for module in modules {
            let ((r, alpha), key) = (ranks.of(module)?, spec.current(module).replace('.', r"\."));
            rank_pattern.extend((r != config.r).then(|| (key.clone(), r)));
            alpha_pattern.extend((alpha != config.lora_alpha).then_some((key, alpha)));
        }
        config.rank_pattern = rank_pattern.into_iter().collect();
        config.alpha_pattern = alpha_pattern.into_iter().collect();
    }
    Ok(config)
}

impl Vlm {
    /// Replaces the head by the weight that its adapter was trained on, `[hidden, vocab]`.
    ///
    /// # Errors
    /// [`ModelError::Adapter`] if the head is the embedding and has other values: PEFT would change
    /// the embedding as well.
    fn with_head(mut self, weight: Tensor<2>, dir: &Path) -> Result<Self, ModelError> {
        if self.lm_head.is_some() {
            self.lm_head = Some(Linear::frozen(weight.cast(self.dtype())));
            return Ok(self);
        }
        let embedding = self.language_model.embed_tokens.val().transpose();
        let same = weight.cast(embedding.dtype()).equal(embedding).all().into_scalar::<bool>();
        if same {
            return Ok(self);
        }
        let reason = "it has another weight of the head (lm_head.base_layer.weight) than the model, whose head is the embedding";
        Err(ModelError::Adapter { path: dir.join(WEIGHTS), reason: reason.to_owned() })
    }
}
