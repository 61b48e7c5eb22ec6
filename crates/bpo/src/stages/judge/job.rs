//! The answers that a judge scores.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use bpo_pairs::{CompletionKind, Keyed, PairsError, RecordKey, SftSample, SkipCause, SkipReason, Skipped};

use super::super::batches::Item;
use super::super::file::StageFile;
use super::super::record::Bootstrapped;
use super::super::sample_images;
use super::super::weaken::at_least_one;
use super::super::{StageAnswers, StageRecord};
use super::check_kinds;
use crate::config::{ChosenAnswer, JudgeSection, RunConfig};
use crate::error::BpoError;
use crate::image_cache::{ImageCache, LazyImage};
use crate::images::ImageRoot;
use crate::judge::{Context, GradedAnswer, Prompts, Rubric, score};

/// The answers of a benchmark by the ids of their questions, and how they are graded.
pub(super) struct Grading<'a> {
    pub(super) rubric: &'a Rubric,
    pub(super) answers: HashMap<&'a str, &'a GradedAnswer>,
}

/// The parameters of the stage.
pub(super) struct Job<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) prompts: Prompts,
    /// What replaces the prompt and the scale of the settings for the answers of a benchmark.
    grading: Option<Grading<'a>>,
    /// The images, if the judge sees them.
    cache: Option<ImageCache>,
    /// The records of the files by sample and variant.
    records: HashMap<(&'a str, usize), &'a StageRecord>,
    /// Number of answers judged at the same time.
    pub(super) at_a_time: NonZeroUsize,
}

impl<'a> Job<'a> {
    /// Collects the answers of files.
    ///
    /// # Errors
    /// Returns an error if the prompts cannot be read, the answers are not of the weaken stage or have
    /// scores, an answer belongs to no sample, or two records of a sample have the same variant.
    pub(super) fn new(
        config: &'a RunConfig,
        samples: &[SftSample],
        files: &'a [StageAnswers],
        images: Option<&ImageRoot>,
    ) -> Result<Self, BpoError> {
        files.iter().try_for_each(check_kinds)?;
        let known: HashSet<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
        let mut records = HashMap::new();
        for file in files {
            for (line, record) in file.lines() {
                if records.insert((record.id(), record.variant()), record).is_some() {
                    let (path, id) = (file.path().to_owned(), RecordKey::of(record).to_string());
                    return Err(PairsError::DuplicateId { path, line: *line, id }.into());
                }
                if !known.contains(record.id()) {
                    return Err(BpoError::UnknownId { id: record.id().to_owned() });
                }
            }
        }
        Ok(Self {
            config,
            prompts: Prompts::new(&config.judge)?,
            grading: None,
            cache: images.map(|images| ImageCache::new(images.clone())),
            records,
            at_a_time: at_least_one(config.judge.batch_size),
        })
    }

    /// Grades the answers of a benchmark.
    pub(super) fn with_grading(mut self, grading: Grading<'a>) -> Self {
        self.grading = Some(grading);
        self
    }

    /// Returns the prompt that asks for the score of a whole answer.
    pub(super) fn whole_prompt(&self, of: Context<'_>) -> Result<String, BpoError> {
        let Some(Grading { rubric, answers }) = &self.grading else { return self.prompts.score(of) };
        let answer = answers.get(of.sample.id.as_str());
        rubric.prompt(answer.ok_or_else(|| BpoError::UnknownId { id: of.sample.id.clone() })?)
    }

    /// Reads the score of a whole answer from a reply. The error says what the reply lacks.
    pub(super) fn score_of(&self, reply: &str) -> Result<f64, String> {
        if let Some(Grading { rubric, .. }) = &self.grading {
            return rubric.read(reply).ok_or_else(|| rubric.expected().to_owned());
        }
        let JudgeSection { lowest, highest, .. } = self.config.judge;
        score(reply, lowest, highest)
            .ok_or_else(|| format!("no score from {lowest} to {highest}, or several"))
    }

    /// Returns the items of all records, in the order of the samples and variants.
    pub(super) fn items(&self, samples: &'a [SftSample]) -> Vec<Item<'a>> {
        let mut variants: HashMap<&str, Vec<usize>> = HashMap::new();
        for &(id, variant) in self.records.keys() {
            variants.entry(id).or_default().push(variant);
        }
        let mut items = Vec::with_capacity(self.records.len());
        for sample in samples {
            let mut variants = variants.remove(sample.id.as_str()).unwrap_or_default();
            variants.sort_unstable();
            items.extend(variants.into_iter().map(|variant| Item { sample, variant }));
        }
        items
    }

    /// Returns the answer of an item that the judge scores, if there is one.
    pub(super) fn answer(&self, item: Item<'_>) -> Option<&'a Bootstrapped> {
        self.to_judge(item.sample.id.as_str(), item.variant)
    }

    /// Returns whether an answer is one that the judge scores.
    pub(super) fn is_judged(&self, id: &str, variant: usize) -> bool {
        self.to_judge(id, variant).is_some()
    }

    fn to_judge(&self, id: &str, variant: usize) -> Option<&'a Bootstrapped> {
        match self.records.get(&(id, variant))? {
            StageRecord::Answered(answer) if self.needs_score(answer) => Some(answer),
            _ => None,
        }
    }

    /// Revised pairs depend on the scores of own answers alone.
    fn needs_score(&self, answer: &Bootstrapped) -> bool {
        self.config.chosen != ChosenAnswer::Revised || answer.kind == CompletionKind::Own
    }

    /// Removes the records of `file` that are not about an answer as it is in the files.
    pub(super) fn remove_outdated(&self, file: &mut StageFile) -> Result<(), BpoError> {
        let is_current = |record: &StageRecord| {
            let Some(known) = self.records.get(&(record.id(), record.variant())) else { return false };
            match (record, known) {
                (StageRecord::Answered(judged), StageRecord::Answered(answer)) => {
                    let is_judged = judged.judgment.is_some() == self.needs_score(answer);
                    is_judged && Bootstrapped { judgment: None, ..judged.clone() } == *answer
                }
                // the judge has skipped it
                (StageRecord::Skipped { skipped, .. }, StageRecord::Answered(_)) => {
                    matches!(skipped.reason, SkipReason::JudgeFailed | SkipReason::JudgeUnclear)
                }
                (copy, known) => copy == *known,
            }
        };
        let outdated = file.answers().records().filter(|record| !is_current(record)).count();
        if outdated == 0 {
            return Ok(());
        }
        tracing::warn!(records = outdated, "judgments are made again, because their answers changed");
        file.retain(is_current)
    }

    /// Copies the records that need no judgment, unless `file` has them.
    pub(super) fn copy_unjudged(&self, file: &mut StageFile) -> Result<(), BpoError> {
        let there: HashSet<RecordKey> = file.answers().records().map(RecordKey::of).collect();
        let is_copied = |&(id, variant): &(&str, usize)| !self.is_judged(id, variant);
        let mut keys: Vec<_> = self.records.keys().copied().filter(is_copied).collect();
        keys.sort_unstable();
        for key in keys.into_iter().filter(|&(id, variant)| !there.contains(&RecordKey::new(id, variant))) {
            file.append(self.records[&key].clone())?;
        }
        file.sync()
    }

    /// Returns the images of an item that the judge sees, without loading them.
    pub(super) fn images(&self, item: Item<'_>) -> Result<Vec<LazyImage>, Skipped> {
        let Some(cache) = &self.cache else { return Ok(Vec::new()) };
        if item.sample.images.is_empty() {
            let cause = SkipCause::new(SkipReason::JudgeFailed, "the sample has no image to compare with");
            return Err(cause.of(&item.sample.id));
        }
        Ok(item.sample.images.iter().map(|name| cache.image(name)).collect())
    }

    /// Returns the images of an item that the judge sees, after loading each of them once. The inner error
    /// is the reason to skip the item.
    ///
    /// # Errors
    /// Returns an error if the failure is not caused by an image.
    pub(super) fn checked_images(&self, item: Item<'_>) -> Result<Result<Vec<LazyImage>, Skipped>, BpoError> {
        match (self.images(item), &self.cache) {
            (Ok(images), Some(cache)) if !images.is_empty() => {
                let checked = sample_images::check(cache, item.sample)?;
                Ok(checked.map_err(|cause| {
                    SkipCause::new(SkipReason::JudgeFailed, cause.detail).of(&item.sample.id)
                }))
            }
            (images, _) => Ok(images),
        }
    }

    /// Returns the record of an answer that is not judged.
    pub(super) fn skipped(&self, answer: &Bootstrapped, skipped: Skipped) -> StageRecord {
        let kind = answer.kind.clone();
        StageRecord::Skipped { kind, skipped: skipped.with_variant(answer.variant) }
    }
}
