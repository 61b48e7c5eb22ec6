//! Combines annotated samples with their bootstrapped answers.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bpo_pairs::format::jsonl::JsonLines;
use bpo_pairs::{Completion, CompletionKind, Keyed, Record, SftSample};

use super::record::StageRecord;
use crate::error::BpoError;

/// Makes one record per sample, with its annotated answer (score 1), then its bootstrapped answers
/// (score 0): those of the weaken stage, then those of the inject stage, each by variant.
///
/// `answers` can be in any order. Skipped items give no completion.
///
/// # Errors
/// Returns an error if an answer cannot be read, or [`BpoError::UnknownId`] if an answer belongs to
/// no sample.
pub fn assemble(
    samples: &[SftSample],
    answers: impl IntoIterator<Item = Result<StageRecord, BpoError>>,
) -> Result<Vec<Record>, BpoError> {
    let places: HashMap<&str, usize> =
        samples.iter().enumerate().map(|(place, sample)| (sample.id.as_str(), place)).collect();
    let mut records: Vec<Record> = samples.iter().map(annotated).collect();
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
    for (place, answer) in answered {
        records[place].completions.push(Completion {
            response: answer.response,
            score: 0.0,
            kind: answer.kind,
            provenance: answer.provenance,
        });
    }
    Ok(records)
}

/// Returns the rank of a kind of answer in the order of the stages. Other kinds come last.
fn rank(kind: &CompletionKind) -> (usize, &str) {
    match kind {
        CompletionKind::ImageWeakened => (0, ""),
        CompletionKind::ErrorInjected => (1, ""),
        other => (2, other.as_str()),
    }
}

/// Finds the samples all of whose weakened answers were skipped.
///
/// Such samples have no pair, because their image or question cannot be used. The inject stage
/// needs no answer for them either.
#[derive(Default)]
pub(super) struct WithoutAnswers {
    has_answer: HashMap<String, bool>,
}

impl WithoutAnswers {
    /// Adds a record of any stage.
    pub(super) fn add(&mut self, record: &StageRecord) {
        if *record.kind() != CompletionKind::ImageWeakened {
            return;
        }
        let answered = matches!(record, StageRecord::Answered(_));
        match self.has_answer.get_mut(record.id()) {
            Some(has_answer) => *has_answer |= answered,
            None => drop(self.has_answer.insert(record.id().to_owned(), answered)),
        }
    }

    /// Returns the ids of the samples.
    pub(super) fn ids(self) -> HashSet<String> {
        self.has_answer.into_iter().filter(|(_, has_answer)| !has_answer).map(|(id, _)| id).collect()
    }
}

/// Reads files of the weaken stage, and returns the ids of the samples all of whose answers were
/// skipped. Such samples have no pair, so the inject stage needs no answer for them.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub fn without_answers<P: AsRef<Path>>(files: &[P]) -> Result<HashSet<String>, BpoError> {
    let mut found = WithoutAnswers::default();
    for file in files {
        for line in JsonLines::<StageRecord, _>::open(file.as_ref())? {
            found.add(&line?.1);
        }
    }
    Ok(found.ids())
}

fn annotated(sample: &SftSample) -> Record {
    Record {
        id: sample.id.clone(),
        image: sample.image.clone(),
        system: sample.system.clone(),
        history: sample.history.clone(),
        prompt: sample.prompt.clone(),
        completions: vec![Completion {
            response: sample.answer.clone(),
            score: 1.0,
            kind: CompletionKind::Annotated,
            provenance: None,
        }],
    }
}
