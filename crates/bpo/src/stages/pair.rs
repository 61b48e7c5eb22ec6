//! Preference pairs: `pairs.jsonl`.

use std::collections::HashSet;
use std::path::Path;

use bpo_pairs::files::create_parents;
use bpo_pairs::format::jsonl::{read_pairs, write_pairs};
use bpo_pairs::{Keyed, PairSet, PairsError, PreferencePair, RecordKey, SftSample, make_pairs};

use super::assemble::{assemble, without_answers};
use super::{StageAnswers, StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::ledger::has_content;
use crate::progress::Progress;
use crate::stage::Stage;

/// What to do with an existing file whose pairs differ from those of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingPairs {
    /// Use the pairs in the file, with a warning, so that users can remove pairs between two runs.
    Keep,
    /// Return [`BpoError::Differs`].
    Refuse,
}

/// Makes pairs of the annotated answers and the answers of stage files.
///
/// `answers` are one or more files of each stage, with lines in any order. Pairs are in the order
/// of the samples, then of the stages, then of the variants. Samples [without any weakened
/// answer](super::without_answers) have no pair. An existing file is never overwritten unless it is
/// empty; `existing` decides what happens if it differs.
///
/// # Errors
/// Returns an error if a file cannot be read or written, if an answer belongs to no sample or
/// occurs twice, or [`BpoError::Differs`].
pub fn pair(
    config: &RunConfig,
    samples: &[SftSample],
    answers: Vec<StageAnswers>,
    file: &Path,
    existing: ExistingPairs,
    progress: &mut dyn Progress,
) -> Result<(Vec<PreferencePair>, StageOutcome), BpoError> {
    progress.started(Stage::Pair, 0, samples.len());
    let PairSet { mut pairs, mut skipped } = make(config, samples, answers)?;
    if has_content(file) {
        let PairSet { pairs: kept, skipped: refused } = read_pairs(file)?;
        if kept != pairs {
            if existing == ExistingPairs::Refuse {
                return Err(BpoError::Differs {
                    path: file.to_owned(),
                    in_file: kept.len(),
                    from_answers: pairs.len(),
                });
            }
            tracing::warn!(file = %file.display(), "the pairs in the file differ from those of the answers; those in the file are used");
        }
        pairs = kept;
        skipped.extend(refused);
    } else {
        create_parents(file)?;
        write_pairs(file, &pairs)?;
    }
    let outcome = StageOutcome::new(pairs.len(), skipped);
    progress.advanced(Stage::Pair, samples.len());
    progress.finished(Stage::Pair, &outcome.summary);
    Ok((pairs, outcome))
}

fn make(config: &RunConfig, samples: &[SftSample], answers: Vec<StageAnswers>) -> Result<PairSet, BpoError> {
    let dropped = without_answers(&answers);
    if !dropped.is_empty() {
        tracing::info!(samples = dropped.len(), "samples without a weakened answer have no pair");
    }
    let mut records: Vec<StageRecord> = Vec::new();
    let mut seen = HashSet::new();
    for (path, lines) in answers.into_iter().map(StageAnswers::into_parts) {
        for (line, record) in lines {
            if !seen.insert((RecordKey::of(&record), record.kind().clone())) {
                // for example, the same file given twice
                let id = record.id().to_owned();
                return Err(PairsError::DuplicateId { path, line, id }.into());
            }
            if !dropped.contains(record.id()) {
                records.push(record);
            }
        }
    }
    let kept: Vec<SftSample> =
        samples.iter().filter(|sample| !dropped.contains(&sample.id)).cloned().collect();
    let mut set = PairSet::default();
    for record in assemble(&kept, records.into_iter().map(Ok))? {
        set.extend(make_pairs(&record, &config.filter));
    }
    Ok(set)
}
