//! Image weakening: what the model says about an image it can hardly see.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bpo_distort::{DiffusionNoise, Distortion};
use bpo_inject::{Generated, Sampling};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::build::stage::{
    self, BatchRecords, Bootstrapped, Item, Progress, Stage, StageRecord, StageSummary,
};
use crate::error::{PairsError, chain};
use crate::filter::count_words;
use crate::images::{ImageError, ImageRoot};
use crate::provenance::{Contrast, Provenance};
use crate::record::CompletionKind;
use crate::responder::{BATCHES_PER_CALL, VisionLanguageModel, VisionRequest, Weakening};
use crate::seed::{item_seed, stage_seed};
use crate::sft::SftSample;
use crate::skipped::{SkipReason, Skipped};
use crate::store::JsonlStore;
use crate::system::warn_left_out;

/// How answers for weakened images are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table of settings")]
#[non_exhaustive]
pub struct WeakenConfig {
    /// What is done to the images: an answer for each, or several, see `samples`.
    pub distortions: Vec<Distortion>,
    /// Answers for each distortion of an image.
    pub samples: NonZeroUsize,
    /// Part of the annotated answer's words that the model is given to go on from, from 0 to 1. With a distortion that
    /// [takes the image away](bpo_distort::NoImage) and a half, these are the rejected answers of MPO (Wang et al., arXiv 2411.10442,
    /// section 3.1), from annotated answers in place of the model's own.
    pub begun: f64,
    /// Contrast decoding with the clean image, if any.
    pub contrast: Option<Contrast>,
    /// How answers are drawn; its seed is replaced by one per answer.
    pub sampling: Sampling,
    /// Seed of the stage.
    pub seed: u64,
    /// Answers made at the same time. The model is given [several times as many](BATCHES_PER_CALL) questions in a call, and their
    /// answers are written together.
    pub batch: NonZeroUsize,
}

impl Default for WeakenConfig {
    /// The authors' script: diffusion noise at step 900, temperature 0.2, at most 1024 tokens. Batches of 8 are ours.
    fn default() -> Self {
        Self {
            distortions: vec![DiffusionNoise { step: 900.into() }.into()],
            samples: NonZeroUsize::MIN,
            begun: 0.0,
            contrast: None,
            sampling: Sampling::default().with_temperature(0.2),
            seed: 0,
            batch: const { NonZeroUsize::new(8).unwrap() },
        }
    }
}

impl WeakenConfig {
    /// Sets what is done to the images.
    pub fn with_distortions(mut self, distortions: impl IntoIterator<Item = Distortion>) -> Self {
        self.distortions = distortions.into_iter().collect();
        self
    }

    /// Sets the number of answers for each distortion of an image.
    pub fn with_samples(mut self, samples: NonZeroUsize) -> Self {
        self.samples = samples;
        self
    }

    /// Sets the part of the annotated answer that the model goes on from.
    pub fn with_begun(mut self, begun: f64) -> Self {
        self.begun = begun;
        self
    }

    /// Sets contrast decoding with the clean image.
    pub fn with_contrast(mut self, contrast: Option<Contrast>) -> Self {
        self.contrast = contrast;
        self
    }

    /// Sets how answers are drawn.
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Sets the seed of the stage.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of answers made at the same time.
    pub fn with_batch(mut self, batch: NonZeroUsize) -> Self {
        self.batch = batch;
        self
    }

    /// Answers of each sample.
    ///
    /// # Errors
    /// [`PairsError::NoDistortion`].
    pub fn variants(&self) -> Result<NonZeroUsize, PairsError> {
        let distortions = NonZeroUsize::new(self.distortions.len()).ok_or(PairsError::NoDistortion)?;
        Ok(distortions.saturating_mul(self.samples))
    }

    /// Variants are the answers for the first distortion, then those for the second, and so on.
    fn distortion(&self, item: Item<'_>) -> &Distortion {
        &self.distortions[item.variant / self.samples]
    }

    fn seed(&self, item: Item<'_>, use_: &str) -> u64 {
        item_seed(stage_seed(self.seed, use_), &item.key())
    }

    fn request(&self, item: Item<'_>, image: Arc<RgbImage>, other: Option<&Other>) -> VisionRequest {
        let sample = item.sample;
        let mut weakening = Weakening::new(self.distortion(item).clone(), self.seed(item, "weaken/image"));
        weakening.other = other.map(|other| Arc::clone(&other.image));
        weakening.contrast = self.contrast;
        VisionRequest {
            image,
            weakening: Some(weakening),
            system: sample.system.clone(),
            history: sample.history.clone(),
            prompt: sample.prompt.clone(),
            begun: begun(&sample.answer, self.begun).to_owned(),
            sampling: self.sampling.clone().with_seed(self.seed(item, "weaken/answer")),
        }
    }

    fn provenance(&self, item: Item<'_>, other: Option<Other>) -> Provenance {
        Provenance {
            distortion: self.distortion(item).drawn(self.seed(item, "weaken/image")).to_string(),
            other: other.map(|other| other.name),
            contrast: self.contrast,
            prefix_words: count_words(begun(&item.sample.answer, self.begun)),
            variant: item.variant,
        }
    }
}

/// The first words of an answer, as many as `part` of them, rounded down.
fn begun(answer: &str, part: f64) -> &str {
    let words = (count_words(answer) as f64 * part) as usize;
    let last = answer.split_whitespace().take(words).last();
    // words are parts of the answer itself
    let end = last.map_or(0, |word| word.as_ptr() as usize - answer.as_ptr() as usize + word.len());
    answer[..end].trim_start()
}

/// Another sample's image.
struct Other {
    name: String,
    image: Arc<RgbImage>,
}

/// Asks `model` every sample's question about its weakened image, and appends the answers to `store`.
///
/// A sample whose image cannot be used, or whose question the model can never answer, is skipped in the file. That no sample
/// has another image, where a distortion needs one, ends the stage: none could be weakened so. Going on
/// with another `config` or model mixes their answers: that is the caller's to prevent (see
/// [`Manifest`](crate::manifest::Manifest)).
///
/// # Errors
/// If the file was made from other samples or cannot be written, the image root is gone, or the model fails in a way that is
/// not the sample's fault. The file keeps what was done, and the stage can be run again.
pub fn weaken<M: VisionLanguageModel>(
    samples: &[SftSample],
    images: &ImageRoot,
    model: &mut M,
    config: &WeakenConfig,
    store: &mut JsonlStore<StageRecord>,
    progress: &mut dyn FnMut(Progress),
) -> Result<StageSummary, PairsError> {
    let _span = tracing::info_span!("pairs.weaken", samples = samples.len()).entered();
    if !model.takes_system() {
        warn_left_out("samples", samples.iter().map(|sample| &sample.system));
    }
    let per_call = config.batch.saturating_mul(BATCHES_PER_CALL);
    stage::run(Stage::Weaken, samples, config.variants()?, per_call, store, progress, |batch| {
        answer_batch(batch, samples, images, model, config)
    })
}

fn answer_batch<M: VisionLanguageModel>(
    batch: &[Item<'_>],
    samples: &[SftSample],
    images: &ImageRoot,
    model: &mut M,
    config: &WeakenConfig,
) -> BatchRecords {
    let mut loaded = LoadedImages::default();
    let mut requests = Vec::with_capacity(batch.len());
    let mut prepared = Vec::with_capacity(batch.len());
    for &item in batch {
        // its own image first: what is wrong with that is the sample's, and no reason to look for another one
        prepared.push(match loaded.load(images, item.sample)? {
            Ok(image) => {
                let other = match config.distortion(item).needs_other() {
                    true => Some(loaded.other(images, samples, item, config)?),
                    false => None,
                };
                requests.push(config.request(item, image, other.as_ref()));
                Ok(config.provenance(item, other))
            }
            Err(skipped) => Err(skipped),
        });
    }
    let answers = model.respond_continuous(&requests, config.batch);
    if answers.len() != requests.len() {
        let (requests, answers) = (requests.len(), answers.len());
        return Err(PairsError::AnswerCount { stage: Stage::Weaken.as_str(), requests, answers });
    }
    let mut answers = answers.into_iter();
    let records = batch.iter().zip(prepared).map(|(&item, prepared)| match prepared {
        Err(skipped) => Some(Ok(StageRecord::Skipped(skipped.with_variant(item.variant)))),
        Ok(provenance) => answers.next().map(|answer| record(model, item, provenance, answer)),
    });
    Ok(records.flatten().collect())
}

fn record<M: VisionLanguageModel>(
    model: &M,
    item: Item<'_>,
    provenance: Provenance,
    answer: Result<Generated, M::Error>,
) -> Result<StageRecord, PairsError> {
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
        Err(error) => Err(PairsError::Model { stage: Stage::Weaken.as_str(), id, source: Box::new(error) }),
    }
}

/// Each file of a batch is read once.
#[derive(Default)]
struct LoadedImages<'a>(HashMap<&'a str, Result<Arc<RgbImage>, ImageError>>);

impl<'a> LoadedImages<'a> {
    /// The outer error is not the image's fault.
    fn load(
        &mut self,
        images: &ImageRoot,
        sample: &'a SftSample,
    ) -> Result<Result<Arc<RgbImage>, Skipped>, PairsError> {
        Ok(match self.get(images, &sample.image)? {
            Ok(image) => Ok(Arc::clone(image)),
            Err(error) => {
                let reason = error.reason().unwrap_or(SkipReason::ImageUnreadable);
                Err(Skipped::new(&sample.id, reason).with_detail(chain(error)))
            }
        })
    }

    /// The image of another sample, drawn with the item's seed; the next one after it where that is the same or none can be
    /// had.
    ///
    /// # Errors
    /// [`PairsError::NoOtherImage`] if there is none.
    fn other(
        &mut self,
        images: &ImageRoot,
        samples: &'a [SftSample],
        item: Item<'_>,
        config: &WeakenConfig,
    ) -> Result<Other, PairsError> {
        let first = config.seed(item, "weaken/other") % samples.len().max(1) as u64;
        let (before, after) = samples.split_at(first as usize);
        for sample in after.iter().chain(before).filter(|sample| sample.image != item.sample.image) {
            if let Ok(image) = self.get(images, &sample.image)? {
                return Ok(Other { name: sample.image.clone(), image: Arc::clone(image) });
            }
        }
        let (id, distortion) = (item.sample.id.clone(), config.distortion(item).to_string());
        Err(PairsError::NoOtherImage { id, distortion })
    }

    fn get(
        &mut self,
        images: &ImageRoot,
        name: &'a str,
    ) -> Result<&Result<Arc<RgbImage>, ImageError>, PairsError> {
        match self.0.entry(name) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => match images.load(name) {
                Err(error) if error.reason().is_none() => Err(error.into()),
                loaded => Ok(entry.insert(loaded.map(Arc::new))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_with_its_first_words() {
        let answer = " A cat  on\na mat. ";
        let all = "A cat  on\na mat.";
        for (part, expected) in
            [(0.0, ""), (0.19, ""), (0.2, "A"), (0.5, "A cat"), (0.99, "A cat  on\na"), (1.0, all)]
        {
            assert_eq!(begun(answer, part), expected, "{part}");
        }
        assert_eq!(begun("", 0.5), "");
    }
}
