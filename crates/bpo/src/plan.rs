//! Dry run of a training: estimates its memory and time.

use bpo_model::{BatchShape, Footprint};
use bpo_pairs::{PreferencePair, Skipped};
use burn::tensor::Device;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::images::ImageRoot;
use crate::local::trainer;
use crate::stages::StageOutcome;

/// Number of steps that are timed for the estimate.
const STEPS: usize = 3;

/// The memory and the time that a training will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainingPlan {
    /// Sizes of the policy.
    pub footprint: Footprint,
    /// Bytes of the reference if it is a separate model, without those that it shares with the
    /// policy.
    pub reference: u64,
    /// The batch of the first epoch that needs the most memory. Later epochs combine other pairs.
    pub longest: BatchShape,
    /// Bytes that autodiff holds for the longest batch; see
    /// [`Vlm::activation_bytes`](bpo_model::Vlm::activation_bytes).
    pub activations: u64,
    /// Number of pairs to train on.
    pub pairs: usize,
    /// Number of pairs to evaluate on.
    pub eval_pairs: usize,
    /// Number of pairs that cannot be used.
    pub skipped: usize,
    /// Number of optimizer steps of the training.
    pub steps: usize,
    /// Duration of each timed step, in seconds.
    pub seconds: Vec<f64>,
    /// Number of devices that share the pairs of a step. The sizes are those of the first; the others
    /// need as much, less the optimizer's state.
    pub devices: usize,
    /// Whether the timed steps computed a reference that training takes from a cache.
    pub reference_in_steps: bool,
}

impl TrainingPlan {
    /// Returns the sum of all bytes.
    pub fn bytes(&self) -> u64 {
        let Footprint { weights, gradients, optimizer, .. } = self.footprint;
        weights + gradients + optimizer + self.reference + self.activations
    }

    /// Returns the estimated seconds for all steps. The estimate uses the shortest of the timed
    /// steps, because the first ones include warm-up.
    pub fn estimated_seconds(&self) -> Option<f64> {
        self.seconds.iter().copied().reduce(f64::min).map(|seconds| seconds * self.steps as f64)
    }
}

/// Estimates memory and time of a training from its first three steps, without writing a file. Also
/// returns the pairs that cannot be used.
///
/// `device` has the optimizer, and `further` devices share the pairs of each step. The timed steps
/// compute the reference even if training uses a
/// [cache](crate::config::ReferenceSection::cache).
///
/// # Errors
/// Returns the errors of training.
pub fn plan(
    config: &RunConfig,
    pairs: Vec<PreferencePair>,
    images: &ImageRoot,
    device: &Device,
    further: &[Device],
) -> Result<(TrainingPlan, StageOutcome), BpoError> {
    let adapter = config.model.adapter.as_deref();
    let checkpoint =
        Checkpoint::load_with_adapter(config.model_path()?, adapter, config.model.dtype, device)?;
    let mut uncached = config.clone();
    uncached.reference.cache = None;
    let (trainer, unread) = trainer(&uncached, checkpoint, further, &pairs, images, None, &mut ())?;
    let training = trainer.prepare(pairs)?;

    let policy = training.policy();
    let rank = if config.full_finetune.is_none() { config.lora.max_rank() } else { 0 };
    let bytes = |shape: &BatchShape| policy.activation_bytes(shape, rank);
    let mut longest = BatchShape::default();
    for batch in training.first_epoch() {
        let shape = training.collate().shape(&batch.groups)?;
        if bytes(&shape) >= bytes(&longest) {
            longest = shape;
        }
    }
    let footprint = policy.footprint();
    let reference = match training.reference() {
        // training reads the cache instead
        _ if config.reference.cache.is_some() => 0,
        None => 0,
        // a copy of the trained parameters; the other parameters are shared with the policy
        Some(_) if config.reference.path.is_none() && config.reference.adapter.is_none() => {
            footprint.gradients
        }
        Some(model) => model.footprint().weights,
    };
    let run = training.plan();
    let (pairs, eval_pairs, steps) = (run.pairs, run.eval_pairs, run.total_steps);
    let skipped: Vec<Skipped> = run.skipped.iter().cloned().chain(unread).collect();
    let activations = bytes(&longest);
    let seconds = training.time_steps(STEPS)?.into_iter().map(|time| time.as_secs_f64()).collect();
    let plan = TrainingPlan {
        footprint,
        reference,
        longest,
        activations,
        pairs,
        eval_pairs,
        skipped: skipped.len(),
        steps,
        seconds,
        devices: further.len() + 1,
        reference_in_steps: config.reference.cache.is_some(),
    };
    Ok((plan, StageOutcome::new(pairs, skipped)))
}
