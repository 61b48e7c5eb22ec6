//! The reference of a training, from `[reference]` of the settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bpo_dpo::{Adapters, Collate, LogpCache, PairBatches, Policy, Reference, UsablePairs, usable_pairs};
use bpo_model::Processor;
use bpo_model::Vlm;
use bpo_pairs::{Fingerprint, PreferencePair, Skipped, Turn};

use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::fingerprint_checkpoint;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::stages::StageOutcome;

/// Between two writes of a cache that is being filled. What lies between is lost if the process is killed.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What [`VlmCollator`](bpo_model::VlmCollator) prepares.
type Batch = <Vlm as Policy>::Batch;

/// The reference of the settings. A cache is filled here, with what the pairs of either kind need and it does not have.
///
/// # Errors
/// If another model cannot be loaded or has another chat template or tokenizer, or a cache is stale, cannot be read or written.
pub fn open<C: Collate<Batch = Batch>>(
    config: &RunConfig,
    checkpoint: &Checkpoint,
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
                pairs,
                eval_pairs,
            );
            let (of, all) = (other.as_ref().unwrap_or(checkpoint), [pairs, eval_pairs].concat());
            let (cache, _) = fill(config, file, of, collate, &all, progress)?;
            Ok(Reference::Cached(cache))
        }
        (None, Some(other)) => Ok(Reference::Frozen(other.model)),
        // there is nothing to switch off, or what it goes on from belongs to the reference; what is not trained is shared
        (None, None) if config.full_finetune.is_some() || config.model.adapter.is_some() => {
            Ok(Reference::Frozen(checkpoint.model.clone()))
        }
        (None, None) => Ok(Reference::AdaptersOff),
    }
}

/// Fills a file with what pairs need and it does not have, `train.batch_size` pairs at a time. What a process that was killed had
/// written is there for the next one. Also gives the pairs that could not be prepared.
///
/// # Errors
/// [`BpoError::Conflict`] if the loss compares nothing with a reference; if the file is stale, or cannot be read or written; if the
/// device fails.
pub fn fill<C: Collate<Batch = Batch>>(
    config: &RunConfig,
    file: &Path,
    checkpoint: &Checkpoint,
    collate: &mut C,
    pairs: &[PreferencePair],
    progress: &mut dyn Progress,
) -> Result<(LogpCache, Vec<Skipped>), BpoError> {
    let objective = config.train.objective();
    if !objective.properties().reference {
        let (with, reason) = (format!("the loss {}", objective.loss), "nothing is compared with a reference");
        return Err(BpoError::Conflict { key: "reference.cache".into(), with, reason });
    }
    let about = about(config, &checkpoint.processor)?;
    let mut cache = match file.exists() {
        true => LogpCache::load(file, about)?,
        false => LogpCache::new(about),
    };
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
    let skipped = cache.fill(&checkpoint.model, Adapters::On, collate, batches, each)?;
    cache.save(file)?;
    progress
        .finished(Stage::Reference, &StageOutcome::new(pairs.len() - skipped.len(), skipped.clone()).summary);
    Ok((cache, skipped))
}

/// All that log-probabilities of the reference depend on beside the pairs and their images.
///
/// # Errors
/// If a directory cannot be read, or the chat template renders nothing.
pub fn about(config: &RunConfig, processor: &Processor) -> Result<BTreeMap<String, String>, BpoError> {
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

/// The reference gets the token ids of the model, so they must mean the same to it.
fn check_template(model: &Processor, reference: &Processor, path: &Path) -> Result<(), BpoError> {
    let refuse = |what| Err(BpoError::ReferenceTemplate { path: path.to_owned(), what });
    if template(model)? != template(reference)? || system(model)? != system(reference)? {
        return refuse("chat template");
    }
    let ids = |processor: &Processor| {
        let image = processor.image.layout(640, 480)?;
        processor.encode_completion(None, &[], "Is it a cat?", "Yes, two: 1, 2.", &[&image])
    };
    // with one vocabulary, a text that is split otherwise tells of other merges or another way of preparing it
    let same = model.text.has_vocabulary_of(&reference.text) && ids(model)? == ids(reference)?;
    match same {
        true => Ok(()),
        false => refuse("tokenizer"),
    }
}

/// What the chat template makes of a system text, if it takes one.
fn system(processor: &Processor) -> Result<Option<String>, BpoError> {
    let chat = &processor.chat;
    let rendered = chat.takes_system().then(|| chat.render(Some("a system text"), &[], "a question", 1));
    Ok(rendered.transpose()?)
}

/// Fingerprint of what the chat template makes of a conversation.
fn template(processor: &Processor) -> Result<Fingerprint, BpoError> {
    let history = [Turn::new("first question", "first answer")];
    let rendered =
        processor.chat.render_with_answer(None, &history, "second question", "second answer", 1)?;
    Ok(Fingerprint::of(format!("{}\n{}", rendered.prompt, rendered.answer)))
}
