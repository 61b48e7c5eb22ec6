//! The run ledger: decides whether stages can be continued, and records their results.
//!
//! | where | file |
//! |---|---|
//! | run directory | `manifest.json`, an entry for each stage |
//! | file of a stage command | `FILE.manifest.json` beside it, one entry |
//!
//! An entry holds the settings and the fingerprints of the inputs that affect the results of its
//! stage. A stage with results can only be continued with the same settings and inputs. Each
//! section of [`RunConfig`] declares which stages its settings affect. A stage file without any
//! answer does not bind the settings: the stage starts again with the new ones. A file without a
//! manifest was not written by bpo and is never changed.

mod inputs;
mod manifest;
mod record;
mod stage_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo_pairs::Fingerprint;

pub use inputs::Inputs;
pub use manifest::{Manifest, StageEntry, StageState};

use crate::config::{Change, RunConfig, stage_settings};
use crate::error::BpoError;
use crate::paths::with_suffix;
use crate::run_dir::RunDir;
use crate::stage::Stage;
use crate::stages::{has_answers, remove_unanswered};
use crate::summary::StageSummary;
pub(crate) use stage_files::has_content;

/// The stages that have an entry in the manifest of a run.
const RUN: [Stage; 5] = [Stage::Data, Stage::Weaken, Stage::Inject, Stage::Pair, Stage::Train];

/// The manifest of a run directory or of a stage file, checked against the current settings and
/// inputs.
#[derive(Clone, Debug)]
pub struct StageLedger {
    path: PathBuf,
    manifest: Manifest,
}

impl StageLedger {
    /// Opens the ledger of a run, and records the settings in `config.toml`.
    ///
    /// # Errors
    /// Returns [`BpoError::Changed`] with all settings and inputs that differ from those of a stage
    /// with results, [`BpoError::Missing`] if the file of a stage is missing although later files
    /// exist, [`BpoError::NotOurs`] if bpo did not write `config.toml`, or an error if a file
    /// cannot be read or written.
    pub fn open_run(config: &RunConfig, inputs: &Inputs, dir: &RunDir) -> Result<Self, BpoError> {
        let mut results = stage_files::existing(dir)?;
        record::check_ours(&dir.config())?;
        let path = dir.manifest();
        let recorded_manifest = Manifest::read(&path)?;
        let mut manifest = recorded_manifest.clone().unwrap_or_default();
        let differences = |stage| -> Result<Differences, BpoError> {
            let recorded = recorded_manifest.as_ref().and_then(|manifest| manifest.stages.get(&stage));
            Ok(Differences::find(recorded, &StageEntry::new(stage, config, inputs)?))
        };
        // a stage without any answer starts again if no later stage has results
        while let Some((stage @ (Stage::Weaken | Stage::Inject), file)) = results.last()
            && !differences(*stage)?.is_empty()
            && !has_answers(file)?
        {
            remove_unanswered(file)?;
            results.pop();
        }
        let (mut all, mut first) = (Differences::default(), None);
        for (stage, file) in &results {
            let found = differences(*stage)?;
            if !found.is_empty() {
                first.get_or_insert(file);
                all.add(found);
            }
        }
        if let Some(file) = first {
            // inputs belong to the run, not to a stage
            let path = if all.settings.is_empty() { dir.root() } else { file };
            return Err(all.into_error(path));
        }
        for stage in RUN {
            if !results.iter().any(|(with_results, _)| *with_results == stage)
                && !differences(stage)?.is_empty()
            {
                manifest.stages.insert(stage, StageEntry::new(stage, config, inputs)?);
            }
        }
        let mut ledger = Self { path, manifest };
        if recorded_manifest.as_ref() != Some(&ledger.manifest) {
            ledger.write()?;
        }
        record::write(&dir.config(), config)?;
        Ok(ledger)
    }

    /// Opens the ledger of a single stage that writes `file`. `data` is the fingerprint of the
    /// annotated data.
    ///
    /// # Errors
    /// Returns [`BpoError::Changed`] with all settings and inputs that differ if the file has an
    /// answer, [`BpoError::NoManifest`] if the file is not empty and has no manifest, or an error
    /// if a file cannot be read or written.
    pub fn open_file(
        stage: Stage,
        config: &RunConfig,
        data: &Fingerprint,
        file: &Path,
    ) -> Result<Self, BpoError> {
        let config = config.clone().with_absolute_paths()?;
        let path = manifest_beside(file);
        let manifest = Manifest::read(&path)?;
        if has_content(file)
            && !manifest.as_ref().is_some_and(|manifest| manifest.stages.contains_key(&stage))
        {
            return Err(BpoError::NoManifest { path: file.to_owned(), manifest: path });
        }
        let current = StageEntry::new(stage, &config, &Inputs::read(&[stage], &config, Some(data))?)?;
        let recorded = manifest.and_then(|mut manifest| manifest.stages.remove(&stage));
        let differences = Differences::find(recorded.as_ref(), &current);
        let entry = if differences.is_empty() {
            recorded.unwrap_or(current)
        } else {
            if has_content(file) {
                if has_answers(file)? {
                    return Err(differences.into_error(file));
                }
                remove_unanswered(file)?;
            }
            current
        };
        let mut ledger = Self { path, manifest: Manifest::default() };
        ledger.manifest.stages.insert(stage, entry);
        ledger.write()?;
        Ok(ledger)
    }

    /// Opens the ledger of the training in `dir`, which is part of a run or stands alone. If the
    /// training has no results yet, the settings are recorded in `config.toml`.
    ///
    /// # Errors
    /// Returns [`BpoError::Changed`] with all settings and inputs that differ if there are results,
    /// [`BpoError::NoManifest`] if there are results but no manifest, [`BpoError::NotOurs`] if bpo
    /// did not write `config.toml`, or an error if a file cannot be read or written.
    pub fn open_training(config: &RunConfig, dir: &RunDir) -> Result<Self, BpoError> {
        let has_any = |paths: &[PathBuf]| paths.iter().any(|path| has_content(path));
        let logs = [dir.metrics(), dir.evaluations(), dir.samples()];
        let has_started = has_any(&logs) || has_any(&[dir.checkpoints(), dir.adapter(), dir.model()]);
        let is_in_run = has_any(&[dir.weakened(), dir.injected()]);
        let (path, root) = (dir.manifest(), dir.root().to_owned());
        let manifest = Manifest::read(&path)?.unwrap_or_default();
        let current = StageEntry::new(Stage::Train, config, &Inputs::read(&[Stage::Train], config, None)?)?;
        let recorded = manifest.stages.get(&Stage::Train);
        if recorded.is_none() && has_started {
            return Err(BpoError::NoManifest { path: root, manifest: path });
        }
        let differences = Differences::find(recorded, &current);
        let is_binding = has_started || is_in_run && recorded.is_some();
        if is_binding && !differences.is_empty() {
            return Err(differences.into_error(&root));
        }
        if !is_binding {
            record::write(&dir.config(), config)?;
        }
        let has_changed = !differences.is_empty();
        let mut ledger = Self { path, manifest };
        if has_changed {
            ledger.manifest.stages.insert(Stage::Train, current);
            ledger.write()?;
        }
        Ok(ledger)
    }

    /// Returns the stages of the run in a directory that are not finished, without locking the
    /// directory. Without a run it returns all stages.
    ///
    /// # Errors
    /// Returns an error if the manifest exists and cannot be read.
    pub fn unfinished(run: &Path) -> Result<Vec<Stage>, BpoError> {
        let (path, manifest) = (run.join("manifest.json"), Manifest::read(&run.join("manifest.json"))?);
        let ledger = Self { path, manifest: manifest.unwrap_or_default() };
        Ok(RUN.into_iter().filter(|&stage| !ledger.is_finished(stage)).collect())
    }

    /// Returns whether a stage is complete.
    pub fn is_finished(&self, stage: Stage) -> bool {
        self.manifest.stages.get(&stage).is_some_and(|entry| entry.state == StageState::Finished)
    }

    /// Records that a stage is complete.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn finish(&mut self, stage: Stage, summary: &StageSummary) -> Result<(), BpoError> {
        self.manifest.stages.entry(stage).or_default().finish(summary);
        self.write()
    }

    /// Returns the counts of the finished stages.
    pub fn summaries(&self) -> BTreeMap<Stage, StageSummary> {
        let finished = self.manifest.stages.iter().filter(|(_, entry)| entry.state == StageState::Finished);
        finished.map(|(&stage, entry)| (stage, entry.summary())).collect()
    }

    fn write(&mut self) -> Result<(), BpoError> {
        self.manifest.write(&self.path)
    }
}

/// Records new paths of the checkpoint, the data and the images in the run or training in `dir`,
/// for inputs that were moved together with it. Does nothing if the directory has no manifest and
/// no `config.toml`.
///
/// The contents of checkpoint and data are still compared when the run is resumed. The caller must
/// ensure that the images are the same.
///
/// # Errors
/// Returns [`BpoError::NotOurs`] if bpo did not write `config.toml`, or an error if a file cannot
/// be read or written.
pub fn record_moved_inputs(config: &RunConfig, dir: &Path) -> Result<(), BpoError> {
    let config = config.clone().with_absolute_paths()?;
    let path = dir.join("manifest.json");
    if let Some(recorded_manifest) = Manifest::read(&path)? {
        let mut manifest = recorded_manifest.clone();
        for (&stage, entry) in &mut manifest.stages {
            let current = stage_settings(stage, &config)?;
            for key in ["model.path", "data.path", "data.images"] {
                if let (Some(recorded), Some(current)) = (entry.settings.get_mut(key), current.get(key)) {
                    recorded.clone_from(current);
                }
            }
        }
        if manifest != recorded_manifest {
            manifest.write(&path)?;
        }
    }
    record::replace_input_paths(&dir.join("config.toml"), &config)
}

/// Returns the path of the manifest of a stage file.
pub fn manifest_beside(file: &Path) -> PathBuf {
    with_suffix(file, ".manifest.json")
}

/// The differences between the recorded entry of a stage and its current one.
#[derive(Debug, Default)]
struct Differences {
    settings: Vec<Change>,
    inputs: Vec<Change>,
}

impl Differences {
    /// Compares two entries. Everything differs if `recorded` is `None`.
    fn find(recorded: Option<&StageEntry>, current: &StageEntry) -> Self {
        let empty = StageEntry::default();
        let is_new = recorded.is_none();
        let recorded = recorded.unwrap_or(&empty);
        let mut found = Self {
            settings: Change::between(&recorded.settings, &current.settings),
            inputs: Change::between(&recorded.inputs, &current.inputs),
        };
        if is_new && found.is_empty() {
            // a stage without settings and inputs still needs an entry
            found.inputs.push(Change { key: "manifest".into(), old: None, new: None });
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.inputs.is_empty()
    }

    /// Adds the differences of another stage, without duplicates.
    fn add(&mut self, other: Self) {
        for (all, new) in [(&mut self.settings, other.settings), (&mut self.inputs, other.inputs)] {
            for change in new {
                if !all.contains(&change) {
                    all.push(change);
                }
            }
        }
    }

    fn into_error(self, path: &Path) -> BpoError {
        BpoError::Changed { path: path.to_owned(), settings: self.settings, inputs: self.inputs }
    }
}
