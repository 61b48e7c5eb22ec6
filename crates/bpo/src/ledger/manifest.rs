//! The file of the ledger: `manifest.json` in a run directory, or `FILE.manifest.json` beside the
//! file of a stage.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::files::{read_bytes, write_bytes};
use bpo_pairs::{Fingerprint, Limits};
use serde::{Deserialize, Serialize};

use super::Inputs;
use super::differences::IMAGES_KEY;
use super::files::FileRecord;
use super::inputs::IMAGES;
use crate::config::{CHOSEN, ChosenAnswer, RunConfig, stage_settings};
use crate::error::BpoError;
use crate::stage::Stage;
use crate::summary::StageSummary;

/// The settings, inputs and counts of stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a manifest: an object with `version` and `stages`")]
pub struct Manifest {
    /// Version of the program that wrote the manifest. Other versions can continue the stages.
    pub version: String,
    /// One entry per stage.
    pub stages: BTreeMap<Stage, StageEntry>,
}

/// A stage: the settings and inputs that affect its results, and its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `settings`, `inputs`, `finished` and `files`")]
pub struct StageEntry {
    /// Settings as dotted keys with TOML values.
    pub settings: BTreeMap<String, String>,
    /// Fingerprints of the inputs by name.
    pub inputs: BTreeMap<String, Fingerprint>,
    /// The counts of a complete stage. `None` if some or all results are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<StageSummary>,
    /// Length and content of the files of a complete stage, by their names in a run directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileRecord>,
}

impl StageEntry {
    /// Creates the entry of a stage without results.
    ///
    /// # Errors
    /// Returns [`BpoError::ConfigEncode`] if TOML cannot hold a setting.
    pub(super) fn new(stage: Stage, config: &RunConfig, inputs: &Inputs) -> Result<Self, BpoError> {
        let mut inputs = inputs.of(stage);
        if stage == Stage::Judge && !config.judge.images {
            inputs.remove(IMAGES);
        }
        Ok(Self { settings: stage_settings(stage, config)?, inputs, ..Self::default() })
    }
}

impl StageEntry {
    /// Returns the chosen answers among the settings: the default if there is none.
    pub(super) fn chosen(&self) -> ChosenAnswer {
        // settings are TOML values, so the text is quoted
        let value = self.settings.get(CHOSEN).map(|value| value.trim_matches('"'));
        let chosen = ChosenAnswer::ALL.into_iter().find(|chosen| Some(chosen.as_str()) == value);
        chosen.unwrap_or_default()
    }

    /// Takes the place and the fingerprint of the images from another entry. Images that were
    /// moved, or that changed at their place, are the same input.
    pub(super) fn take_images(&mut self, current: &Self) {
        if let Some(path) = current.settings.get(IMAGES_KEY) {
            self.settings.insert(IMAGES_KEY.to_owned(), path.clone());
        }
        if let Some(print) = current.inputs.get(IMAGES) {
            self.inputs.insert(IMAGES.to_owned(), print.clone());
        }
    }
}

impl Manifest {
    /// Reads a manifest. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a manifest.
    pub fn read(path: &Path) -> Result<Option<Self>, BpoError> {
        let bytes = match read_bytes(path, Limits::DEFAULT.settings_bytes) {
            Err(error) if error.is_not_found() => return Ok(None),
            bytes => bytes?,
        };
        let manifest = serde_json::from_slice(&bytes);
        manifest.map(Some).map_err(|source| BpoError::Json { path: path.to_owned(), source })
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn write(&mut self, path: &Path) -> Result<(), BpoError> {
        env!("CARGO_PKG_VERSION").clone_into(&mut self.version);
        let json = serde_json::to_vec_pretty(self);
        let mut json = json.map_err(|source| BpoError::Json { path: path.to_owned(), source })?;
        json.push(b'\n');
        Ok(write_bytes(path, &json)?)
    }
}

#[cfg(test)]
mod tests {
    use bpo_pairs::{SkipReason, Skipped};

    use super::*;

    #[test]
    fn manifest_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        assert_eq!(Manifest::read(&path).unwrap(), None);
        let mut inputs = Inputs::default();
        inputs.add("data", Fingerprint::of("a"), &[Stage::Inject]);
        let mut entry = StageEntry::new(Stage::Inject, &RunConfig::default(), &inputs).unwrap();
        assert!(entry.settings.contains_key("seed") && !entry.settings.contains_key("weaken.samples"));
        entry.finished = Some(StageSummary::new(3, &[Skipped::new("x", SkipReason::NoImage)]));
        let mut manifest = Manifest::default();
        manifest.stages.insert(Stage::Inject, entry);
        manifest.write(&path).unwrap();
        assert_eq!(Manifest::read(&path).unwrap().unwrap(), manifest);

        std::fs::write(&path, "3").unwrap();
        let other = crate::error::chain(&Manifest::read(&path).unwrap_err());
        assert!(other.contains("expected a manifest: an object"), "{other}");
    }
}
