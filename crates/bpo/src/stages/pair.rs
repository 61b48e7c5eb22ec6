//! Preference pairs: `pairs.jsonl`.

use std::collections::HashSet;
use std::path::Path;

use bpo_pairs::format::jsonl::{JsonLines, read_pairs, write_pairs};
use bpo_pairs::{PairSet, PairsError, PreferencePair, SftSample, make_pairs};

use super::assemble::assemble;
use super::{StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::progress::Progress;
use crate::resume::has_content;
use crate::stage::Stage;

/// What to do with a file of pairs that are not those that the answers give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Use them, with a warning, so that pairs can be taken out by hand between two runs.
    Keep,
    /// Fail with [`BpoError::Differs`].
    Refuse,
}

/// Makes pairs of the annotated answers and those in `answers`, the files of the other stages.
///
/// A file that is there is never written over, unless it is empty; `existing` says what becomes of one that differs.
///
/// # Errors
/// If a file cannot be read or written, or an answer is of no sample; [`BpoError::Differs`].
pub fn pair(
    config: &RunConfig,
    samples: &[SftSample],
    answers: &[&Path],
    file: &Path,
    existing: Existing,
    progress: &mut dyn Progress,
) -> Result<(Vec<PreferencePair>, StageOutcome), BpoError> {
    progress.started(Stage::Pair, 0, samples.len());
    let PairSet { mut pairs, mut skipped } = make(config, samples, answers)?;
    if has_content(file) {
        let PairSet { pairs: kept, skipped: refused } = read_pairs(file)?;
        if kept != pairs {
            if existing == Existing::Refuse {
                return Err(BpoError::Differs { path: file.to_owned(), there: kept.len(), now: pairs.len() });
            }
            tracing::warn!(file = %file.display(), "the pairs are not those that the answers give; they are used as they are");
        }
        pairs = kept;
        skipped.extend(refused);
    } else {
        write_pairs(file, &pairs)?;
    }
    let outcome = StageOutcome::new(pairs.len(), skipped);
    progress.advanced(Stage::Pair, samples.len());
    progress.finished(Stage::Pair, &outcome.summary);
    Ok((pairs, outcome))
}

fn make(config: &RunConfig, samples: &[SftSample], answers: &[&Path]) -> Result<PairSet, BpoError> {
    let mut records: Vec<Result<StageRecord, BpoError>> = Vec::new();
    let mut seen = HashSet::new();
    for file in answers {
        for line in JsonLines::<StageRecord, _>::open(file)? {
            let (line, record) = line?;
            if let StageRecord::Answered(answer) = &record
                && !seen.insert((answer.id.clone(), answer.kind.clone(), answer.variant))
            {
                // as where one file is given twice
                let (path, id) = (file.to_path_buf(), answer.id.clone());
                return Err(PairsError::DuplicateId { path, line, id }.into());
            }
            records.push(Ok(record));
        }
    }
    let mut set = PairSet::default();
    for record in assemble(samples, records)? {
        set.extend(make_pairs(&record, &config.filter));
    }
    Ok(set)
}
