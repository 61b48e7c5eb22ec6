//! The trainer: configuration and preparation of a training.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bpo_pairs::PreferencePair;
use burn::tensor::Device;

use crate::batches::BatchSize;
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::{DpoError, Source};
use crate::loss::PreferenceLoss;
use crate::observer::Observer;
use crate::policy::{Collate, Policy};
use crate::reference::{Reference, ReferenceLogps, check_follows};
use crate::replica::Replica;
use crate::run::Sampler;
use crate::run_files::RunFiles;
use crate::state::TrainerState;
use crate::step::State;
use crate::trainable::trainable_paths;
use crate::training::{Parts, Session, TrainOutput, Training};

/// Trains a policy on preference pairs, and resumes an interrupted run.
///
/// The reference is the policy before training with its adapters off, unless [another
/// one](Reference) is set. It shares the frozen parameters with the policy. If there is a run
/// directory, the trainer writes `metrics.jsonl`, `eval.jsonl` and `checkpoints/` there, and
/// resumes from the newest checkpoint. On the flex backend a resumed run computes the same bits as
/// an uninterrupted one.
///
/// A thread [prepares](Collate::collate) the next batches while the device computes, so the
/// collator and its batches must be [`Send`]. Use [`Training::run_local`] for a collator that is
/// not.
///
/// Before each forward pass of a policy that [draws](Policy::draws), its device is seeded from
/// [`seed`](DpoConfig::seed) and the numbers of the step and the batch, so that dropout masks and
/// noise are the same in a resumed run. Most backends have one random generator for the whole
/// process, so other threads that use it change the result.
///
/// ```no_run
/// # use bpo_dpo::{Collate, Control, DpoConfig, DpoError, Policy, StepMetrics, Trainer};
/// # use bpo_pairs::PreferencePair;
/// # fn train<P: Policy, C: Collate<Batch = P::Batch> + Send>(
/// #     policy: P, collate: C, pairs: Vec<PreferencePair>,
/// # ) -> Result<(), DpoError> where P::Batch: Send {
/// let config = DpoConfig::default().with_learning_rate(1e-5);
/// let trainer = Trainer::new(config, policy, collate, Some("run".as_ref()))?;
/// let (policy, output) = trainer.train(pairs, &mut |metrics: &StepMetrics| {
///     println!("{}: {}", metrics.step, metrics.loss);
///     Control::Continue
/// })?;
/// # Ok(())
/// # }
/// ```
pub struct Trainer<P, C> {
    config: DpoConfig,
    policy: P,
    collate: C,
    run_dir: Option<PathBuf>,
    eval_pairs: Vec<PreferencePair>,
    reference: Reference<P>,
    devices: Vec<Device>,
    sampler: Option<Sampler<P>>,
    /// A custom loss that replaces the loss of the settings.
    loss: Option<Arc<dyn PreferenceLoss>>,
}

impl<P, C> fmt::Debug for Trainer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("config", &self.config)
            .field("run_dir", &self.run_dir)
            .finish_non_exhaustive()
    }
}

impl<P, C> Trainer<P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    /// Creates a trainer for a policy, and sets the policy to training state.
    ///
    /// # Errors
    /// Returns [`DpoError::Setting`] or [`DpoError::Conflict`] if settings are invalid,
    /// [`DpoError::NothingToTrain`] if the policy has no trainable parameter, or
    /// [`DpoError::EmptyGroup`] if a learning-rate group has none.
    pub fn new(config: DpoConfig, policy: P, collate: C, run_dir: Option<&Path>) -> Result<Self, DpoError> {
        config.validate()?;
        let policy = policy.train();
        if trainable_paths(&policy).is_empty() {
            return Err(DpoError::NothingToTrain);
        }
        config.check_groups(&policy)?;
        Ok(Self {
            config,
            policy,
            collate,
            run_dir: run_dir.map(Path::to_owned),
            eval_pairs: Vec::new(),
            reference: Reference::default(),
            devices: Vec::new(),
            sampler: None,
            loss: None,
        })
    }

    /// Sets a custom loss instead of [`DpoConfig::loss`]. Checkpoints record its
    /// [name](PreferenceLoss::name).
    ///
    /// # Errors
    /// Returns [`DpoError::Setting`] or [`DpoError::Conflict`] if the loss is invalid or cannot be
    /// combined with the settings.
    pub fn with_loss(mut self, loss: impl PreferenceLoss + 'static) -> Result<Self, DpoError> {
        let loss: Arc<dyn PreferenceLoss> = Arc::new(loss);
        self.config.validate_with(&self.config.objective_with(Arc::clone(&loss)))?;
        self.loss = Some(loss);
        Ok(self)
    }

    /// Sets the reference. The default is the policy before training with its adapters off.
    #[must_use]
    pub fn with_reference(mut self, reference: Reference<P>) -> Self {
        self.reference = reference;
        self
    }

    /// Sets further devices that share the work of each step with the device of the policy. The same
    /// device may be named several times.
    ///
    /// Each gets a copy of the policy and, if it is [another](Reference::Frozen) model, of the
    /// reference, and a thread of its own. The [batches](DpoConfig::batch_size) of a step go round
    /// the devices. If a step has fewer batches than devices, batches have fewer pairs, unless the
    /// loss [compares the pairs of a batch](crate::loss::LossProperties::batch_wide). Gradients are
    /// added on the device of the policy, which alone has the optimizer and its state, and the new
    /// values of the trained parameters are copied to the others.
    ///
    /// Steps, metrics and checkpoints do not depend on the devices except by rounding, so a run may
    /// be resumed with other devices. With the same devices a resumed run on the flex backend
    /// computes the same bits. Dropout masks and noise are those of a step and a batch, so they
    /// only depend on the devices if the batches do.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = devices;
        self
    }

    /// Sets a function that is called after every [`sample_every`](DpoConfig::sample_every) steps
    /// and after the last step, for example to generate answers. Its arguments are the policy,
    /// without an autodiff tape, and the number of steps.
    #[must_use]
    pub fn with_sampler(mut self, sampler: impl FnMut(&P, usize) -> Result<(), Source> + 'static) -> Self {
        self.sampler = Some(Box::new(sampler));
        self
    }

    /// Sets pairs to evaluate on, in addition to those that
    /// [`eval_fraction`](DpoConfig::eval_fraction) takes from the training pairs.
    #[must_use]
    pub fn with_eval_pairs(mut self, pairs: Vec<PreferencePair>) -> Self {
        self.eval_pairs = pairs;
        self
    }

    /// Trains the policy. Calls [`prepare`](Self::prepare) and [`Training::run`].
    ///
    /// # Errors
    /// Returns the errors of these two methods.
    pub fn train(
        self,
        pairs: Vec<PreferencePair>,
        observer: &mut impl Observer,
    ) -> Result<(P, TrainOutput), DpoError>
    where
        C: Send,
        C::Batch: Send,
    {
        self.prepare(pairs)?.run(observer)
    }

    /// Prepares a training up to its first step: checks the pairs and loads the newest checkpoint.
    /// The training keeps the pairs that pass the check, and does not copy them.
    ///
    /// # Errors
    /// - [`DpoError::NoPairs`], [`DpoError::UnknownKind`], [`DpoError::NothingToEvaluate`]: pairs
    ///   that the settings need are missing
    /// - [`DpoError::NothingWeakened`], [`DpoError::ReferenceStands`],
    ///   [`DpoError::ReferenceUnlike`]: the settings need another collator or reference
    /// - [`DpoError::NoDivergences`], [`DpoError::CacheWithoutDistributions`],
    ///   [`DpoError::Vocabulary`]: the loss needs another policy or reference
    /// - [`DpoError::NotInReference`], [`DpoError::StaleReference`]: a cached reference does not
    ///   fit the pairs
    /// - [`DpoError::ConfigChanged`], [`DpoError::DataChanged`], [`DpoError::Mismatch`]: the
    ///   checkpoint in the run directory is of another run
    /// - [`DpoError::NoIntactCheckpoint`]: the run directory has checkpoints, all of them damaged
    /// - [`DpoError::Io`], [`DpoError::File`], [`DpoError::Pairs`]: a file of the run directory
    ///   cannot be read or written
    pub fn prepare(self, pairs: Vec<PreferencePair>) -> Result<Training<P, C>, DpoError> {
        let Self { config, policy, mut collate, run_dir, eval_pairs, reference, devices, sampler, loss: own } =
            self;
        let custom_loss = own.as_ref().map(|loss| loss.name());
        let objective = config.objective_with(own.unwrap_or_else(|| Arc::new(config.loss.clone())));
        let loss = objective.properties();
        if loss.weakened && collate.weakenings() == 0 {
            return Err(DpoError::NothingWeakened);
        }
        if loss.token_divergences {
            reference.check_divergences(&policy)?;
        }
        match (&config.reference_sync, &reference) {
            (None, _) => {}
            (Some(_), Reference::Start) => {}
            (Some(_), Reference::Frozen(model)) => check_follows(model, &policy)?,
            (Some(_), _) => return Err(DpoError::ReferenceStands),
        }
        let data = Data::new(&config, loss, &mut collate, pairs, eval_pairs)?;
        if let Reference::Cached(cache) = &reference {
            cache.check(&mut collate, loss, &data.pairs)?;
            cache.check(&mut collate, loss, &data.eval_pairs)?;
        }
        let total_steps = total_steps(&config, data.pairs.len());
        let fresh = State {
            reference: ReferenceLogps::new(reference, &policy),
            policy,
            optimizer: config.optimizer(),
            progress: TrainerState::start(config.clone(), custom_loss, &data),
            must_equal_reference: !config.reference_differs,
        };
        let (all, pairs) = (devices.len() + 1, config.pairs_per_step());
        let busy = BatchSize::new(&config, loss, all).batches(pairs);
        if busy < all {
            tracing::warn!(
                "a step of {pairs} pairs keeps only {busy} of {all} devices busy; raise `batch_size` or \
                 `gradient_accumulation_steps`"
            );
        }
        // before the state is restored, because the reference is the policy before training
        let copy = |device: Device| Replica::new(&fresh.policy, &fresh.reference, &device.inner());
        let mut replicas: Vec<_> = devices.into_iter().map(copy).collect();
        let (files, state, resumed_from) = match &run_dir {
            None => (None, fresh, None),
            Some(dir) => {
                let (files, state, resumed_from) = RunFiles::open(dir, fresh, &data, total_steps)?;
                (Some(files), state, resumed_from)
            }
        };
        if resumed_from.is_some() {
            let State { policy, reference, .. } = &state;
            replicas.iter_mut().try_for_each(|replica| replica.restore(policy, reference))?;
        }
        let drawing = state.policy.draws().then(Mutex::default);
        Ok(Training {
            session: Session { config, objective, drawing, data, total_steps, resumed_from },
            parts: Parts { collate, state, replicas, files, sampler },
        })
    }
}

fn total_steps(config: &DpoConfig, pairs: usize) -> usize {
    let in_epochs = config.epochs.saturating_mul(pairs.div_ceil(config.pairs_per_step()));
    config.max_steps.unwrap_or(in_epochs)
}
