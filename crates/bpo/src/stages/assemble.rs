//! Records from annotated samples and their bootstrapped answers.

use std::collections::HashMap;

use bpo_pairs::{Completion, CompletionKind, Record, SftSample};

use super::record::StageRecord;
use crate::error::BpoError;

/// One record per sample: its annotated answer (score 1), then its bootstrapped ones (score 0) in
/// the order of `answers`.
///
/// `answers` are the records of all stages, one stage after the other. Samples that a stage has
/// skipped get no completion from it.
///
/// # Errors
/// If an answer cannot be read or belongs to no sample.
pub fn assemble(
    samples: &[SftSample],
    answers: impl IntoIterator<Item = Result<StageRecord, BpoError>>,
) -> Result<Vec<Record>, BpoError> {
    let places: HashMap<&str, usize> =
        samples.iter().enumerate().map(|(place, sample)| (sample.id.as_str(), place)).collect();
    let mut records: Vec<Record> = samples.iter().map(annotated).collect();
    for answer in answers {
        let StageRecord::Answered(answer) = answer? else { continue };
        match places.get(answer.id.as_str()) {
            Some(&place) => records[place].completions.push(Completion {
                response: answer.response,
                score: 0.0,
                kind: answer.kind,
                provenance: answer.provenance,
            }),
            None => return Err(BpoError::UnknownId { id: answer.id }),
        }
    }
    Ok(records)
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
