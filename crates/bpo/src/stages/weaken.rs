//! Image weakening: `weakened.jsonl`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use bpo_inject::Sampling;
use bpo_pairs::build;
use bpo_pairs::images::ImageRoot;
use bpo_pairs::responder::VisionLanguageModel;
use bpo_pairs::sft::SftSample;

use super::{StageOutcome, Unneeded, forward, open};
use crate::config::{RunConfig, Stage};
use crate::error::BpoError;
use crate::progress::Progress;

/// Has a model answer each sample's question about its weakened image, once or several times.
///
/// `model` is asked for only if an answer is missing in the file.
///
/// # Errors
/// If the file is of other samples or cannot be written, the image root is gone, or the model fails in a way that is not the
/// sample's fault. The file keeps what was done. [`BpoError::NoImages`] if no image at all can be used; then no file is left.
pub fn weaken<M: VisionLanguageModel>(
    config: &RunConfig,
    samples: &[SftSample],
    images: &ImageRoot,
    model: impl FnOnce() -> Result<M, BpoError>,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let (mut store, settings) = (open(file)?, settings(config));
    let mut told = forward(Stage::Weaken, progress);
    let variants = settings.variants()?.get();
    if store.len() < samples.len().saturating_mul(variants) {
        build::weaken(samples, images, &mut model()?, &settings, &mut store, &mut told)?;
    } else {
        build::weaken(samples, images, &mut Unneeded, &settings, &mut store, &mut told)?;
    }
    drop(told);
    let outcome = StageOutcome::of(&store)?;
    drop(store);
    if let Some(error) = without_images(&outcome, samples, images) {
        // it would stand in the way of a run with the right image root
        fs::remove_file(file).map_err(BpoError::io("remove", file))?;
        return Err(error);
    }
    progress.finished(Stage::Weaken, &outcome.summary);
    Ok(outcome)
}

/// The error of a stage in which every sample's image failed.
fn without_images(outcome: &StageOutcome, samples: &[SftSample], images: &ImageRoot) -> Option<BpoError> {
    let (first, skipped) = samples.first().zip(outcome.skipped.first())?;
    let all = outcome.summary.done == 0 && outcome.skipped.iter().all(|skipped| skipped.reason.is_of_image());
    all.then(|| BpoError::NoImages {
        first: images.path().join(&first.image),
        reason: skipped.detail.clone(),
        skipped: outcome.summary.skipped.clone(),
    })
}

fn settings(config: &RunConfig) -> build::WeakenConfig {
    let section = &config.weaken;
    let sampling = Sampling::greedy(section.max_new_tokens)
        .with_temperature(section.temperature)
        .with_top_p(section.top_p);
    build::WeakenConfig::default()
        .with_distortions(section.distortion.iter().cloned())
        .with_samples(NonZeroUsize::new(section.samples).unwrap_or(NonZeroUsize::MIN))
        .with_begun(section.begun)
        .with_contrast(section.contrast)
        .with_sampling(sampling)
        .with_seed(config.seed.0)
        .with_batch(NonZeroUsize::new(section.batch_size).unwrap_or(NonZeroUsize::MIN))
}
