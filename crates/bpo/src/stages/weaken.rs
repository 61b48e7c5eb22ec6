//! Image weakening: `weakened.jsonl`, the model's answers about images that it can hardly see.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bpo_distort::Distortion;
use bpo_pairs::{
    CompletionKind, Generated, Provenance, Sampling, SftSample, SkipReason, Skipped, count_words, item_seed,
    stage_seed, warn_left_out,
};
use image::RgbImage;

use super::batches::{BatchRecords, Batches, Item};
use super::loaded::{LoadedImages, OtherImage};
use super::{Bootstrapped, StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::{BpoError, chain};
use crate::images::ImageRoot;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::vision::{BATCHES_PER_CALL, VisionLanguageModel, VisionRequest, Weakening};

/// Asks a model each sample's question about its weakened image, once or several times, and appends
/// the answers to `file`.
///
/// A sample whose image cannot be used, or whose question the model can never answer, is skipped in
/// the file. `model` is called only if an answer is missing.
///
/// # Errors
/// If the file is of other samples or cannot be written, the image root is gone, or the model fails
/// in a way that is not the sample's fault; the file keeps what was done, and the stage can be run
/// again. [`BpoError::NoOtherImage`] if a distortion needs another image and there is none.
/// [`BpoError::NoImages`] if no image can be used; then the file is removed.
pub fn weaken<M: VisionLanguageModel>(
    config: &RunConfig,
    samples: &[SftSample],
    images: &ImageRoot,
    model: impl FnOnce() -> Result<M, BpoError>,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let _span = tracing::info_span!("weaken", samples = samples.len()).entered();
    let job = Job { config, samples, images, at_a_time: at_least_one(config.weaken.batch_size) };
    let variants = at_least_one(config.weaken.variants());
    let per_call = job.at_a_time.saturating_mul(BATCHES_PER_CALL);
    let mut batches = Batches::open(Stage::Weaken, samples, variants, per_call, file)?;
    if batches.is_done() {
        batches.report(progress);
    } else {
        let mut model = model()?;
        if !model.takes_system() {
            warn_left_out("samples", samples.iter().map(|sample| &sample.system));
        }
        batches.run(progress, |batch| job.answer(batch, &mut model))?;
    }
    let outcome = batches.outcome()?;
    if let Some(error) = without_images(&outcome, samples, images) {
        // it would stand in the way of a run with the right image root
        batches.remove()?;
        return Err(error);
    }
    drop(batches);
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

/// A setting that counts something, of which there is at least one.
pub(super) fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

/// What the stage works on.
struct Job<'a> {
    config: &'a RunConfig,
    samples: &'a [SftSample],
    images: &'a ImageRoot,
    /// Answers made at the same time.
    at_a_time: NonZeroUsize,
}

impl<'a> Job<'a> {
    fn answer<M: VisionLanguageModel>(&self, batch: &[Item<'a>], model: &mut M) -> BatchRecords {
        let mut loaded = LoadedImages::new(self.images);
        let mut requests = Vec::with_capacity(batch.len());
        let mut prepared = Vec::with_capacity(batch.len());
        for &item in batch {
            // its own image first: what is wrong with it is the sample's, and no reason to look for
            // another image
            prepared.push(match loaded.load(item.sample)? {
                Ok(image) => {
                    let other = if self.distortion(item).needs_other() {
                        Some(self.other_image(&mut loaded, item)?)
                    } else {
                        None
                    };
                    requests.push(self.request(item, image, other.as_ref()));
                    Ok(self.provenance(item, other))
                }
                Err(skipped) => Err(skipped),
            });
        }
        let answers = model.respond_continuous(&requests, self.at_a_time);
        if answers.len() != requests.len() {
            let (requests, answers) = (requests.len(), answers.len());
            return Err(BpoError::AnswerCount { stage: Stage::Weaken.as_str(), requests, answers });
        }
        let mut answers = answers.into_iter();
        let records = batch.iter().zip(prepared).map(|(&item, prepared)| match prepared {
            Err(skipped) => Some(Ok(StageRecord::Skipped(skipped.with_variant(item.variant)))),
            Ok(provenance) => answers.next().map(|answer| record(model, item, provenance, answer)),
        });
        Ok(records.flatten().collect())
    }

    /// The distortion of an item: variants are the answers for the first distortion, then those for
    /// the second, and so on.
    fn distortion(&self, item: Item<'_>) -> &Distortion {
        &self.config.weaken.distortion[item.variant / at_least_one(self.config.weaken.samples)]
    }

    fn seed(&self, item: Item<'_>, purpose: &str) -> u64 {
        item_seed(stage_seed(self.config.seed.0, purpose), &item.key())
    }

    fn answer_prefix<'s>(&self, sample: &'s SftSample) -> &'s str {
        answer_prefix(&sample.answer, self.config.weaken.prefix_fraction)
    }

    fn other_image(&self, loaded: &mut LoadedImages<'a>, item: Item<'a>) -> Result<OtherImage, BpoError> {
        let other = loaded.other(self.samples, item.sample, self.seed(item, "weaken/other"))?;
        other.ok_or_else(|| BpoError::NoOtherImage {
            id: item.sample.id.clone(),
            distortion: self.distortion(item).to_string(),
        })
    }

    fn request(&self, item: Item<'_>, image: Arc<RgbImage>, other: Option<&OtherImage>) -> VisionRequest {
        let (sample, section) = (item.sample, &self.config.weaken);
        let mut weakening = Weakening::new(self.distortion(item).clone(), self.seed(item, "weaken/image"));
        weakening.other = other.map(|other| Arc::clone(&other.image));
        weakening.contrast = section.contrast;
        VisionRequest {
            image,
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
        provenance.distortion = self.distortion(item).drawn(self.seed(item, "weaken/image")).to_string();
        provenance.other = other.map(|other| other.name);
        provenance.contrast = self.config.weaken.contrast;
        provenance.prefix_words = count_words(self.answer_prefix(item.sample));
        provenance.variant = item.variant;
        provenance
    }
}

/// The first words of an answer, as many as `fraction` of them, rounded down.
fn answer_prefix(answer: &str, fraction: f64) -> &str {
    let words = (count_words(answer) as f64 * fraction) as usize;
    let last = answer.split_whitespace().take(words).last();
    // words are parts of the answer itself
    let end = last.map_or(0, |word| word.as_ptr() as usize - answer.as_ptr() as usize + word.len());
    answer[..end].trim_start()
}

fn record<M: VisionLanguageModel>(
    model: &M,
    item: Item<'_>,
    provenance: Provenance,
    answer: Result<Generated, M::Error>,
) -> Result<StageRecord, BpoError> {
    let Item { sample, variant } = item;
    let id = sample.id.clone();
    match answer {
        Ok(Generated { text, finish, .. }) => Ok(StageRecord::Answered(Bootstrapped {
            id,
            variant,
            kind: CompletionKind::ImageWeakened,
            response: text,
            finish: Some(finish),
            provenance: Some(provenance),
            cuts: Vec::new(),
        })),
        Err(error) if model.is_request_error(&error) => {
            let skipped = Skipped::new(id, SkipReason::RequestFailed).with_detail(chain(&error));
            Ok(StageRecord::Skipped(skipped.with_variant(variant)))
        }
        Err(error) => Err(BpoError::StageStopped { stage: Stage::Weaken, id, source: Box::new(error) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_with_its_first_words() {
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
