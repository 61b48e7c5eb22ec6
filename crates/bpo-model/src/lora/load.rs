//! An adapter from its directory onto a model.

use std::path::Path;

use burn::tensor::FloatDType;

use super::attach::Factors;
use super::config::LoraConfig;
use super::linears::linear_shapes;
use super::names::{AdapterTensor, Factor};
use super::peft::PeftAdapter;
use super::targets::TargetModules;
use crate::error::{ModelError, WeightProblems};
use crate::llava::Llava;
use crate::projector::Projector;
use crate::weights::WeightLoader;

/// Loads a PEFT LoRA directory onto a freshly loaded model. The adapters (and the projector, where the directory has
/// one) require gradients, so that training can go on. Also gives the settings the adapter was made with.
///
/// # Errors
/// [`ModelError::HasAdapters`] if the model has adapters: they do not nest. If the directory is not a LoRA of a kind that is
/// supported, or was made for another model: all the weights that do not fit are listed.
pub fn load_adapter(model: Llava, dir: &Path) -> Result<(Llava, LoraConfig), ModelError> {
    model.check_plain()?;
    let adapter = PeftAdapter::open(dir)?;
    model.check_recompute(adapter.config.lora_dropout)?;
    let modules: Vec<_> =
        adapter.modules().into_iter().filter(|module| model.config().runs(module)).collect();
    let mut config = adapter.config;
    let shapes = linear_shapes(&model);
    let adaptable = || shapes.keys().map(String::as_str).filter(|name| !config.is_whole(name));
    config.target_modules = TargetModules::describing(&modules, adapter.targets, adaptable());
    let mut weights = WeightLoader::new(dir, adapter.index, FloatDType::F32, &model.device());
    let mut factors = Factors::new();
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
    let mut model = model.attach(&config, factors);
    if let Some(projector) = projector {
        model.trained_projector = Some(projector.trainable());
    }
    Ok((model, config))
}

/// The settings that an adapter was made with, without its model. `target_modules` are as the file states them.
///
/// # Errors
/// If the directory is not a LoRA of a kind that is supported.
pub fn adapter_settings(dir: &Path) -> Result<LoraConfig, ModelError> {
    let PeftAdapter { config, targets, .. } = PeftAdapter::open(dir)?;
    Ok(match targets {
        Some(expression) => config.with_target_modules(TargetModules::of_expression(expression)),
        None => config,
    })
}
