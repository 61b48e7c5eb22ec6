//! Counts and skipped items of the stages.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_inject::{CutCounts, RejectionCounts};
use bpo_pairs::files::write_bytes;
use bpo_pairs::{JsonlLog, PairsError, SkipCounts, Skipped, is_zero};
use serde::{Deserialize, Serialize};

use crate::error::BpoError;
use crate::stage::Stage;

/// The counts of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `done` and `skipped`")]
pub struct StageSummary {
    /// Number of samples, answers or pairs that the stage gave. For training, the number of pairs
    /// trained on.
    pub done: usize,
    /// Number of skipped items by reason.
    pub skipped: SkipCounts,
    /// Number of parts that were removed from the replies of a language model, by kind.
    #[serde(default, skip_serializing_if = "CutCounts::is_empty")]
    pub cuts: CutCounts,
    /// Number of rejected replies of a language model by reason, for answers of which a later reply
    /// or the fallback was accepted. The others are in `skipped`.
    #[serde(default, skip_serializing_if = "RejectionCounts::is_empty")]
    pub rejected: RejectionCounts,
    /// Number of pairs whose chosen answer is one of the model.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub own_chosen: usize,
}

impl StageSummary {
    /// Creates the summary of `done` items and the skipped items.
    pub fn new<'a>(done: usize, skipped: impl IntoIterator<Item = &'a Skipped>) -> Self {
        Self { done, skipped: skipped.into_iter().collect(), ..Self::default() }
    }
}

/// A line of `skipped.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `stage`, `id`, `reason` and `detail`")]
pub struct SkippedLine {
    /// The stage that skipped the item.
    pub stage: Stage,
    /// Id of the sample or pair.
    pub id: String,
    /// Index of the answer among those of the sample, counted from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub variant: usize,
    /// The reason.
    pub reason: bpo_pairs::SkipReason,
    /// The message.
    pub detail: String,
}

/// Writes all skipped items, one per line.
///
/// # Errors
/// Returns [`BpoError::NotOurs`] if the file exists and has anything but such lines, or an error if
/// it cannot be written.
pub(crate) fn write_skipped(path: &Path, skipped: &BTreeMap<Stage, Vec<Skipped>>) -> Result<(), BpoError> {
    match JsonlLog::<SkippedLine>::read(path) {
        Ok(_) => {}
        Err(PairsError::File(error)) if error.is_not_found() => {}
        Err(error @ PairsError::File(_)) => return Err(error.into()),
        Err(_) => return Err(BpoError::NotOurs { path: path.to_owned() }),
    }
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
    fn skipped_counts_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skipped.jsonl");
        let skipped = Skipped::new("x", SkipReason::ImageMissing).with_detail("a.jpg is not there");
        write_skipped(&path, &BTreeMap::from([(Stage::Weaken, vec![skipped])])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"stage\":\"weaken\",\"id\":\"x\",\"reason\":\"image-missing\",\"detail\":\"a.jpg is not there\"}\n"
        );
        write_skipped(&path, &BTreeMap::new()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn a_file_of_the_user_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skipped.jsonl");
        for text in ["lessons that I skipped", "{\"lesson\": 1}\n"] {
            std::fs::write(&path, text).unwrap();
            let error = write_skipped(&path, &BTreeMap::new()).unwrap_err();
            assert!(matches!(error, BpoError::NotOurs { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
