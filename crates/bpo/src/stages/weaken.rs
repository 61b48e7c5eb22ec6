//! Image weakening: `weakened.jsonl`, the model's answers about weakened images and, if the settings
//! ask for them, its own answers about the images as they are.

mod job;
mod requests;

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use bpo_pairs::{SftSample, SkipReason, Skipped, warn_left_out};

use super::answers::Answers;
use super::batches::{Batch, Batches};
use super::file::StageFile;
use super::{StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::{BpoError, chain};
use crate::image_cache::ImageCache;
use crate::images::ImageRoot;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::vision::{BATCHES_PER_CALL, VisionLanguageModel};
use job::Job;
pub(crate) use job::weakening_seed;
use requests::Requests;

/// Asks a model the question of each sample about its weakened image, once or several times, and
/// appends the answers to `file`. If the chosen answers are
/// [the model's own](crate::config::ChosenAnswer::has_own), it is then asked about the image as it is.
///
/// A sample is recorded as skipped if it has no image, if one of its images cannot be used, or if
/// the model cannot answer its question. `model` is called only if an answer is missing.
///
/// # Errors
/// Returns an error if the file has records of other samples or cannot be written, if the image
/// root is gone, or [`BpoError::StageStopped`] if the model fails for another reason than the
/// sample. The file then keeps all answers, and the stage can be run again. Returns
/// [`BpoError::NoOtherImage`] if a distortion needs another image and there is none. Returns
/// [`BpoError::NoImages`] and empties the file if no image can be used, and
/// [`BpoError::NothingAnswered`] if the model refused all requests. A [shard](super::Shard) without a
/// usable image or an answer keeps its records with a warning, because other shards may have some.
pub fn weaken<M: VisionLanguageModel>(
    config: &RunConfig,
    samples: &[SftSample],
    images: &ImageRoot,
    model: impl FnOnce() -> Result<M, BpoError>,
    file: &mut StageFile,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let _span = tracing::info_span!("weaken", samples = samples.len()).entered();
    let cache = ImageCache::new(images.clone());
    let job = Job { config, samples, cache, at_a_time: at_least_one(config.weaken.batch_size) };
    let own = if config.chosen.has_own() { config.weaken.own_samples } else { 0 };
    let variants = at_least_one(config.weaken.variants().saturating_add(own));
    let per_call = job.at_a_time.saturating_mul(BATCHES_PER_CALL);
    let shard = config.weaken.shard;
    let mut batches = Batches::new(Stage::Weaken, samples, variants, per_call, shard, |_| false, file)?;
    if batches.is_done() {
        batches.report(progress);
    } else {
        let mut model = model()?;
        if !model.takes_system() {
            warn_left_out("samples", samples.iter().map(|sample| &sample.system));
        }
        if model.is_batch_invariant() {
            let (usage, at_a_time) = (model.usage(), job.at_a_time);
            batches.stream(progress, usage, |missing| {
                model.respond_queue(&mut Requests::new(&job, missing), at_a_time);
            })?;
        } else {
            batches.run(progress, model.calls_at_once(), |batch| job.answer(batch, &mut model))?;
        }
    }
    let outcome = batches.outcome();
    let failed = without_images(&outcome, samples, images);
    if let Some(error) = failed.or_else(|| outcome.nothing_answered(Stage::Weaken)) {
        if shard.is_none() {
            // otherwise the file would skip these samples when the image root or the server is correct
            batches.clear()?;
            return Err(error);
        }
        tracing::warn!(
            shard = shard.map(tracing::field::display),
            "{}; to try again, give the same command with --retry-skipped",
            chain(&error)
        );
    }
    progress.finished(Stage::Weaken, &outcome.summary);
    Ok(outcome)
}

/// Returns the error of a stage in which the images of all samples failed.
fn without_images(outcome: &StageOutcome, samples: &[SftSample], images: &ImageRoot) -> Option<BpoError> {
    let skipped = outcome.skipped.first()?;
    let first = samples.iter().find(|sample| sample.id == skipped.id)?;
    let is_of_image =
        |skipped: &Skipped| skipped.reason.is_of_image() || skipped.reason == SkipReason::NoImage;
    let all = outcome.summary.done == 0 && outcome.skipped.iter().all(is_of_image);
    all.then(|| BpoError::NoImages {
        first: first.images.first().map_or_else(|| images.path().to_owned(), |name| images.path().join(name)),
        reason: skipped.detail.clone(),
        skipped: outcome.summary.skipped.clone(),
    })
}

/// Converts a count, with 1 in place of 0.
pub(super) fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

impl<'a> Job<'a> {
    /// Answers all items of a batch, including finished ones, because the last digits of a model's
    /// output may depend on the other items of its batch. Each batch is one call of the model.
    fn answer<M: VisionLanguageModel>(
        &self,
        batch: &mut Batch<'a, '_>,
        model: &mut M,
    ) -> Result<(), BpoError> {
        let items = batch.items.clone();
        let mut calls = Vec::with_capacity(batch.sizes.len());
        // index in the batch and provenance of each request
        let mut asked = Vec::with_capacity(items.len());
        let mut skipped_items = VecDeque::new();
        let mut places = items.iter().copied().enumerate();
        for &size in &batch.sizes {
            let mut requests = Vec::with_capacity(size);
            for (place, item) in places.by_ref().take(size) {
                // the sample's own images first: if they cannot be used, no other image is needed
                match self.check(item.sample)? {
                    Ok(images) => {
                        let weakening = self.weakening(item)?;
                        asked.push((place, self.provenance(item, weakening.as_ref())));
                        requests.push(self.request(item, images, weakening));
                    }
                    Err(cause) => {
                        skipped_items.push_back((place, self.skipped(item, cause)));
                    }
                }
            }
            calls.push(requests);
        }
        let mut answers = Answers::new(Stage::Weaken, asked.len());
        model.respond_calls(&calls, self.at_a_time, &mut |index, answer| {
            answers.receive(index, || {
                let (place, provenance) = &asked[index];
                // keeps the order of the samples if the model answers in order
                while skipped_items.front().is_some_and(|(before, _)| before < place) {
                    write_first(batch, &mut skipped_items)?;
                }
                batch.write(*place, self.record(items[*place], provenance.clone(), answer)?)
            })
        });
        answers.finish()?;
        while !skipped_items.is_empty() {
            write_first(batch, &mut skipped_items)?;
        }
        Ok(())
    }
}

/// Writes the first of the skipped items.
fn write_first(
    batch: &mut Batch<'_, '_>,
    skipped: &mut VecDeque<(usize, StageRecord)>,
) -> Result<(), BpoError> {
    match skipped.pop_front() {
        Some((place, record)) => batch.write(place, record),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak};

    use bpo_pairs::{FinishReason, Generated};
    use image::RgbImage;

    use super::*;
    use crate::images::ImageError;
    use crate::vision::VisionRequest;

    fn sample(image: &str) -> SftSample {
        SftSample {
            id: image.into(),
            images: vec![image.into()],
            system: None,
            history: Default::default(),
            prompt: "<image>\nWhat is it?".into(),
            answer: "A cat.".into(),
        }
    }

    /// Keeps weak references to the images that it has loaded.
    #[derive(Default)]
    struct Watcher {
        loaded: Vec<Weak<RgbImage>>,
        most_alive: usize,
    }

    impl VisionLanguageModel for Watcher {
        type Error = ImageError;

        fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ImageError>> {
            let answer = |request: &VisionRequest| {
                let image = request.images[0].load()?;
                self.loaded.push(Arc::downgrade(&image));
                let alive = self.loaded.iter().filter(|image| image.upgrade().is_some()).count();
                self.most_alive = self.most_alive.max(alive);
                Ok(Generated { text: "A cat.".into(), finish: FinishReason::Stop, tokens: None })
            };
            requests.iter().map(answer).collect()
        }
    }

    #[test]
    fn batch_has_one_decoded_image_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..12).map(|index| format!("{index}.png")).collect();
        for name in &names {
            RgbImage::new(9, 7).save(dir.path().join(name)).unwrap();
        }
        let samples: Vec<SftSample> = names.iter().map(|name| sample(name)).collect();
        let root = ImageRoot::new(dir.path()).unwrap();
        let config = RunConfig::default();
        let cache = ImageCache::with_max_bytes(root, 0);
        let size = at_least_one(12);
        let job = Job { config: &config, samples: &samples, cache, at_a_time: size };
        let mut file = StageFile::open(&dir.path().join("weakened.jsonl")).unwrap();
        let mut batches =
            Batches::new(Stage::Weaken, &samples, NonZeroUsize::MIN, size, None, |_| false, &mut file)
                .unwrap();
        let mut model = Watcher::default();
        batches.run(&mut (), NonZeroUsize::MIN, |batch| job.answer(batch, &mut model)).unwrap();
        assert_eq!(batches.outcome().summary.done, 12);
        assert_eq!((model.loaded.len(), model.most_alive), (12, 1));
    }
}
