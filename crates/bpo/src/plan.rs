//! What training will take, told before it begins.

use std::time::Instant;

use bpo_dpo::{
    Control, DataOrder, DpoConfig, GroupBatch, Observer, Reference, RunPlan, StepMetrics, Trainer,
    split_pairs, validate_pairs,
};
use bpo_model::memory::{BatchShape, Footprint};
use bpo_model::policy::{ImageError, LlavaCollator};
use bpo_pairs::images::ImageRoot;
use bpo_pairs::pairs::PairSet;
use bpo_pairs::record::PreferencePair;
use bpo_pairs::skipped::Skipped;
use burn::module::Module;
use burn::tensor::Device;
use image::RgbImage;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::llava::{collator, eval_pairs, policy};
use crate::reference;
use crate::stages::StageOutcome;

/// Steps that are made for the estimate of the time.
const STEPS: usize = 3;

/// What training will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrainingPlan {
    /// Of the policy.
    pub footprint: Footprint,
    /// Bytes of the reference, where it is a model of its own; what it shares with the policy does not count.
    pub reference: u64,
    /// The batch of the first epoch that autodiff holds most for; another order may put other pairs together later.
    pub longest: BatchShape,
    /// Bytes that it holds then. See [`Llava::activation_bytes`](bpo_model::Llava::activation_bytes).
    pub activations: u64,
    /// Pairs to train on.
    pub pairs: usize,
    /// Pairs to evaluate on.
    pub eval_pairs: usize,
    /// Pairs that cannot be used.
    pub skipped: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// How long each of the first steps took, in seconds.
    pub seconds: Vec<f64>,
    /// Whether these steps computed a reference that training takes from a cache.
    pub reference_in_steps: bool,
}

impl TrainingPlan {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        let Footprint { weights, gradients, optimizer, .. } = self.footprint;
        weights + gradients + optimizer + self.reference + self.activations
    }

    /// Seconds for all steps, if they are like the shortest of those that were made: the first ones warm up.
    pub fn estimated_seconds(&self) -> Option<f64> {
        self.seconds.iter().copied().reduce(f64::min).map(|seconds| seconds * self.steps as f64)
    }
}

/// Makes the first three steps of a training, keeps nothing of them, and tells what all will take, and which pairs cannot be
/// used. A reference that is
/// [cached](crate::config::ReferenceSection::cache) is computed here in each step, as no file is made.
///
/// # Errors
/// Those of training.
pub fn plan(
    config: &RunConfig,
    pairs: &[PreferencePair],
    images: &ImageRoot,
    device: &Device,
) -> Result<(TrainingPlan, StageOutcome), BpoError> {
    let adapter = config.model.adapter.as_deref();
    let checkpoint =
        Checkpoint::load_with_adapter(config.model_path()?, adapter, config.model.dtype, device)?;
    let mut collate = collator(config, &checkpoint, images);
    let mut uncached = config.clone();
    uncached.reference.cache = None;
    let PairSet { pairs: eval_pairs, skipped: unread } = eval_pairs(config)?;
    let reference = reference::open(&uncached, &checkpoint, &mut collate, pairs, &eval_pairs, &mut ())?;
    let policy = policy(config, checkpoint.model)?.train();
    let settings = config.train_settings();

    let (usable, _) = validate_pairs(&mut collate, settings.objective().properties(), pairs);
    let (trained, _) = split_pairs(usable, settings.eval_fraction, settings.seed);
    let shapes = shapes(&settings, &collate, &trained)?;
    let rank = if config.full_finetune.is_none() { config.lora.max_rank() } else { 0 };
    let bytes = |shape: &BatchShape| policy.activation_bytes(shape, rank);
    let longest = shapes.into_iter().max_by_key(|shape| bytes(shape)).unwrap_or_default();
    let mut plan = TrainingPlan {
        footprint: policy.footprint(),
        reference: match &reference {
            // a cache stands for it
            _ if config.reference.cache.is_some() => 0,
            // the first values of what is trained; the rest is the policy's
            Reference::Frozen(_)
                if config.reference.path.is_none()
                    && config.reference.adapter.is_none()
                    && (config.full_finetune.is_some() || config.model.adapter.is_some()) =>
            {
                policy.footprint().gradients
            }
            Reference::Frozen(model) => model.footprint().weights,
            _ => 0,
        },
        longest,
        activations: bytes(&longest),
        pairs: 0,
        eval_pairs: 0,
        skipped: 0,
        steps: 0,
        seconds: Vec::new(),
        reference_in_steps: config.reference.cache.is_some(),
    };
    let mut skipped = Vec::new();
    let mut clock = Clock { plan: &mut plan, skipped: &mut skipped, since: Instant::now() };
    let settings = settings.with_eval_every(usize::MAX);
    Trainer::new(settings, policy, collate, None)?
        .with_reference(reference)
        .with_eval_pairs(eval_pairs)
        .train(pairs, &mut clock)?;
    skipped.extend(unread);
    plan.skipped = skipped.len();
    let outcome = StageOutcome::new(plan.pairs, skipped);
    Ok((plan, outcome))
}

/// Sizes of the batches of the first epoch.
fn shapes<F>(
    config: &DpoConfig,
    collate: &LlavaCollator<F>,
    pairs: &[PreferencePair],
) -> Result<Vec<BatchShape>, BpoError>
where
    F: FnMut(&str) -> Result<RgbImage, ImageError>,
{
    let loss = config.objective().properties();
    let order = DataOrder::for_config(config, pairs).epoch(config.seed, 0);
    let steps = order.chunks(config.pairs_per_step());
    let batches = steps.flat_map(|step| step.chunks(config.batch_size));
    batches
        .map(|batch| {
            let batch: Vec<&PreferencePair> = batch.iter().map(|&index| &pairs[index]).collect();
            Ok(collate.shape(&GroupBatch::for_loss(loss, batch).groups)?)
        })
        .collect()
}

/// Takes the time of the first steps, and ends training then.
struct Clock<'a> {
    plan: &'a mut TrainingPlan,
    skipped: &'a mut Vec<Skipped>,
    since: Instant,
}

impl Observer for Clock<'_> {
    fn on_start(&mut self, plan: &RunPlan<'_>) {
        self.plan.steps = plan.total_steps;
        self.plan.pairs = plan.pairs;
        self.plan.eval_pairs = plan.eval_pairs;
        self.skipped.extend(plan.skipped.iter().cloned());
        self.since = Instant::now();
    }

    fn on_step(&mut self, _: &StepMetrics) -> Control {
        self.plan.seconds.push(self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
        if self.plan.seconds.len() < STEPS { Control::Continue } else { Control::Stop }
    }
}
