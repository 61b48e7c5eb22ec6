//! Image weakening: `weakened.jsonl`, the model's answers about weakened images.

mod requests;

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use bpo_distort::Distortion;
use bpo_pairs::{
    CompletionKind, Generated, Provenance, RequestFailure, Sampling, SftSample, SkipError, SkipReason,
    Skipped, count_words, image_seed, item_seed, stage_seed, warn_left_out,
};

use super::answers::Answers;
use super::batches::{Batch, Batches, Item};
use super::file::StageFile;
use super::sample_images::{self, OtherImage};
use super::{Bootstrapped, StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::{BpoError, chain};
use crate::image_cache::{ImageCache, LazyImage};
use crate::images::ImageRoot;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::vision::{BATCHES_PER_CALL, VisionLanguageModel, VisionRequest, Weakening};
use requests::Requests;

/// Asks a model the question of each sample about its weakened image, once or several times, and
/// appends the answers to `file`.
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
    let variants = at_least_one(config.weaken.variants());
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

/// The parameters of the stage.
struct Job<'a> {
    config: &'a RunConfig,
    samples: &'a [SftSample],
    /// Requests hold image names, and the model loads one image after the other.
    cache: ImageCache,
    /// Number of answers generated at the same time.
    at_a_time: NonZeroUsize,
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
                match sample_images::check(&self.cache, item.sample)? {
                    Ok(images) => {
                        let other = if self.distortion(item).needs_other() {
                            Some(self.other_image(item)?)
                        } else {
                            None
                        };
                        requests.push(self.request(item, images, other.as_ref()));
                        asked.push((place, self.provenance(item, other)));
                    }
                    Err(cause) => {
                        skipped_items.push_back((place, skipped(item, cause)));
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
                batch.write(*place, record(items[*place], provenance.clone(), answer)?)
            })
        });
        answers.finish()?;
        while !skipped_items.is_empty() {
            write_first(batch, &mut skipped_items)?;
        }
        Ok(())
    }

    /// Returns the distortion of an item. Variants are the answers for the first distortion, then
    /// those for the second, and so on.
    fn distortion(&self, item: Item<'_>) -> &Distortion {
        &self.config.weaken.distortion[item.variant / at_least_one(self.config.weaken.samples)]
    }

    fn seed(&self, item: Item<'_>, purpose: &str) -> u64 {
        item_seed(stage_seed(self.config.seed.0, purpose), seed_name(&item.sample.id, item.variant))
    }

    fn image_seed(&self, item: Item<'_>) -> u64 {
        weakening_seed(self.config.seed.0, &item.sample.id, item.variant, 0)
    }

    fn answer_prefix<'s>(&self, sample: &'s SftSample) -> &'s str {
        answer_prefix(&sample.answer, self.config.weaken.prefix_fraction)
    }

    fn other_image(&self, item: Item<'a>) -> Result<OtherImage, BpoError> {
        let seed = self.seed(item, "weaken/other");
        let other = sample_images::other(&self.cache, self.samples, item.sample, seed)?;
        other.ok_or_else(|| BpoError::NoOtherImage {
            id: item.sample.id.clone(),
            distortion: self.distortion(item).to_string(),
        })
    }

    fn request(&self, item: Item<'_>, images: Vec<LazyImage>, other: Option<&OtherImage>) -> VisionRequest {
        let (sample, section) = (item.sample, &self.config.weaken);
        let mut weakening = Weakening::new(self.distortion(item).clone(), self.image_seed(item));
        weakening.other = other.map(|other| other.image.clone());
        weakening.contrast = section.contrast;
        VisionRequest {
            images,
            weakening: Some(weakening),
            system: sample.system.clone(),
            history: sample.history.clone(),
            prompt: sample.prompt.clone(),
            answer_prefix: self.answer_prefix(sample).to_owned(),
            sampling: Sampling::greedy(section.max_new_tokens)
                .with_temperature(section.temperature)
                .with_top_p(section.top_p)
                .with_seed(self.seed(item, "weaken/answer")),
        }
    }

    fn provenance(&self, item: Item<'_>, other: Option<OtherImage>) -> Provenance {
        let mut provenance = Provenance::default();
        provenance.distortion = self.distortion(item).drawn(self.image_seed(item)).to_string();
        provenance.other = other.map(|other| other.name);
        provenance.contrast = self.config.weaken.contrast;
        provenance.prefix_words = count_words(self.answer_prefix(item.sample));
        provenance.variant = item.variant;
        provenance
    }
}

/// Returns the record of an item whose images cannot be used.
fn skipped(item: Item<'_>, cause: Skipped) -> StageRecord {
    let kind = CompletionKind::ImageWeakened;
    StageRecord::Skipped { kind, skipped: cause.with_variant(item.variant) }
}

/// Returns the first words of an answer: `fraction` of its words, rounded down.
fn answer_prefix(answer: &str, fraction: f64) -> &str {
    let words = (count_words(answer) as f64 * fraction) as usize;
    let last = answer.split_whitespace().take(words).last();
    // words are slices of `answer`
    let end = last.map_or(0, |word| word.as_ptr() as usize - answer.as_ptr() as usize + word.len());
    answer[..end].trim_start()
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

/// Returns the seed of the distortion of an image that an answer is about.
///
/// `run_seed` is the seed of the run, `sample` the id of the sample, `variant` the index of the
/// answer among the sample's answers about weakened images, and `number` that of the image in the
/// conversation.
pub(crate) fn weakening_seed(run_seed: u64, sample: &str, variant: usize, number: usize) -> u64 {
    image_seed(item_seed(stage_seed(run_seed, "weaken/image"), seed_name(sample, variant)), number)
}

/// Returns the bytes that the seeds of an item are derived from: the id of its sample and, unless
/// it is 0, the index of the answer.
fn seed_name(sample: &str, variant: usize) -> Vec<u8> {
    let mut name = sample.as_bytes().to_vec();
    if variant > 0 {
        name.push(0);
        name.extend(variant.to_string().bytes());
    }
    name
}

fn record<E: std::error::Error + Send + Sync + 'static>(
    item: Item<'_>,
    provenance: Provenance,
    answer: Result<Generated, RequestFailure<E>>,
) -> Result<StageRecord, BpoError> {
    let Item { sample, variant } = item;
    let (id, kind) = (sample.id.clone(), CompletionKind::ImageWeakened);
    match answer {
        Ok(Generated { text, finish, .. }) => Ok(StageRecord::Answered(Bootstrapped {
            id,
            variant,
            kind,
            response: text,
            finish: Some(finish),
            provenance: Some(provenance),
            cuts: Vec::new(),
            rejected: Vec::new(),
        })),
        Err(RequestFailure { error, is_request_error: true }) => {
            let reason = SkipError::reason_of(&error).unwrap_or(SkipReason::RequestFailed);
            let skipped = Skipped::new(id, reason).with_detail(chain(&error));
            Ok(StageRecord::Skipped { kind, skipped: skipped.with_variant(variant) })
        }
        Err(RequestFailure { error, .. }) => {
            Err(BpoError::StageStopped { stage: Stage::Weaken, id, source: Box::new(error) })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak};

    use bpo_pairs::FinishReason;
    use image::RgbImage;

    use super::*;
    use crate::images::ImageError;

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

    #[test]
    fn answer_prefix_has_the_given_fraction_of_words() {
        let answer = " A cat  on\na mat. ";
        let all = "A cat  on\na mat.";
        for (fraction, expected) in
            [(0.0, ""), (0.19, ""), (0.2, "A"), (0.5, "A cat"), (0.99, "A cat  on\na"), (1.0, all)]
        {
            assert_eq!(answer_prefix(answer, fraction), expected, "{fraction}");
        }
        assert_eq!(answer_prefix("", 0.5), "");
    }
}
