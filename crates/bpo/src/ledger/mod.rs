//! The run ledger: decides whether stages can be continued, and records their results.
//!
//! | where | file |
//! |---|---|
//! | run directory | `manifest.json`, an entry for each stage |
//! | file of a stage command | `FILE.manifest.json` beside it, one entry |
//!
//! An entry holds the settings and the fingerprints of the inputs that affect the results of its
//! stage. A stage with results can only be continued with the same settings and inputs. Each
//! section of [`RunConfig`] declares which stages its settings affect. Inputs are compared by
//! content, and images by the names and sizes of their files, so they may move. A stage file
//! without any answer does not bind the settings: the stage starts again with the new ones. A file
//! without a manifest was not written by bpo and is never changed. The lock of a stage file is
//! taken before its manifest is read or written.
//!
//! The entry of a finished stage also holds the length and the fingerprint of its files. A file
//! that was changed afterwards is an error if later files were made from it. Otherwise its stage is
//! not finished any more, with a warning.

mod answers;
mod bound;
mod differences;
mod files;
mod inputs;
mod manifest;
mod record;
mod stage_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo_pairs::PairsError;
use bpo_pairs::files::{AppendLog, create_parents};

pub use answers::{AnswerProblem, check_answers, weakened_shard};
pub use bound::bind_dir;
pub use files::{ChangedFile, FileChange, FileRecord};
pub use inputs::Inputs;
pub use manifest::{Manifest, StageEntry};

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::paths::with_suffix;
use crate::run_dir::{self, RunDir};
use crate::stage::Stage;
use crate::stages::StageFile;
use crate::summary::StageSummary;
use differences::Differences;
use files::Place;
pub(crate) use stage_files::has_content;

/// The stages that have an entry in the manifest of a run.
const RUN: [Stage; 6] = [Stage::Data, Stage::Weaken, Stage::Judge, Stage::Inject, Stage::Pair, Stage::Train];

/// The manifest of a run directory or of a stage file, checked against the current settings and
/// inputs.
#[derive(Clone, Debug)]
pub struct StageLedger {
    path: PathBuf,
    place: Place,
    manifest: Manifest,
}

impl StageLedger {
    /// Opens the ledger of a run, and records the settings in `config.toml`.
    ///
    /// # Errors
    /// Returns [`BpoError::Changed`] with all settings and inputs that differ from those of a stage
    /// with results, [`BpoError::Missing`] if the file of a stage is missing although later files
    /// exist, [`BpoError::FilesChanged`] if the file of a finished stage was changed although later
    /// files were made from it, [`BpoError::NotOurs`] if bpo did not write `config.toml`, or an
    /// error if a file cannot be read or written.
    pub fn open_run(config: &RunConfig, inputs: &Inputs, dir: &RunDir) -> Result<Self, BpoError> {
        let path = dir.manifest();
        let recorded_manifest = Manifest::read(&path)?;
        // with other chosen answers than recorded, the difference of the settings is the error
        let has_stage = |stage| {
            let recorded = recorded_manifest.as_ref().filter(|manifest| !manifest.stages.is_empty());
            config.has_stage(stage) && recorded.is_none_or(|manifest| manifest.stages.contains_key(&stage))
        };
        let mut results = stage_files::existing(dir, has_stage)?;
        record::check_ours(&dir.config())?;
        let mut manifest = recorded_manifest.clone().unwrap_or_default();
        let differences = |stage| -> Result<Differences, BpoError> {
            let recorded = recorded_manifest.as_ref().and_then(|manifest| manifest.stages.get(&stage));
            Ok(Differences::find(recorded, &StageEntry::new(stage, config, inputs)?))
        };
        // a stage without any answer starts again if no later stage has results
        while let Some((stage @ (Stage::Weaken | Stage::Judge | Stage::Inject), path)) = results.last()
            && !differences(*stage)?.is_empty()
        {
            let mut file = StageFile::open(path)?;
            if file.has_answers() {
                break;
            }
            file.clear()?;
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
        let is_finished = |manifest: &Manifest, stage| {
            manifest.stages.get(&stage).is_some_and(|entry: &StageEntry| entry.finished.is_some())
        };
        let is_trained = is_finished(&manifest, Stage::Train) && dir.has_result(config);
        files::check_run(dir, &mut manifest, is_trained)?;
        for stage in RUN.into_iter().filter(|stage| config.has_stage(*stage)) {
            let has_results = results.iter().any(|(with_results, _)| *with_results == stage);
            // the data has no file; its changes are changes of the stages that read it
            let has_results = has_results || stage == Stage::Data && differences(stage)?.is_empty();
            // a stage without results starts again, and an unfinished one takes the settings that
            // may change until it is finished
            let current = StageEntry::new(stage, config, inputs)?;
            match manifest.stages.get_mut(&stage) {
                Some(entry) if has_results && entry.finished.is_some() => entry.take_images(&current),
                _ => drop(manifest.stages.insert(stage, current)),
            }
        }
        let mut ledger = Self { path, place: Place::Run(dir.root().to_owned()), manifest };
        if recorded_manifest.as_ref() != Some(&ledger.manifest) {
            ledger.write()?;
        }
        record::write(&dir.config(), config)?;
        Ok(ledger)
    }

    /// Opens and locks the file of a single stage, and opens the ledger beside it. Missing
    /// directories are created. `inputs` are the inputs of the stage.
    ///
    /// The manifest belongs to the process that has the lock. So the file must be held until the
    /// stage is recorded as [finished](Self::finish). A file that was changed after its stage had
    /// finished is continued with a warning.
    ///
    /// # Errors
    /// Returns [`BpoError::Changed`] with all settings and inputs that differ if the file has an
    /// answer, [`BpoError::NoManifest`] if the file is not empty and has no manifest,
    /// [`BpoError::OtherStage`] if another stage made it, or an error if a file cannot be read or
    /// written, or is locked by another process.
    pub fn open_file(
        stage: Stage,
        config: &RunConfig,
        inputs: &Inputs,
        path: &Path,
    ) -> Result<(Self, StageFile), BpoError> {
        let config = config.clone().with_absolute_paths()?;
        let current = StageEntry::new(stage, &config, inputs)?;
        create_parents(path)?;
        let log = AppendLog::open(path).map_err(PairsError::from)?;
        let beside = manifest_beside(path);
        let mut stages = Manifest::read(&beside)?.map(|manifest| manifest.stages).unwrap_or_default();
        let recorded = stages.remove(&stage);
        if !log.is_empty() && recorded.is_none() {
            let path = path.to_owned();
            return Err(match stages.into_keys().next() {
                Some(found) => BpoError::OtherStage { path, stage, found },
                None => BpoError::NoManifest { path, manifest: beside },
            });
        }
        let mut file = StageFile::from_log(log)?;
        let place = Place::File(path.to_owned());
        let differences = Differences::find(recorded.as_ref(), &current);
        let has_records = file.answers().records().next().is_some();
        let entry = match recorded {
            Some(mut recorded) if has_records && differences.is_empty() => {
                let changed = place.changed(stage, &recorded)?;
                files::reopen(&mut recorded, &changed);
                recorded.take_images(&current);
                recorded
            }
            Some(_) if file.has_answers() => return Err(differences.into_error(path)),
            _ => {
                file.clear()?;
                current
            }
        };
        let mut ledger = Self { path: beside, place, manifest: Manifest::default() };
        ledger.manifest.stages.insert(stage, entry);
        ledger.write()?;
        Ok((ledger, file))
    }

    /// Opens the ledger of the training in `dir`, which is part of a run or stands alone. `inputs`
    /// are the inputs of training. If the training has no results yet, the settings are recorded in
    /// `config.toml`.
    ///
    /// # Errors
    /// Returns [`BpoError::Changed`] with all settings and inputs that differ if there are results,
    /// [`BpoError::NoManifest`] if there are results but no manifest, [`BpoError::FilesChanged`] if
    /// the files of a finished training were changed, [`BpoError::NotOurs`] if bpo did not write
    /// `config.toml`, or an error if a file cannot be read or written.
    pub fn open_training(config: &RunConfig, inputs: &Inputs, dir: &RunDir) -> Result<Self, BpoError> {
        let has_any = |paths: &[PathBuf]| paths.iter().any(|path| has_content(path));
        let has_started = has_any(&dir.files_of_training());
        let is_in_run = has_any(&[dir.weakened(), dir.judged(), dir.injected()]);
        let (path, root) = (dir.manifest(), dir.root().to_owned());
        let manifest = Manifest::read(&path)?.unwrap_or_default();
        let current = StageEntry::new(Stage::Train, config, inputs)?;
        let recorded = manifest.stages.get(&Stage::Train);
        if recorded.is_none() && has_started {
            return Err(BpoError::NoManifest { path: root, manifest: path });
        }
        let differences = Differences::find(recorded, &current);
        let is_binding = has_started || is_in_run && recorded.is_some();
        if is_binding && !differences.is_empty() {
            return Err(differences.into_error(&root));
        }
        let finished = recorded.filter(|recorded| recorded.finished.is_some() && dir.has_result(config));
        if let Some(finished) = finished {
            files::check_training(dir, finished)?;
        }
        if !(is_binding && is_in_run) {
            record::write(&dir.config(), config)?;
        }
        let is_finished = finished.is_some();
        let mut ledger = Self { path, place: Place::Run(root), manifest };
        match ledger.manifest.stages.get_mut(&Stage::Train) {
            Some(entry) if has_started && is_finished => entry.take_images(&current),
            _ => drop(ledger.manifest.stages.insert(Stage::Train, current)),
        }
        ledger.write()?;
        Ok(ledger)
    }

    /// Returns the stages that are not finished in the run in a directory, without locking the
    /// directory. Without a run it returns all stages. A stage is not finished if its result is
    /// missing or damaged, or its file has another length than when it finished.
    ///
    /// # Errors
    /// Returns an error if the manifest exists and cannot be read.
    pub fn unfinished(run: &Path, config: &RunConfig) -> Result<Vec<Stage>, BpoError> {
        let manifest = Manifest::read(&run.join("manifest.json"))?.unwrap_or_default();
        let place = Place::Run(run.to_owned());
        let is_recorded = |stage: Stage| {
            let entry = manifest.stages.get(&stage).filter(|entry| entry.finished.is_some());
            entry.is_some_and(|entry| place.has_lengths(stage, entry))
        };
        let has_result = |stage: Stage| match stage {
            Stage::Weaken => has_content(&run.join("weakened.jsonl")),
            Stage::Judge => has_content(&run.join("judged.jsonl")),
            Stage::Inject => has_content(&run.join("injected.jsonl")),
            Stage::Pair => has_content(&run.join("pairs.jsonl")),
            Stage::Train => has_content(&run.join("metrics.jsonl")) && run_dir::has_result(run, config),
            Stage::Data | Stage::Reference => true,
        };
        let is_unfinished = |stage: &Stage| !(is_recorded(*stage) && has_result(*stage));
        Ok(RUN.into_iter().filter(|stage| config.has_stage(*stage)).filter(is_unfinished).collect())
    }

    /// Returns whether a stage is complete.
    pub fn is_finished(&self, stage: Stage) -> bool {
        self.manifest.stages.get(&stage).is_some_and(|entry| entry.finished.is_some())
    }

    /// Records that a stage is complete, with the length and content of its files.
    ///
    /// # Errors
    /// Returns an error if a file of the stage cannot be read, or the manifest cannot be written.
    pub fn finish(&mut self, stage: Stage, summary: &StageSummary) -> Result<(), BpoError> {
        let files = self.place.record(stage)?;
        let entry = self.manifest.stages.entry(stage).or_default();
        entry.finished = Some(summary.clone());
        entry.files = files;
        self.write()
    }

    /// Records the fingerprint of the training result in `dir`, and that training is complete.
    ///
    /// # Errors
    /// Returns an error if the result cannot be read or a file cannot be written.
    pub fn finish_training(
        &mut self,
        config: &RunConfig,
        dir: &RunDir,
        summary: &StageSummary,
    ) -> Result<(), BpoError> {
        dir.record_result(config)?;
        self.finish(Stage::Train, summary)
    }

    /// Removes from the file of a stage the skipped items of this stage whose reason [may
    /// change](bpo_pairs::SkipReason::may_change), so that the stage makes them again, and returns
    /// their number.
    ///
    /// The stage is recorded as unfinished first. So a process that is killed leaves a stage that
    /// the next one continues: with the skipped items, or by making them again.
    ///
    /// # Errors
    /// Returns an error if the manifest or the file cannot be written.
    pub fn retry_skipped(&mut self, stage: Stage, file: &mut StageFile) -> Result<usize, BpoError> {
        let count = file.count_retryable(stage);
        if count > 0 {
            self.restart(stage)?;
            file.remove_skipped(stage)?;
        }
        Ok(count)
    }

    /// Records that a stage is not complete, because its result is made again.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn restart(&mut self, stage: Stage) -> Result<(), BpoError> {
        let entry = self.manifest.stages.entry(stage).or_default();
        entry.finished = None;
        entry.files.clear();
        self.write()
    }

    /// Returns the counts of the finished stages.
    pub fn summaries(&self) -> BTreeMap<Stage, StageSummary> {
        let finished = |(&stage, entry): (&Stage, &StageEntry)| Some((stage, entry.finished.clone()?));
        self.manifest.stages.iter().filter_map(finished).collect()
    }

    fn write(&mut self) -> Result<(), BpoError> {
        self.manifest.write(&self.path)
    }
}

/// Returns the path of the manifest of a stage file.
pub fn manifest_beside(file: &Path) -> PathBuf {
    with_suffix(file, ".manifest.json")
}
