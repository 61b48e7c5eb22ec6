//! Combines annotated samples with their bootstrapped answers.

use std::collections::{HashMap, HashSet};

use bpo_pairs::{Completion, CompletionKind, Keyed, Record, SftSample, SkipReason};

use super::file::StageAnswers;
use super::record::{Bootstrapped, StageRecord};
use crate::error::BpoError;

/// Makes one record per sample, with its annotated answer (score 1), then its bootstrapped answers
/// (score 0): those of the weaken stage, then those of the inject stage, each by variant.
///
/// `answers` can be in any order. Skipped items and the model's own answers about images as they are
/// give no completion.
///
/// # Errors
/// Returns an error if an answer cannot be read, or [`BpoError::UnknownId`] if an answer belongs to
/// no sample.
pub fn assemble(
    samples: &[SftSample],
    answers: impl IntoIterator<Item = Result<StageRecord, BpoError>>,
) -> Result<Vec<Record>, BpoError> {
    let is_rejected = |_: &_, answer: &Bootstrapped| answer.kind != CompletionKind::Own;
    let answered = by_sample(samples, answers, is_rejected)?;
    Ok(answered.map(|(sample, answers)| record_of(sample, annotated(sample), answers)).collect())
}

/// Iterates over the samples, each with the answers for which `keeps` returns true, in the order of
/// [`assemble`].
///
/// # Errors
/// Returns the errors of [`assemble`].
pub(super) fn by_sample<'a>(
    samples: &'a [SftSample],
    answers: impl IntoIterator<Item = Result<StageRecord, BpoError>>,
    mut keeps: impl FnMut(&SftSample, &Bootstrapped) -> bool + 'a,
) -> Result<impl Iterator<Item = (&'a SftSample, Vec<Bootstrapped>)> + 'a, BpoError> {
    let places: HashMap<&str, usize> =
        samples.iter().enumerate().map(|(place, sample)| (sample.id.as_str(), place)).collect();
    let mut answered = Vec::new();
    for answer in answers {
        let StageRecord::Answered(answer) = answer? else { continue };
        match places.get(answer.id.as_str()) {
            Some(&place) => answered.push((place, answer)),
            None => return Err(BpoError::UnknownId { id: answer.id }),
        }
    }
    answered.sort_by(|(place, one), (other_place, other)| {
        let by_stage = || rank(&one.kind).cmp(&rank(&other.kind));
        place.cmp(other_place).then_with(by_stage).then(one.variant.cmp(&other.variant))
    });
    let mut answered = answered.into_iter().peekable();
    Ok(samples.iter().enumerate().map(move |(place, sample)| {
        let of_sample = std::iter::from_fn(|| answered.next_if(|(of, _)| *of == place));
        (sample, of_sample.map(|(_, answer)| answer).filter(|answer| keeps(sample, answer)).collect())
    }))
}

/// Makes the record of a sample with its chosen answer and the rejected ones (score 0).
pub(super) fn record_of(
    sample: &SftSample,
    chosen: Completion,
    rejected: impl IntoIterator<Item = Bootstrapped>,
) -> Record {
    let rejected = rejected.into_iter().map(|answer| completion(0.0, answer));
    record_with(sample, std::iter::once(chosen).chain(rejected).collect())
}

/// Makes a completion of an answer.
pub(super) fn completion(score: f64, answer: Bootstrapped) -> Completion {
    Completion { response: answer.response, score, kind: answer.kind, provenance: answer.provenance }
}

/// Makes the record of a sample with its completions.
pub(super) fn record_with(sample: &SftSample, completions: Vec<Completion>) -> Record {
    Record {
        id: sample.id.clone(),
        images: sample.images.clone(),
        system: sample.system.clone(),
        history: sample.history.clone(),
        prompt: sample.prompt.clone(),
        completions,
    }
}

/// Returns the rank of a kind of answer in the order of the stages. Other kinds come last.
pub(super) fn rank(kind: &CompletionKind) -> (usize, &str) {
    match kind {
        CompletionKind::ImageWeakened => (0, ""),
        CompletionKind::Own => (1, ""),
        CompletionKind::ErrorInjected => (2, ""),
        other => (3, other.as_str()),
    }
}

/// Returns the ids of the samples whose weakened answers were all skipped because of their image or
/// their question.
///
/// Such samples have no pair, so the inject stage needs no answer for them. A text without an image
/// is not among them: it has no image to weaken, but its answer can be rewritten. Neither is a sample
/// for which a server sent no text, or whose answers a judge could not score.
pub fn without_answers<'a>(files: impl IntoIterator<Item = &'a StageAnswers>) -> HashSet<String> {
    all_skipped(files, |kind| *kind == CompletionKind::ImageWeakened)
}

/// Returns the ids of the samples whose answers of any kind were all skipped because of their image or
/// their question.
pub(super) fn without_any_answer<'a>(files: impl IntoIterator<Item = &'a StageAnswers>) -> HashSet<String> {
    all_skipped(files, |_| true)
}

fn all_skipped<'a>(
    files: impl IntoIterator<Item = &'a StageAnswers>,
    counts: impl Fn(&CompletionKind) -> bool,
) -> HashSet<String> {
    let mut has_answer: HashMap<&str, bool> = HashMap::new();
    let records = files.into_iter().flat_map(StageAnswers::records);
    for record in records.filter(|record| counts(record.kind())) {
        *has_answer.entry(record.id()).or_default() |= is_usable(record);
    }
    has_answer.into_iter().filter(|(_, has_answer)| !has_answer).map(|(id, _)| id.to_owned()).collect()
}

/// Returns whether the record of the weaken stage allows a pair of its sample.
pub(super) fn is_usable(record: &StageRecord) -> bool {
    match record {
        StageRecord::Answered(_) => true,
        StageRecord::Skipped { skipped, .. } => {
            matches!(skipped.reason, SkipReason::NoImage | SkipReason::NoText)
                || matches!(skipped.reason, SkipReason::JudgeFailed | SkipReason::JudgeUnclear)
        }
    }
}

/// Returns the annotated answer of a sample as the chosen one (score 1).
pub(super) fn annotated(sample: &SftSample) -> Completion {
    Completion {
        response: sample.answer.clone(),
        score: 1.0,
        kind: CompletionKind::Annotated,
        provenance: None,
    }
}
