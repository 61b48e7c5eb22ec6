//! A run with LLaVA-1.5.

use std::fmt;
use std::path::Path;

use bpo_dpo::Trainer;
use bpo_inject::ErrorInjector;
use bpo_model::VlmCollator;
use bpo_model::VlmResponder;
use bpo_model::save_adapter;
use bpo_model::{LoraConfig, ModelError, Vlm};
use bpo_pairs::files::remove_owned_dir;
use bpo_pairs::format::jsonl::read_pairs;
use bpo_pairs::{PairSet, PreferencePair, SftSample, Skipped, stage_seed};
use burn::module::Module;
use burn::tensor::Device;

use crate::checkpoint::{Checkpoint, record_base};
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::images::ImageRoot;
use crate::injector::{check_server, open_injector};
use crate::progress::Progress;
use crate::reference;
use crate::run::{PipelineBackend, RunStatus};
use crate::run_dir::RunDir;
use crate::samples::sampler;
use crate::stage::Stage;
use crate::stages::{StageOutcome, Trained, train};

/// Makes what puts errors into the answers of samples.
type MakeInjector = dyn Fn(&[SftSample]) -> Box<dyn ErrorInjector>;

/// LLaVA-1.5 as the model of a run, loaded once and only when it is needed.
pub struct LocalBackend {
    config: RunConfig,
    device: Device,
    api_key: Option<String>,
    checkpoint: Option<Checkpoint>,
    injector: Option<Box<MakeInjector>>,
}

impl fmt::Debug for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the key is nobody's business
        f.debug_struct("LocalBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

impl LocalBackend {
    /// The checkpoint of the settings on a device; `api_key` is for the server of the settings, if there is one.
    pub fn new(config: RunConfig, device: Device, api_key: Option<String>) -> Self {
        Self { config, device, api_key, checkpoint: None, injector: None }
    }

    /// Has errors injected by an injector of one's own instead of that of the settings. The run directory does not know of
    /// it: with another one, begin another run.
    #[must_use]
    pub fn with_injector(
        mut self,
        injector: impl Fn(&[SftSample]) -> Box<dyn ErrorInjector> + 'static,
    ) -> Self {
        self.injector = Some(Box::new(injector));
        self
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, BpoError> {
        if let Some(checkpoint) = &self.checkpoint {
            return Ok(checkpoint.clone());
        }
        let model = &self.config.model;
        let adapter = model.adapter.as_deref();
        let base = self.config.model_path()?;
        let checkpoint = Checkpoint::load_with_adapter(base, adapter, model.dtype, &self.device)?;
        // a clone shares the weights
        Ok(self.checkpoint.insert(checkpoint).clone())
    }
}

impl PipelineBackend for LocalBackend {
    type Model = VlmResponder;
    type Injector = Box<dyn ErrorInjector>;

    fn check(&mut self, config: &RunConfig, left: &[Stage]) -> Result<(), BpoError> {
        if left.contains(&Stage::Inject) && self.injector.is_none() {
            check_server(config, self.api_key.clone())?;
        }
        if left.contains(&Stage::Train) {
            // the adapters find their linears, and the learning-rate groups their parameters
            let policy = policy(config, self.checkpoint()?.model)?.train();
            config.train_settings().check_groups(&policy)?;
        }
        Ok(())
    }

    fn model(&mut self) -> Result<VlmResponder, BpoError> {
        let Checkpoint { model, processor, adapter } = self.checkpoint()?;
        if adapter.is_none() {
            return Ok(VlmResponder::new(model, processor));
        }
        // answers are faster with the adapter folded in; training, which needs it apart, loads it again
        self.checkpoint = None;
        Ok(VlmResponder::new(model.merged(), processor))
    }

    fn injector(&mut self, samples: &[SftSample]) -> Result<Self::Injector, BpoError> {
        match &self.injector {
            Some(make) => Ok(make(samples)),
            None => open_injector(&self.config, self.api_key.clone(), samples),
        }
    }

    fn train(
        &mut self,
        pairs: &[PreferencePair],
        images: &ImageRoot,
        dir: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<(RunStatus, StageOutcome), BpoError> {
        let checkpoint = self.checkpoint()?;
        // training holds its own copy of what it changes
        self.checkpoint = None;
        let lora = checkpoint.adapter.clone();
        let (trainer, unread) = trainer(&self.config, checkpoint, pairs, images, Some(dir), progress)?;
        let Trained { policy, summary, mut outcome } = train(trainer, pairs, progress)?;
        outcome.add(unread);
        if !summary.is_finished() {
            return Ok((RunStatus::Stopped, outcome));
        }
        // an adapter keeps its own settings, but for dropout
        let dropout = self.config.lora.lora_dropout;
        let lora = lora.map_or_else(|| self.config.lora.clone(), |lora| lora.with_dropout(dropout));
        let step = summary.steps;
        save(&self.config, &policy, &lora, &dir.result(&self.config)).map_err(|error| match error {
            BpoError::Model(source @ ModelError::NotFiniteWeights { .. }) => {
                BpoError::ResultNotFinite { step, source }
            }
            error => error,
        })?;
        // what was trained is there; a picture of it is no reason to fail
        #[cfg(feature = "curves")]
        if let Err(error) = crate::curves::draw(&dir.metrics(), &dir.evaluations(), &dir.curves()) {
            tracing::warn!(error = crate::error::chain(&error), "no curves were drawn");
        }
        Ok((RunStatus::Finished, outcome))
    }
}

/// A trainer of a LLaVA model on images below a root.
pub(crate) type VlmTrainer = Trainer<Vlm, VlmCollator<ImageRoot>>;

/// A trainer with the settings of a run, and the evaluation pairs that could not be read. Without a run directory it writes
/// nothing.
///
/// # Errors
/// If the evaluation pairs or the reference cannot be read, or the settings do not fit the model.
pub(crate) fn trainer(
    config: &RunConfig,
    checkpoint: Checkpoint,
    pairs: &[PreferencePair],
    images: &ImageRoot,
    dir: Option<&RunDir>,
    progress: &mut dyn Progress,
) -> Result<(VlmTrainer, Vec<Skipped>), BpoError> {
    let mut collate = collator(config, &checkpoint, images);
    let PairSet { pairs: eval_pairs, skipped: unread } = eval_pairs(config)?;
    let reference = reference::open(config, &checkpoint, &mut collate, pairs, &eval_pairs, progress)?;
    let Checkpoint { model, processor, .. } = checkpoint;
    let policy = policy(config, model)?;
    let mut trainer = Trainer::new(config.train_settings(), policy, collate, dir.map(RunDir::root))?
        .with_reference(reference);
    if let Some(dir) = dir {
        let asked = if eval_pairs.is_empty() { pairs } else { &eval_pairs };
        trainer = trainer.with_sampler(sampler(processor, images, asked, dir.samples()));
    }
    Ok((trainer.with_eval_pairs(eval_pairs), unread))
}

/// The pairs of their own that training is evaluated on.
pub(crate) fn eval_pairs(config: &RunConfig) -> Result<PairSet, BpoError> {
    let Some(path) = &config.data.eval_pairs else { return Ok(PairSet::default()) };
    let set = read_pairs(path)?;
    match set.pairs.is_empty() {
        true => Err(BpoError::nothing(path, "pair", &set.skipped)),
        false => Ok(set),
    }
}

/// What is trained: a model with fresh adapters, with those that it was loaded with, or with weights that train.
pub(crate) fn policy(config: &RunConfig, model: Vlm) -> Result<Vlm, BpoError> {
    let policy = match &config.full_finetune {
        Some(full) => model.train().unfreeze(|path| full.trains(path)),
        None if config.model.adapter.is_some() => model.with_lora_dropout(config.lora.lora_dropout)?,
        None => model.with_lora(&config.lora, stage_seed(config.seed.0, "lora"))?,
    };
    Ok(policy.with_gradient_checkpointing(config.model.gradient_checkpointing)?)
}

/// Writes what was trained: the adapter, or the whole checkpoint.
fn save(config: &RunConfig, policy: &Vlm, lora: &LoraConfig, out: &Path) -> Result<(), BpoError> {
    let base = config.model_path()?;
    if config.full_finetune.is_none() {
        // before the adapter's own files, the last of which says that it is whole
        record_base(out, base)?;
        return Ok(save_adapter(policy, lora, &base.to_string_lossy(), out)?);
    }
    // a checkpoint is written over nothing; only one of earlier training in this directory is removed
    remove_owned_dir(out)?;
    Ok(policy.save_checkpoint(base, out)?)
}

/// Prepares pairs as the settings have it: with their longest sequence, and weakened images for losses that need them.
pub fn collator(config: &RunConfig, checkpoint: &Checkpoint, images: &ImageRoot) -> VlmCollator<ImageRoot> {
    VlmCollator::new(checkpoint.processor.clone(), &checkpoint.model, images.clone())
        .with_max_length(config.model.max_length)
        .with_weakening(config.conditional.distortion.clone(), stage_seed(config.seed.0, "conditional"))
}
