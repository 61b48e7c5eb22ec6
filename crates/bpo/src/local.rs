//! A pipeline backend with a model on this machine.

use std::fmt;
use std::path::Path;

use bpo_dpo::{Collate, PromptGroup, Trainer, validate_pairs};
use bpo_inject::ErrorInjector;
use bpo_model::VlmCollator;
use bpo_model::VlmResponder;
use bpo_model::save_adapter;
use bpo_model::{AdapterBase, LoraConfig, ModelError, Processor, Vlm};
use bpo_pairs::files::remove_owned_dir;
use bpo_pairs::format::jsonl::read_pairs_with;
use bpo_pairs::{PairSet, PreferencePair, SftSample, SkipReason, Skipped, Untrusted, stage_seed};
use burn::module::Module;
use burn::tensor::Device;

use crate::checkpoint::{Checkpoint, ModelUse, record_base};
use crate::config::{ChosenAnswer, RunConfig};
use crate::error::BpoError;
use crate::hub::HubModel;
use crate::images::ImageRoot;
use crate::injector::{Server, by_llm, check_server, injector_with, open_server};
use crate::local_vlm::LocalVlm;
use crate::media::Media;
use crate::progress::Progress;
use crate::reference;
use crate::run::{PipelineBackend, RunStatus};
use crate::run_dir::RunDir;
use crate::samples::sampler;
#[cfg(feature = "server")]
use crate::server_vlm::{ServerUse, ServerVlm, open_judge, open_vlm};
use crate::stage::Stage;
use crate::stages::{StageOutcome, Trained, train};
use crate::text_model::TextModel;
use crate::weaken_model::WeakenModel;

/// Number of samples whose length is checked before the first stage, at most. Each needs the headers
/// of its images.
const CHECKED_SAMPLES: usize = 1000;

/// Creates an error injector for the annotated answers of samples.
type MakeInjector = dyn Fn(&[SftSample]) -> Box<dyn ErrorInjector>;

/// A model on a local device, as the backend of a run. It is loaded once, on first use.
pub struct LocalBackend {
    config: RunConfig,
    device: Device,
    /// Further devices.
    further: Vec<Device>,
    api_key: Option<String>,
    checkpoint: Option<Checkpoint>,
    /// The client that `check` has created. The injector takes it, so that its warnings are logged
    /// once.
    server: Option<Server>,
    #[cfg(feature = "server")]
    vlm_key: Option<String>,
    /// The model behind `weaken.server`, which `check` has created.
    #[cfg(feature = "server")]
    vlm: Option<ServerVlm>,
    #[cfg(feature = "server")]
    judge_key: Option<String>,
    /// The judge behind `judge.server`, which `check` has created.
    #[cfg(feature = "server")]
    judge: Option<ServerVlm>,
    injector: Option<Box<MakeInjector>>,
}

impl fmt::Debug for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the API key is secret
        f.debug_struct("LocalBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

impl LocalBackend {
    /// Creates a backend for the checkpoint of the settings on a device. `api_key` is the key of
    /// `inject.server`, if it is set.
    pub fn new(config: RunConfig, device: Device, api_key: Option<String>) -> Self {
        Self {
            config,
            device,
            further: Vec::new(),
            api_key,
            checkpoint: None,
            server: None,
            #[cfg(feature = "server")]
            vlm_key: None,
            #[cfg(feature = "server")]
            vlm: None,
            #[cfg(feature = "server")]
            judge_key: None,
            #[cfg(feature = "server")]
            judge: None,
            injector: None,
        }
    }

    /// Sets further devices: image weakening and training spread their work over them. Error injection
    /// by a model on this machine uses the first device.
    #[must_use]
    pub fn with_devices(mut self, further: Vec<Device>) -> Self {
        self.further = further;
        self
    }

    /// Sets the key of `weaken.server`, if it is set.
    #[cfg(feature = "server")]
    #[must_use]
    pub fn with_vlm_key(mut self, api_key: Option<String>) -> Self {
        self.vlm_key = api_key;
        self
    }

    /// Sets the key of `judge.server`, if it is set.
    #[cfg(feature = "server")]
    #[must_use]
    pub fn with_judge_key(mut self, api_key: Option<String>) -> Self {
        self.judge_key = api_key;
        self
    }

    /// Replaces the error injector of the settings. The run directory does not record the injector,
    /// so a run must not be resumed with another one.
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
        // clones share the weights
        Ok(self.checkpoint.insert(checkpoint).clone())
    }

    /// Returns the model for generation, with its processor.
    fn generator(&mut self) -> Result<(Vlm, Processor), BpoError> {
        let Checkpoint { model, processor, adapter } = self.checkpoint()?;
        if adapter.is_none() {
            return Ok((model, processor));
        }
        // generation is faster with a merged adapter; training needs it unmerged and loads it again
        self.checkpoint = None;
        Ok((model.merged(), processor))
    }

    /// Returns the model of the run on all devices.
    fn local_model(&mut self) -> Result<WeakenModel, BpoError> {
        let (model, processor) = self.generator()?;
        Ok(WeakenModel::Local(Box::new(LocalVlm::new(model, processor, &self.further)?)))
    }

    /// Returns the model that rewrites the answers.
    fn text_responder(&mut self) -> Result<VlmResponder, BpoError> {
        let Some(path) = &self.config.inject.model else {
            let (model, processor) = self.generator()?;
            return Ok(VlmResponder::new(model, processor));
        };
        // the run needs memory for one model at a time; training loads its own again
        self.checkpoint = None;
        let checkpoint = Checkpoint::load_language_model(path, self.config.model.dtype, &self.device)?;
        Ok(VlmResponder::new(checkpoint.model, checkpoint.processor))
    }

    /// Checks the server of `weaken.server`, if it is set, and keeps its client.
    #[cfg(feature = "server")]
    fn check_vlm(&mut self) -> Result<(), BpoError> {
        if self.config.weaken.server.is_none() {
            return Ok(());
        }
        if self.vlm.is_none() {
            self.vlm = Some(ServerUse::Weaken.open(&self.config, self.vlm_key.clone())?);
        }
        self.vlm.as_ref().map_or(Ok(()), |vlm| ServerUse::Weaken.check(vlm))
    }

    /// Checks the server of `judge.server`, if it is set, and keeps its client.
    #[cfg(feature = "server")]
    fn check_judge(&mut self) -> Result<(), BpoError> {
        if self.config.judge.server.is_none() {
            return Ok(());
        }
        if self.judge.is_none() {
            self.judge = Some(ServerUse::Judge.open(&self.config, self.judge_key.clone())?);
        }
        self.judge.as_ref().map_or(Ok(()), |judge| ServerUse::Judge.check(judge))
    }

    /// Checks that no server is set, because this build has no client.
    #[cfg(not(feature = "server"))]
    fn check_judge(&mut self) -> Result<(), BpoError> {
        match self.config.judge.server {
            None => Ok(()),
            Some(_) => Err(BpoError::NotBuilt { what: "`judge.server`", feature: "server" }),
        }
    }

    /// Checks that no server is set, because this build has no client.
    #[cfg(not(feature = "server"))]
    fn check_vlm(&mut self) -> Result<(), BpoError> {
        match self.config.weaken.server {
            None => Ok(()),
            Some(_) => Err(BpoError::NotBuilt { what: "`weaken.server`", feature: "server" }),
        }
    }

    /// Checks the server of the settings, if they have one, and keeps its client.
    fn check_server(&mut self) -> Result<(), BpoError> {
        if self.server.is_none() {
            self.server = open_server(&self.config, self.api_key.clone())?;
        }
        self.server.as_ref().map_or(Ok(()), check_server)
    }
}

impl PipelineBackend for LocalBackend {
    type Model = WeakenModel;
    type Injector = Box<dyn ErrorInjector>;

    fn check(&mut self, config: &RunConfig, samples: &[SftSample], left: &[Stage]) -> Result<(), BpoError> {
        let mut problems = Vec::new();
        if left.contains(&Stage::Weaken) {
            problems.extend(self.check_vlm().err());
        }
        if left.contains(&Stage::Judge) {
            problems.extend(self.check_judge().err());
        }
        if left.contains(&Stage::Inject) && self.injector.is_none() {
            problems.extend(self.check_server().err());
            // its weights are loaded when the stage starts
            let text_model = config.inject.model.as_deref();
            problems.extend(text_model.and_then(|path| ModelUse::Text.processor(path).err()));
        }
        if left.contains(&Stage::Train) {
            match self.checkpoint() {
                Ok(checkpoint) => {
                    check_training(config, &checkpoint, &mut problems);
                    // once there are pairs, training checks them
                    if left.contains(&Stage::Weaken) {
                        problems.extend(check_lengths(config, &checkpoint, samples).err());
                    }
                }
                Err(error) => problems.push(error),
            }
        }
        BpoError::all(problems)
    }

    fn model(&mut self) -> Result<WeakenModel, BpoError> {
        #[cfg(feature = "server")]
        if self.config.weaken.server.is_some() {
            let vlm = match self.vlm.take() {
                Some(vlm) => vlm,
                None => open_vlm(&self.config, self.vlm_key.clone())?,
            };
            return Ok(WeakenModel::Server(vlm.into()));
        }
        #[cfg(not(feature = "server"))]
        self.check_vlm()?;
        self.local_model()
    }

    fn judge(&mut self) -> Result<WeakenModel, BpoError> {
        #[cfg(feature = "server")]
        if self.config.judge.server.is_some() {
            let judge = match self.judge.take() {
                Some(judge) => judge,
                None => open_judge(&self.config, self.judge_key.clone())?,
            };
            return Ok(WeakenModel::Server(judge.into()));
        }
        #[cfg(not(feature = "server"))]
        self.check_judge()?;
        self.local_model()
    }

    fn injector(&mut self, samples: &[SftSample]) -> Result<Self::Injector, BpoError> {
        match &self.injector {
            Some(make) => Ok(make(samples)),
            None if self.config.inject.is_local() => {
                by_llm(TextModel::new(self.text_responder()?), &self.config.inject, samples)
            }
            None => {
                let server = match self.server.take() {
                    Some(server) => Some(server),
                    None => open_server(&self.config, self.api_key.clone())?,
                };
                injector_with(&self.config, server, samples)
            }
        }
    }

    fn train(
        &mut self,
        pairs: Vec<PreferencePair>,
        images: &ImageRoot,
        dir: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<(RunStatus, StageOutcome), BpoError> {
        let checkpoint = self.checkpoint()?;
        // the trainer holds its own copy of the trained parameters
        self.checkpoint = None;
        let lora = checkpoint.adapter.clone();
        let further = &self.further;
        let (trainer, unread) =
            trainer(&self.config, checkpoint, further, &pairs, images, Some(dir), progress)?;
        let Trained { policy, summary, mut outcome } = train(trainer, pairs, progress)?;
        outcome.add(unread);
        if !summary.is_finished() {
            return Ok((RunStatus::Stopped, outcome));
        }
        // the settings of a continued adapter stay the same, except for the dropout
        let dropout = self.config.lora.lora_dropout;
        let lora = lora.map_or_else(|| self.config.lora.clone(), |lora| lora.with_dropout(dropout));
        let step = summary.steps;
        save(&self.config, &policy, &lora, &dir.result(&self.config)).map_err(|error| match error {
            BpoError::Model(source @ ModelError::NotFiniteWeights { .. }) => {
                BpoError::ResultNotFinite { step, source }
            }
            error => error,
        })?;
        // an error in drawing the curves does not fail the finished training
        #[cfg(feature = "curves")]
        if let Err(error) = crate::curves::draw(&dir.metrics(), &dir.evaluations(), &dir.curves()) {
            tracing::warn!(error = crate::error::chain(&error), "the curves could not be drawn");
        }
        Ok((RunStatus::Finished, outcome))
    }
}

/// A trainer for a model with images below an image root.
pub(crate) type VlmTrainer = Trainer<Vlm, VlmCollator<ImageRoot>>;

/// Creates a trainer with the settings of a run, on the device of the checkpoint and `further` ones.
/// Also returns the evaluation pairs that could not be read. Without a run directory the trainer
/// writes no file.
///
/// # Errors
/// Returns an error if the evaluation pairs or the reference cannot be read, or the settings do not
/// fit the model.
pub(crate) fn trainer(
    config: &RunConfig,
    checkpoint: Checkpoint,
    further: &[Device],
    pairs: &[PreferencePair],
    images: &ImageRoot,
    dir: Option<&RunDir>,
    progress: &mut dyn Progress,
) -> Result<(VlmTrainer, Vec<Skipped>), BpoError> {
    let mut collate = collator(config, &checkpoint, images);
    let PairSet { pairs: eval_pairs, skipped: unread } = eval_pairs(config)?;
    let reference =
        reference::open(config, &checkpoint, further, &mut collate, pairs, &eval_pairs, progress)?;
    let Checkpoint { model, processor, .. } = checkpoint;
    let policy = policy(config, model)?;
    let mut trainer = Trainer::new(config.train_settings(), policy, collate, dir.map(RunDir::root))?
        .with_reference(reference)
        .with_devices(further.to_vec());
    if let Some(dir) = dir {
        let asked = if eval_pairs.is_empty() { pairs } else { &eval_pairs };
        trainer = trainer.with_sampler(sampler(processor, images, asked, dir.samples()));
    }
    Ok((trainer.with_eval_pairs(eval_pairs), unread))
}

/// Reads the pairs of `data.eval_pairs`.
///
/// # Errors
/// Returns an error if the file cannot be read or has no usable pair.
pub(crate) fn eval_pairs(config: &RunConfig) -> Result<PairSet, BpoError> {
    let Some(path) = &config.data.eval_pairs else { return Ok(PairSet::default()) };
    let set = read_pairs_with(path, &Media::of(config).read_options())?;
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(path, "pair", &set.skipped));
    }
    Ok(set)
}

/// Checks what training uses besides the pairs, and adds all errors to `problems`: the modules that
/// it trains, the reference, and the pairs to evaluate on, by the headers of their images.
fn check_training(config: &RunConfig, checkpoint: &Checkpoint, problems: &mut Vec<BpoError>) {
    // the target modules must exist, and the learning-rate groups must match parameters
    let groups = policy(config, checkpoint.model.clone())
        .and_then(|policy| Ok(config.train_settings().check_groups(&policy.train())?));
    problems.extend(groups.err());
    problems.extend(reference::check(config, &checkpoint.processor).err());
    problems.extend(check_eval_pairs(config, checkpoint).err());
}

/// Checks that samples spread over the data fit into a sequence with their annotated answers, by the
/// headers of their images, and warns of those that do not. If annotated answers are not used, the
/// questions must fit.
///
/// Stages before training take longer sequences, and they take hours.
///
/// # Errors
/// Returns [`BpoError::NothingUsable`] if none fits, or an error if the image root cannot be read.
fn check_lengths(config: &RunConfig, checkpoint: &Checkpoint, samples: &[SftSample]) -> Result<(), BpoError> {
    let images = ImageRoot::new(config.images_path()?)?.with_limits(config.data.limits);
    let mut collate = collator(config, checkpoint, &images);
    let (mut checked, mut long) = (0_usize, Vec::new());
    for sample in samples.iter().step_by(samples.len().div_ceil(CHECKED_SAMPLES).max(1)) {
        checked += 1;
        // the stages report what else is wrong
        let group = group_of(sample, config.chosen);
        if let Err(error @ ModelError::SequenceTooLong { .. }) = collate.check(&group) {
            long.push(Skipped::new(&sample.id, SkipReason::PairRefused).with_detail(error.to_string()));
        }
    }
    let Some(first) = long.first() else { return Ok(()) };
    if long.len() == checked {
        return Err(BpoError::nothing(config.data_path()?, "sample", &long));
    }
    let (id, detail) = (Untrusted(&first.id), &first.detail);
    tracing::warn!(
        "{} of {checked} samples are too long to train on, and their pairs will be skipped; the first, {id}: {detail}",
        long.len()
    );
    Ok(())
}

/// The annotated answer of a sample, as training would take it, or the shortest one if it is not used.
fn group_of(sample: &SftSample, chosen: ChosenAnswer) -> PromptGroup {
    let answer = if chosen.has_annotated() { sample.answer.clone() } else { ".".to_owned() };
    PromptGroup {
        images: sample.images.clone(),
        weakened: None,
        system: sample.system.clone(),
        history: sample.history.clone(),
        prompt: sample.prompt.clone(),
        completions: vec![answer],
    }
}

/// Checks the pairs of `data.eval_pairs` as training checks its pairs: tokens, and headers of
/// images.
///
/// # Errors
/// Returns [`BpoError::NothingUsable`] if none of them can be used, [`BpoError::EvalPair`] for the
/// first one that cannot if `train.validate_pairs` is off, or an error if the file or the image
/// root cannot be read.
fn check_eval_pairs(config: &RunConfig, checkpoint: &Checkpoint) -> Result<(), BpoError> {
    let Some(path) = &config.data.eval_pairs else { return Ok(()) };
    let images = ImageRoot::new(config.images_path()?)?.with_limits(config.data.limits);
    let mut collate = collator(config, checkpoint, &images);
    let loss = config.train.objective().properties();
    let (usable, skipped) = validate_pairs(&mut collate, loss, eval_pairs(config)?.pairs);
    let Some(first) = skipped.first() else { return Ok(()) };
    if usable.is_empty() {
        return Err(BpoError::nothing(path, "pair", &skipped));
    }
    if !config.train.validate_pairs {
        return Err(BpoError::EvalPair { path: path.clone(), skipped: Box::new(first.clone()) });
    }
    Ok(())
}

/// Creates the policy: the model with new adapters, with the adapter that it was loaded with, or
/// with trainable weights.
pub(crate) fn policy(config: &RunConfig, model: Vlm) -> Result<Vlm, BpoError> {
    let policy = match &config.full_finetune {
        Some(full) => model.train().unfreeze(|path| full.trains(path)),
        None if config.model.adapter.is_some() => {
            model.with_lora_dropout(config.lora.lora_dropout)?.with_lora_noise(config.lora.lora_noise)?
        }
        None => model.with_lora(&config.lora, stage_seed(config.seed.0, "lora"))?,
    };
    Ok(policy.with_gradient_checkpointing(config.model.gradient_checkpointing)?)
}

/// Writes the training result: the adapter, or the whole checkpoint.
fn save(config: &RunConfig, policy: &Vlm, lora: &LoraConfig, out: &Path) -> Result<(), BpoError> {
    let base = config.model_path()?;
    if config.full_finetune.is_none() {
        // before the files of the adapter, the last of which marks it as complete
        record_base(out, base)?;
        // PEFT loads the base model by its name and commit on the hub
        let base = match HubModel::of_snapshot(base) {
            Some(model) => AdapterBase { name: model.id(), revision: Some(model.revision().to_owned()) },
            None => AdapterBase::from(&*base.to_string_lossy()),
        };
        return Ok(save_adapter(policy, lora, base, out)?);
    }
    // removes only a checkpoint that bpo wrote
    remove_owned_dir(out)?;
    Ok(policy.save_checkpoint(base, out)?)
}

/// Creates the collator of the settings, with their maximum sequence length, and with weakened
/// images for losses that need them.
pub fn collator(config: &RunConfig, checkpoint: &Checkpoint, images: &ImageRoot) -> VlmCollator<ImageRoot> {
    let collator = VlmCollator::new(checkpoint.processor.clone(), &checkpoint.model, images.clone())
        .with_weakenings(config.conditional.distortion.to_vec(), stage_seed(config.seed.0, "conditional"));
    match config.model.max_length {
        Some(tokens) => collator.with_max_length(tokens, "`model.max_length` (--max-length)"),
        None => collator,
    }
}
