//! Counts and skipped records of the stages.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_inject::CutCounts;
use bpo_pairs::files::write_bytes;
use bpo_pairs::{SkipCounts, Skipped};
use serde::{Deserialize, Serialize};

use crate::error::BpoError;
use crate::stage::Stage;

/// What a stage did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `done` and `skipped`")]
pub struct StageSummary {
    /// What it gave: samples, answers or pairs; for training, the pairs trained on.
    pub done: usize,
    /// What it did not, by reason.
    pub skipped: SkipCounts,
    /// What was cut from the replies of a text model, by kind.
    #[serde(default, skip_serializing_if = "CutCounts::is_empty")]
    pub cuts: CutCounts,
}

impl StageSummary {
    /// `done` items, and those of `skipped`.
    pub fn new<'a>(done: usize, skipped: impl IntoIterator<Item = &'a Skipped>) -> Self {
        Self { done, skipped: skipped.into_iter().collect(), cuts: CutCounts::default() }
    }
}

/// A line of `skipped.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `stage`, `id`, `reason` and `detail`")]
pub struct SkippedLine {
    /// The stage that skipped it.
    pub stage: Stage,
    /// Id of the sample or pair.
    pub id: String,
    /// Which of the sample's answers, from 0, where the stage makes several.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub variant: usize,
    /// Why, to be counted.
    pub reason: bpo_pairs::SkipReason,
    /// Why, to be read.
    pub detail: String,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Writes all that was skipped, one a line.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_skipped(path: &Path, skipped: &BTreeMap<Stage, Vec<Skipped>>) -> Result<(), BpoError> {
    let mut bytes = Vec::new();
    for (&stage, items) in skipped {
        for Skipped { id, variant, reason, detail } in items.iter().cloned() {
            let line = serde_json::to_writer(&mut bytes, &SkippedLine { stage, id, variant, reason, detail });
            line.map_err(|source| BpoError::Json { path: path.to_owned(), source })?;
            bytes.push(b'\n');
        }
    }
    Ok(write_bytes(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use bpo_pairs::SkipReason;

    use super::*;

    #[test]
    fn what_is_skipped_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skipped.jsonl");
        let skipped = Skipped::new("x", SkipReason::ImageMissing).with_detail("a.jpg is not there");
        write_skipped(&path, &BTreeMap::from([(Stage::Weaken, vec![skipped])])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"stage\":\"weaken\",\"id\":\"x\",\"reason\":\"image-missing\",\"detail\":\"a.jpg is not there\"}\n"
        );
    }
}
