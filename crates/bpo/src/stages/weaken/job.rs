//! The requests and records of the weaken stage.

use std::num::NonZeroUsize;

use bpo_distort::Distortion;
use bpo_pairs::{
    CompletionKind, Generated, Provenance, RequestFailure, Sampling, SftSample, SkipError, SkipReason,
    Skipped, count_words, image_seed, item_seed, stage_seed,
};

use super::super::batches::Item;
use super::super::sample_images::{self, OtherImage};
use super::super::{Bootstrapped, StageRecord};
use crate::config::RunConfig;
use crate::error::{BpoError, chain};
use crate::image_cache::{ImageCache, LazyImage};
use crate::stage::Stage;
use crate::vision::{VisionRequest, Weakening};

/// The parameters of the stage.
pub(super) struct Job<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) samples: &'a [SftSample],
    /// Requests hold image names, and the model loads one image after the other.
    pub(super) cache: ImageCache,
    /// Number of answers generated at the same time.
    pub(super) at_a_time: NonZeroUsize,
}

impl<'a> Job<'a> {
    /// Returns the distortion of an item, or `None` if its answer is about the image as it is. Variants
    /// are the answers for the first distortion, then those for the second, and so on; then the model's
    /// own answers.
    pub(super) fn distortion(&self, item: Item<'_>) -> Option<&Distortion> {
        let section = &self.config.weaken;
        let place = item.variant.checked_div(section.samples)?;
        section.distortion.get(place)
    }

    fn kind(&self, item: Item<'_>) -> CompletionKind {
        match self.distortion(item) {
            Some(_) => CompletionKind::ImageWeakened,
            None => CompletionKind::Own,
        }
    }

    fn seed(&self, item: Item<'_>, purpose: &str) -> u64 {
        item_seed(stage_seed(self.config.seed.0, purpose), seed_name(&item.sample.id, item.variant))
    }

    /// Returns the seed of the answer of an item. That of an own answer does not depend on the number of
    /// the answers before it.
    fn answer_seed(&self, item: Item<'_>) -> u64 {
        match self.distortion(item) {
            Some(_) => self.seed(item, "weaken/answer"),
            None => {
                let variant = item.variant - self.config.weaken.variants();
                self.seed(Item { variant, ..item }, "weaken/own")
            }
        }
    }

    fn answer_prefix<'s>(&self, sample: &'s SftSample) -> &'s str {
        let section = &self.config.weaken;
        match section.cut_sentences {
            0 => first_words(&sample.answer, section.prefix_fraction),
            // `check` skips samples without a prefix
            cut => cut_answer(&sample.answer, cut, section.min_sentences).unwrap_or_default(),
        }
    }

    /// Returns the cause for which a sample cannot be asked about, whatever its images are, if there is
    /// one: too few sentences in its answer.
    fn too_short(&self, sample: &SftSample) -> Option<Skipped> {
        let section = &self.config.weaken;
        let (cut, least) = (section.cut_sentences, section.min_sentences);
        if cut == 0 || cut_answer(&sample.answer, cut, least).is_some() {
            return None;
        }
        let (reason, least) = (SkipReason::TooFewSentences, least.max(cut + 1));
        let found = bpo_eval::sentences(&sample.answer).len();
        let detail = format!("{reason}: {found} in the annotated answer, at least {least} are needed");
        Some(Skipped::new(&sample.id, reason).with_detail(detail))
    }

    /// Checks that the model can be asked about a sample: its answer is long enough for the settings, and
    /// its images can be used.
    ///
    /// # Errors
    /// Returns an error if the image root is gone.
    pub(super) fn check(&self, sample: &SftSample) -> Result<Result<Vec<LazyImage>, Skipped>, BpoError> {
        match self.too_short(sample) {
            Some(cause) => Ok(Err(cause)),
            None => sample_images::check(&self.cache, sample),
        }
    }

    /// Returns whether the answer to the request of a sample needs no check of its images before.
    pub(super) fn may_be_asked(&self, sample: &SftSample) -> bool {
        !sample.images.is_empty() && self.too_short(sample).is_none()
    }

    /// Chooses the image of another sample for a distortion.
    fn other_image(&self, item: Item<'a>, distortion: &Distortion) -> Result<OtherImage, BpoError> {
        let seed = self.seed(item, "weaken/other");
        let other = sample_images::other(&self.cache, self.samples, item.sample, seed)?;
        other.ok_or_else(|| BpoError::NoOtherImage {
            id: item.sample.id.clone(),
            distortion: distortion.to_string(),
        })
    }

    /// Returns how the images of an item are weakened, with the name of the other image, or `None` for
    /// an own answer.
    pub(super) fn weakening(&self, item: Item<'a>) -> Result<Option<NamedWeakening>, BpoError> {
        let Some(distortion) = self.distortion(item) else { return Ok(None) };
        let other = if distortion.needs_other() { Some(self.other_image(item, distortion)?) } else { None };
        let seed = weakening_seed(self.config.seed.0, &item.sample.id, item.variant, 0);
        let mut weakening = Weakening::new(distortion.clone(), seed);
        weakening.contrast = self.config.weaken.contrast;
        let other = other.map(|OtherImage { name, image }| {
            weakening.other = Some(image);
            name
        });
        Ok(Some(NamedWeakening { weakening, other }))
    }

    pub(super) fn request(
        &self,
        item: Item<'_>,
        images: Vec<LazyImage>,
        weakening: Option<NamedWeakening>,
    ) -> VisionRequest {
        let (sample, section) = (item.sample, &self.config.weaken);
        VisionRequest {
            images,
            weakening: weakening.map(|weakening| weakening.weakening),
            system: sample.system.clone(),
            history: sample.history.clone(),
            prompt: sample.prompt.clone(),
            answer_prefix: self.answer_prefix(sample).to_owned(),
            sampling: Sampling::greedy(section.max_new_tokens)
                .with_temperature(section.temperature)
                .with_top_p(section.top_p)
                .with_seed(self.answer_seed(item)),
        }
    }

    /// Returns how the answer of an item is made, or `None` for an own answer.
    pub(super) fn provenance(
        &self,
        item: Item<'_>,
        weakening: Option<&NamedWeakening>,
    ) -> Option<Provenance> {
        let NamedWeakening { weakening, other } = weakening?;
        let mut provenance = Provenance::default();
        provenance.distortion = weakening.distortion.drawn(weakening.seed).to_string();
        provenance.other.clone_from(other);
        provenance.contrast = weakening.contrast;
        provenance.prefix_words = count_words(self.answer_prefix(item.sample));
        provenance.cut_sentences = self.config.weaken.cut_sentences;
        provenance.variant = item.variant;
        Some(provenance)
    }

    /// Returns the record of an item whose images cannot be used.
    pub(super) fn skipped(&self, item: Item<'_>, cause: Skipped) -> StageRecord {
        StageRecord::Skipped { kind: self.kind(item), skipped: cause.with_variant(item.variant) }
    }

    /// Returns the record of an answer.
    pub(super) fn record<E: std::error::Error + Send + Sync + 'static>(
        &self,
        item: Item<'_>,
        provenance: Option<Provenance>,
        answer: Result<Generated, RequestFailure<E>>,
    ) -> Result<StageRecord, BpoError> {
        let Item { sample, variant } = item;
        let (id, kind) = (sample.id.clone(), self.kind(item));
        match answer {
            Ok(Generated { text, .. })
                if self.config.weaken.cut_sentences > 0
                    && text.trim_end().len() <= self.answer_prefix(sample).len() =>
            {
                let skipped = Skipped::new(id, SkipReason::NoContinuation);
                let detail = format!("{}: the model ended the answer at once", SkipReason::NoContinuation);
                Ok(StageRecord::Skipped { kind, skipped: skipped.with_detail(detail).with_variant(variant) })
            }
            Ok(Generated { text, finish, .. }) => Ok(StageRecord::Answered(Bootstrapped {
                id,
                variant,
                kind,
                response: text,
                finish: Some(finish),
                provenance,
                cuts: Vec::new(),
                rejected: Vec::new(),
                judgment: None,
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
}

/// A weakening with the name of its other image.
pub(super) struct NamedWeakening {
    weakening: Weakening,
    other: Option<String>,
}

/// Returns the first words of an answer: `fraction` of its words, rounded down.
fn first_words(answer: &str, fraction: f64) -> &str {
    let words = (count_words(answer) as f64 * fraction) as usize;
    let last = answer.split_whitespace().take(words).last();
    // words are slices of `answer`
    let end = last.map_or(0, |word| word.as_ptr() as usize - answer.as_ptr() as usize + word.len());
    answer[..end].trim_start()
}

/// Returns an answer without its last `cut` sentences, or `None` if it has not more, or fewer than
/// `least`.
fn cut_answer(answer: &str, cut: usize, least: usize) -> Option<&str> {
    let sentences = bpo_eval::sentences(answer);
    let kept = sentences.len().checked_sub(cut)?;
    let last = sentences[..kept].last().filter(|_| sentences.len() >= least)?;
    // sentences are slices of `answer`
    let end = last.as_ptr() as usize - answer.as_ptr() as usize + last.len();
    Some(answer[..end].trim())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_prefix_has_the_given_fraction_of_words() {
        let answer = " A cat  on\na mat. ";
        let all = "A cat  on\na mat.";
        for (fraction, expected) in
            [(0.0, ""), (0.19, ""), (0.2, "A"), (0.5, "A cat"), (0.99, "A cat  on\na"), (1.0, all)]
        {
            assert_eq!(first_words(answer, fraction), expected, "{fraction}");
        }
        assert_eq!(first_words("", 0.5), "");
    }

    #[test]
    fn cut_answers_lack_their_last_sentences() {
        let answer = " A cat\nsleeps. Mr. Fox, who has 2. Is it late?  “Yes!” No. ";
        for (cut, expected) in [
            (1, Some("A cat\nsleeps. Mr. Fox, who has 2. Is it late?  “Yes!”")),
            (2, Some("A cat\nsleeps. Mr. Fox, who has 2. Is it late?")),
            (4, Some("A cat\nsleeps.")),
            (5, None),
            (usize::MAX, None),
        ] {
            assert_eq!(cut_answer(answer, cut, 0), expected, "{cut}");
        }
        assert!(cut_answer(answer, 2, 5).is_some() && cut_answer(answer, 2, 6).is_none());
        assert_eq!(cut_answer("", 1, 0), None);
        assert_eq!(cut_answer("no end", 1, 0), None);
    }
}
