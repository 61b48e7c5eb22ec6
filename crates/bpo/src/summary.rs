//! What stages did, and what they skipped.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_inject::CutCounts;
use bpo_pairs::files::{read_bytes, write_bytes};
use bpo_pairs::{Limits, Manifest, SkipCounts, Skipped};
use serde::{Deserialize, Serialize};

use crate::config::Change;
use crate::error::BpoError;
use crate::settings_file::Inputs;
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

/// `manifest.json` of a run: what it was made from, and what its stages did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the manifest of a run: an object with `inputs` and `stages`")]
pub struct RunManifest {
    /// Fingerprints of data and model, versions and seeds.
    pub inputs: Manifest,
    /// Finished stages.
    pub stages: BTreeMap<Stage, StageSummary>,
}

impl RunManifest {
    /// Reads the file of a run, or nothing where there is none.
    ///
    /// # Errors
    /// If the file cannot be read or is no manifest.
    pub fn read(path: &Path) -> Result<Option<Self>, BpoError> {
        let bytes = match read_bytes(path, Limits::DEFAULT.settings_bytes) {
            Err(error) if error.is_not_found() => return Ok(None),
            bytes => bytes?,
        };
        let manifest = serde_json::from_slice(&bytes);
        manifest.map(Some).map_err(|source| BpoError::Json { path: path.to_owned(), source })
    }

    /// Writes the file; an old one stays until the new one is whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BpoError> {
        let json = serde_json::to_vec_pretty(self);
        let mut json = json.map_err(|source| BpoError::Json { path: path.to_owned(), source })?;
        json.push(b'\n');
        Ok(write_bytes(path, &json)?)
    }

    /// Checks that data and model are those that the run was begun with. Other versions of this program are fine.
    ///
    /// # Errors
    /// [`BpoError::InputChanged`] with each that differs.
    pub fn check_inputs(&self, run_dir: &Path, now: &Manifest) -> Result<(), BpoError> {
        let mut then = self.inputs.clone();
        then.versions = now.versions.clone();
        let differences = now.differences(&then);
        if differences.is_empty() {
            return Ok(());
        }
        let change = |difference: bpo_pairs::Difference| Change {
            key: difference.entry,
            then: difference.there,
            now: difference.here,
        };
        let changes = differences.into_iter().map(change).collect();
        Err(BpoError::InputChanged { path: run_dir.to_owned(), changes })
    }

    /// Checks that models are those which the run was begun with.
    ///
    /// # Errors
    /// [`BpoError::InputChanged`].
    pub(crate) fn check_models(&self, run_dir: &Path, now: &Inputs) -> Result<(), BpoError> {
        let changed = |(name, now): (&&'static str, &String)| {
            let then = self.inputs.models.get(*name)?.to_string();
            (then != *now).then(|| Change { key: (*name).into(), then: Some(then), now: Some(now.clone()) })
        };
        let changes: Vec<Change> = now.iter().filter_map(changed).collect();
        match changes.is_empty() {
            true => Ok(()),
            false => Err(BpoError::InputChanged { path: run_dir.to_owned(), changes }),
        }
    }
}

/// A line of `skipped.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `stage`, `id`, `reason` and `detail`")]
pub struct SkippedLine {
    /// The stage that set it skipped.
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
pub fn write_skipped(path: &Path, skipped: &BTreeMap<Stage, Vec<Skipped>>) -> Result<(), BpoError> {
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
    use bpo_pairs::{Fingerprint, SkipReason};

    use super::*;

    #[test]
    fn a_manifest_round_trips_and_holds_inputs_fast() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        assert_eq!(RunManifest::read(&path).unwrap(), None);
        let mut manifest = RunManifest::default();
        manifest.inputs.files.insert("llava.json".into(), Fingerprint::of("a"));
        manifest.inputs.versions.insert("bpo".into(), "0.0.9".into());
        let skipped = [Skipped::new("x", SkipReason::NoImage)];
        manifest.stages.insert(Stage::Data, StageSummary::new(3, &skipped));
        manifest.write(&path).unwrap();
        let read = RunManifest::read(&path).unwrap().unwrap();
        assert_eq!(read, manifest);

        std::fs::write(&path, "3").unwrap();
        let other = crate::error::chain(&RunManifest::read(&path).unwrap_err());
        assert!(other.contains("expected the manifest of a run: an object"), "{other}");

        let mut now = manifest.inputs.clone();
        now.versions.insert("bpo".into(), "0.1.0".into());
        read.check_inputs(dir.path(), &now).unwrap();
        now.files.insert("llava.json".into(), Fingerprint::of("b"));
        let error = read.check_inputs(dir.path(), &now).unwrap_err();
        assert!(error.to_string().contains("`files.llava.json`"), "{error}");
    }

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
