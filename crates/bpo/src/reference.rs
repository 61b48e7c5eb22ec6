//! The reference model of a training, as `[reference]` sets it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bpo_dpo::{Adapters, Collate, LogpCache, PairBatches, Policy, Reference, UsablePairs, usable_pairs};
use bpo_model::{Processor, Vlm};
use bpo_pairs::{Fingerprint, PreferencePair, Skipped, Turn};
use burn::module::Module;
use burn::tensor::Device;

use crate::checkpoint::{Checkpoint, ModelUse, check_adapter};
use crate::config::{NO_DISTRIBUTIONS, RunConfig};
use crate::error::BpoError;
use crate::fingerprint::fingerprint_checkpoint;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::stages::StageOutcome;

/// Minimum time between two writes of a cache that is being filled. A killed process loses what it
/// computed after the last write.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The batch type of [`VlmCollator`](bpo_model::VlmCollator).
type Batch = <Vlm as Policy>::Batch;

/// Opens the reference of the settings. If they name a cache, the log-probabilities that `pairs`
/// and `eval_pairs` need and the cache does not have are computed first.
///
/// # Errors
/// Returns an error if another model cannot be loaded or has another chat template or tokenizer, or
/// if the cache is stale or cannot be read or written.
pub(crate) fn open<C: Collate<Batch = Batch>>(
    config: &RunConfig,
    checkpoint: &Checkpoint,
    further: &[Device],
    collate: &mut C,
    pairs: &[PreferencePair],
    eval_pairs: &[PreferencePair],
    progress: &mut dyn Progress,
) -> Result<Reference<Vlm>, BpoError> {
    let section = &config.reference;
    let other = match (&section.path, &section.adapter) {
        (None, None) => None,
        (path, adapter) => {
            let path = path.as_deref().map_or_else(|| config.model_path(), Ok)?;
            let (dtype, device) = (config.model.dtype, checkpoint.model.device());
            let other = Checkpoint::load_with_adapter(path, adapter.as_deref(), dtype, &device)?;
            check_template(&checkpoint.processor, &other.processor, path)?;
            Some(other)
        }
    };
    match (&section.cache, other) {
        (Some(file), other) => {
            let UsablePairs { pairs, eval_pairs, .. } = usable_pairs(
                &config.train,
                config.train.objective().properties(),
                collate,
                pairs.iter().collect::<Vec<_>>(),
                eval_pairs.iter().collect(),
            );
            let (of, all) = (other.as_ref().unwrap_or(checkpoint), [pairs, eval_pairs].concat());
            let (cache, _) = fill_cache(config, file, of, further, collate, &all, progress)?;
            Ok(Reference::Cached(cache))
        }
        (None, Some(other)) => Ok(Reference::Frozen(other.model)),
        // full fine-tuning has no adapters to switch off, and an adapter that training continues
        // belongs to the reference; parameters that are not trained are shared
        (None, None) if config.full_finetune.is_some() || config.model.adapter.is_some() => {
            Ok(Reference::Start)
        }
        (None, None) => Ok(Reference::AdaptersOff),
    }
}

/// Computes the log-probabilities that `pairs` need and `file` does not have, `train.batch_size`
/// pairs at a time. Also returns the pairs that cannot be prepared.
///
/// The work is spread over the device of the checkpoint and `further` ones. The file is written at
/// intervals, so that a killed process can be continued.
///
/// # Errors
/// Returns [`BpoError::Conflict`] if the loss uses no reference or compares its distributions, or an
/// error if the file is stale
/// or cannot be read or written, or if the device fails.
pub fn fill_cache<C: Collate<Batch = Batch>>(
    config: &RunConfig,
    file: &Path,
    checkpoint: &Checkpoint,
    further: &[Device],
    collate: &mut C,
    pairs: &[impl Borrow<PreferencePair>],
    progress: &mut dyn Progress,
) -> Result<(LogpCache, Vec<Skipped>), BpoError> {
    let objective = config.train.objective();
    if !objective.properties().reference {
        let (with, reason) = (format!("the loss {}", objective.loss), "no reference is used");
        return Err(BpoError::Conflict { key: "reference.cache".into(), with, reason });
    }
    if objective.properties().token_divergences {
        let (with, reason) = (format!("the loss {}", objective.loss), NO_DISTRIBUTIONS);
        return Err(BpoError::Conflict { key: "reference.cache".into(), with, reason });
    }
    let about = about(config, &checkpoint.processor)?;
    let mut cache = if file.exists() { LogpCache::load(file, about)? } else { LogpCache::new(about) };
    progress.started(Stage::Reference, 0, pairs.len());
    let mut written = (Instant::now(), cache.len());
    let each = |cache: &LogpCache, done| {
        progress.advanced(Stage::Reference, done);
        if cache.len() > written.1 && written.0.elapsed() >= SAVE_EVERY {
            cache.save(file)?;
            written = (Instant::now(), cache.len());
        }
        Ok(())
    };
    let batches = PairBatches { pairs, loss: objective.properties(), size: config.train.batch_size };
    let models = on_devices(&checkpoint.model, further);
    let skipped = cache.fill(&models, Adapters::On, collate, batches, each)?;
    release(models, further);
    cache.save(file)?;
    progress
        .finished(Stage::Reference, &StageOutcome::new(pairs.len() - skipped.len(), skipped.clone()).summary);
    Ok((cache, skipped))
}

/// Drops the copies of a model on further devices. A GPU backend keeps memory for each thread that
/// computed, which training, on other threads, would not use, so it is given back.
fn release(models: Vec<Vlm>, further: &[Device]) {
    let first = models.first().map(Vlm::device);
    drop(models);
    if !further.is_empty() {
        first.iter().chain(further).for_each(Device::memory_cleanup);
    }
}

/// Returns a model with a copy on each of further devices.
pub fn on_devices(model: &Vlm, further: &[Device]) -> Vec<Vlm> {
    let copies = further.iter().map(|device| model.clone().fork(device));
    std::iter::once(model.clone()).chain(copies).collect()
}

/// Checks the reference of the settings without its weights: that another model has the chat
/// template and tokenizer of `model`, that an adapter was trained on the weights of its model, and
/// that an existing cache is not stale.
///
/// # Errors
/// Returns all problems.
pub(crate) fn check(config: &RunConfig, model: &Processor) -> Result<(), BpoError> {
    let section = &config.reference;
    let path = section.path.as_deref().map_or_else(|| config.model_path(), Ok)?;
    let other = match &section.path {
        None => None,
        Some(path) => {
            let other = ModelUse::Images.processor(path)?;
            check_template(model, &other, path)?;
            Some(other)
        }
    };
    let mut problems = Vec::new();
    problems.extend(section.adapter.as_ref().and_then(|adapter| check_adapter(adapter, path).err()));
    if let Some(cache) = section.cache.as_ref().filter(|cache| cache.exists()) {
        let about = about(config, other.as_ref().unwrap_or(model));
        problems.extend(about.and_then(|about| Ok(LogpCache::check_about(cache, &about)?)).err());
    }
    BpoError::all(problems)
}

/// Returns everything that the log-probabilities of the reference depend on, except the pairs and
/// their images.
///
/// # Errors
/// Returns an error if a directory cannot be read or the chat template cannot be rendered.
fn about(config: &RunConfig, processor: &Processor) -> Result<BTreeMap<String, String>, BpoError> {
    let section = &config.reference;
    let model = section.path.as_deref().map_or_else(|| config.model_path(), Ok)?;
    let mut about = BTreeMap::from([
        ("model".to_owned(), fingerprint_checkpoint(model)?.to_string()),
        ("dtype".to_owned(), config.model.dtype.to_string()),
        ("template".to_owned(), template(processor)?.to_string()),
    ]);
    if let Some(adapter) = config.reference_adapter() {
        about.insert("adapter".to_owned(), fingerprint_checkpoint(adapter)?.to_string());
    }
    if config.train.objective().properties().weakened {
        about.insert("weakened".to_owned(), config.conditional.distortion.to_string());
    }
    Ok(about)
}

/// Checks that the reference has the chat template and tokenizer of the model, because it gets the
/// token ids of the model.
fn check_template(model: &Processor, reference: &Processor, path: &Path) -> Result<(), BpoError> {
    let refuse = |what| Err(BpoError::ReferenceTemplate { path: path.to_owned(), what });
    if template(model)? != template(reference)? || system(model)? != system(reference)? {
        return refuse("chat template");
    }
    let ids = |processor: &Processor| {
        let image = processor.image.layout(640, 480)?;
        processor.encode_completion(None, &[], "Is it a cat?", "Yes, two: 1, 2.", &[&image])
    };
    // with the same vocabulary, other token ids mean other merges or another normalizer
    let same = model.text.has_vocabulary_of(&reference.text) && ids(model)? == ids(reference)?;
    if same { Ok(()) } else { refuse("tokenizer") }
}

/// Renders a system prompt with the chat template. Returns `None` if the template takes none.
fn system(processor: &Processor) -> Result<Option<String>, BpoError> {
    let chat = &processor.chat;
    let rendered = chat.takes_system().then(|| chat.render(Some("a system text"), &[], "a question", 1));
    Ok(rendered.transpose()?)
}

/// Returns the fingerprint of a conversation rendered with the chat template.
fn template(processor: &Processor) -> Result<Fingerprint, BpoError> {
    let history = [Turn::new("first question", "first answer")];
    let rendered =
        processor.chat.render_with_answer(None, &history, "second question", "second answer", 1)?;
    Ok(Fingerprint::of(format!("{}\n{}", rendered.prompt, rendered.answer)))
}
