//! A policy as a model of burn-train.

use std::fmt;
use std::sync::Arc;

use bpo_pairs::error::chain;
use bpo_pairs::record::PreferencePair;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Devices, Module, ModuleDisplay, ModuleMapper, ModuleVisitor, Param, ParamGroup};
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::batch::PairBatch;
use super::initial::InitialValues;
use super::output::PairOutput;
use crate::config::DpoConfig;
use crate::error::DpoError;
use crate::figures::Figures;
use crate::forward::check_tracked;
use crate::gradients::{clip_global_norm, read, scale};
use crate::policy::{Adapters, Policy};
use crate::reference::ReferenceLogps;
use crate::trainable::trainable_paths;

/// A policy that burn-train trains by preferences.
///
/// The reference is the policy as it was given, with its adapters off and on plain tensors. It is no parameter: no optimizer
/// touches it, and it is in no record. No other can be given: neither a model of its own, nor cached log-probabilities, nor a
/// reference that moves; those are for [`Trainer`](crate::trainer::Trainer). Records hold what is trained and nothing else, so
/// a checkpoint of an adapter is as small as the adapter, and is loaded into a learner of the same policy, built anew.
///
/// # The gradient of a step
///
/// burn adds up the gradients of the batches of a step, those of several devices or of an accumulation, and with collective
/// operations it takes their sum or their mean. So that in all cases the step follows the mean loss of its pairs, whatever
/// the sizes of the batches, each batch gives the gradient of the sum of its losses, and the number of its pairs as the
/// gradient of one more parameter, `pairs`. The number goes the way of the gradients, through the same sums and means, and
/// they are divided by it before the optimizer sees them. That parameter itself is always 0.
#[derive(Clone, Debug)]
pub struct DpoLearner<P: Module + ModuleDisplay> {
    trained: Trained<P>,
    initial: InitialValues,
    config: DpoConfig,
}

/// What has parameters.
#[derive(Module, Debug)]
struct Trained<P: Module> {
    policy: P,
    pairs: Param<Tensor<1>>,
}

impl<P: Policy + ModuleDisplay> DpoLearner<P> {
    /// A learner for a policy, which is put in training state.
    ///
    /// # Errors
    /// [`DpoError::Setting`], also for what only [`Trainer`](crate::trainer::Trainer) does, or [`DpoError::NothingToTrain`].
    pub fn new(config: DpoConfig, policy: P) -> Result<Self, DpoError> {
        config.validate()?;
        check_supported(&config)?;
        let policy = policy.train();
        if trainable_paths(&policy).is_empty() {
            return Err(DpoError::NothingToTrain);
        }
        let device = policy.devices().into_iter().next().unwrap_or_default().autodiff();
        let pairs = Param::from_tensor(Tensor::zeros([1], (&device, DType::F32)));
        let initial = InitialValues::of(&policy);
        Ok(Self { trained: Trained { policy, pairs }, initial, config })
    }

    /// The policy, as far as it is trained.
    pub fn policy(&self) -> &P {
        &self.trained.policy
    }

    /// The same without the learner. What burn-train gives back is in validation state: [`Module::train`] undoes it.
    pub fn into_policy(self) -> P {
        self.trained.policy
    }

    /// The reference: the policy as it was given, on plain tensors.
    pub fn reference(&self) -> P {
        self.initial.reference(&self.trained.policy)
    }

    /// The losses of a batch, on the tape of the policy, and their figures. `[pairs]`
    fn losses(&self, batch: &PairBatch<P::Batch>) -> Result<(Tensor<1>, Figures), Arc<DpoError>> {
        let pairs: Vec<&PreferencePair> = batch.pairs().iter().collect();
        let mut figures = Figures::default();
        let reference = ReferenceLogps::Model(self.reference(), Adapters::Off);
        let losses = batch.prepared()?.losses(
            &self.config,
            &self.trained.policy,
            &reference,
            &pairs,
            false,
            &mut figures,
        )?;
        Ok((losses, figures))
    }

    fn forward_backward(
        &self,
        batch: &PairBatch<P::Batch>,
    ) -> Result<TrainOutput<PairOutput>, Arc<DpoError>> {
        let (losses, figures) = self.losses(batch)?;
        check_tracked(&losses, &batch.pairs().iter().collect::<Vec<_>>())?;
        let count = self.trained.pairs.val().mul_scalar(batch.pairs().len() as f64);
        let gradients = (losses.sum().cast(FloatDType::F32) + count).backward();
        Ok(TrainOutput::new(self, gradients, PairOutput::new(figures)))
    }

    /// The gradient of the mean loss, limited by its norm, from the sums that all batches of a step gave. `None` if no
    /// batch gave any, or if it is not finite.
    fn mean_gradient(&self, mut gradients: GradientsParams) -> Result<Option<GradientsParams>, DpoError> {
        let Some(pairs) = gradients.remove::<1>(self.trained.pairs.id) else { return Ok(None) };
        let pairs: f64 = read(pairs, "the number of pairs")?.into_iter().sum();
        let gradients = scale(self, gradients, pairs.recip());
        let (gradients, norm) = clip_global_norm(self, gradients, self.config.max_grad_norm)?;
        if !norm.is_finite() {
            tracing::warn!(pairs, "gradient not finite: step left out");
            return Ok(None);
        }
        Ok(Some(gradients))
    }
}

impl<P> TrainStep for DpoLearner<P>
where
    P: Policy<Batch: Send + Sync + 'static> + ModuleDisplay,
{
    type Input = PairBatch<P::Batch>;
    type Output = PairOutput;

    /// Of a batch that cannot be computed there is no gradient, and its output is an error, with which burn ends training.
    fn step(&self, batch: PairBatch<P::Batch>) -> TrainOutput<PairOutput> {
        self.forward_backward(&batch).unwrap_or_else(|error| TrainOutput {
            grads: GradientsParams::new(),
            item: PairOutput::failed(error),
        })
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        match self.mean_gradient(gradients) {
            Ok(Some(gradients)) => optimizer.step(rate, self, gradients),
            Ok(None) => self,
            Err(error) => {
                // burn asks for no result here; the figures of the next batch cannot be read either, and that ends training
                tracing::error!(error = chain(&error), "step left out");
                self
            }
        }
    }

    /// Adds up the gradients of each parameter on the device that burn chose for it, and goes on as with one device.
    fn optimize_multi(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: MultiGradientsParams,
    ) -> Self {
        let mut sums = Sums { parts: gradients, sums: GradientsParams::new() };
        self.visit(&mut sums);
        self.optimize(optimizer, rate, sums.sums)
    }
}

impl<P> InferenceStep for DpoLearner<P>
where
    P: Policy<Batch: Send + Sync + 'static> + ModuleDisplay,
{
    type Input = PairBatch<P::Batch>;
    type Output = PairOutput;

    fn step(&self, batch: PairBatch<P::Batch>) -> PairOutput {
        match self.losses(&batch) {
            Ok((_, figures)) => PairOutput::new(figures),
            Err(error) => PairOutput::failed(error),
        }
    }
}

/// Refuses settings that ask for what nothing here does: left unread, they would be taken for granted.
fn check_supported(config: &DpoConfig) -> Result<(), DpoError> {
    let asked = [
        ("moving_reference", config.moving_reference.is_some()),
        ("lr_groups", !config.lr_groups.is_empty()),
        ("accumulation", config.accumulation != 1),
        ("eval_part", config.eval_part != 0.0),
        ("max_steps", config.max_steps.is_some()),
        ("sample_every", config.sample_every.is_some()),
        ("keep_best", config.keep_best.is_some()),
        ("patience", config.patience.is_some()),
    ];
    match asked.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((key, _)) => {
            let (with, reason) = ("burn-train's learner".to_owned(), "only `Trainer` reads it");
            Err(DpoError::Conflict { key, with, reason })
        }
    }
}

struct Sums {
    parts: MultiGradientsParams,
    sums: GradientsParams,
}

impl ModuleVisitor for Sums {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some((sum, _)) = self.parts.remove::<D>(param.id) {
            self.sums.register(param.id, sum);
        }
    }
}

// written out for the records; the rest is that of what has parameters
impl<P: Policy + ModuleDisplay> Module for DpoLearner<P> {
    /// What is trained. Loaded into a learner of the same policy, frozen parameters stay as they are there.
    fn into_record(self) -> ModuleRecord {
        let paths = self.initial.paths().map(|path| format!("policy.{path}")).collect::<Vec<_>>();
        self.trained.into_record_group(ParamGroup::from_paths(paths))
    }

    fn try_load_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
        let (expected, found) = (self.initial.paths().count(), record.len());
        if found != expected {
            let what = format!("{found} parameters in the record, {expected} are trained");
            return Err(RecordError::Validation(what));
        }
        Ok(Self { trained: self.trained.try_load_record(record.allow_partial(true))?, ..self })
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        self.trained.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self { trained: self.trained.fork(device), ..self }
    }

    fn to_device(self, device: &Device) -> Self {
        Self { trained: self.trained.to_device(device), ..self }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.trained.visit(visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self { trained: self.trained.map(mapper), ..self }
    }

    fn train(self) -> Self {
        Self { trained: self.trained.train(), ..self }
    }

    fn valid(&self) -> Self {
        Self { trained: self.trained.valid(), initial: self.initial.clone(), config: self.config.clone() }
    }

    fn materialize(self) -> Self {
        Self { trained: self.trained.materialize(), ..self }
    }
}

impl<P: Policy + ModuleDisplay> fmt::Display for DpoLearner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trained.fmt(f)
    }
}
