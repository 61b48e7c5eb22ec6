//! The files of finished stages: their length and content, recorded when the stage finishes and
//! compared before a later stage or run uses them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bpo_pairs::{Fingerprint, UntrustedPath, fingerprint_file};
use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, StageEntry};
use super::stage_files::has_content;
use crate::error::BpoError;
use crate::run_dir::RunDir;
use crate::stage::Stage;

/// Length and content of a file at the time when its stage finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `bytes` and `sha256`")]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// Fingerprint of the content.
    pub sha256: Fingerprint,
}

/// A file of a finished stage that is not as the stage left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// The file.
    pub path: PathBuf,
    /// The stage that made it.
    pub stage: Stage,
    /// The difference.
    pub change: FileChange,
}

/// The difference between a file and its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The file does not exist.
    Missing,
    /// The length differs.
    Length {
        /// Length in bytes when the stage finished.
        was: u64,
        /// Length in bytes now.
        now: u64,
    },
    /// The length is the same, and the content differs.
    Content,
}

impl fmt::Display for ChangedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, stage, change } = self;
        let path = UntrustedPath(path);
        match change {
            FileChange::Missing => write!(f, "{path} is missing, although stage {stage} had finished"),
            FileChange::Length { was, now } => {
                write!(f, "{path} was changed after stage {stage} had finished ({was} bytes then, {now} now)")
            }
            FileChange::Content => {
                write!(
                    f,
                    "{path} was changed after stage {stage} had finished (other content of the same length)"
                )
            }
        }
    }
}

impl FileRecord {
    /// Reads a file. Returns `None` if it does not exist.
    fn of(path: &Path) -> Result<Option<Self>, BpoError> {
        let Some(bytes) = length(path)? else { return Ok(None) };
        Ok(Some(Self { bytes, sha256: fingerprint_file(path)? }))
    }

    /// Compares a file with its record. The content is read only if the length is the same.
    fn compare(&self, path: &Path) -> Result<Option<FileChange>, BpoError> {
        Ok(match length(path)? {
            None => Some(FileChange::Missing),
            Some(now) if now != self.bytes => Some(FileChange::Length { was: self.bytes, now }),
            Some(_) => (fingerprint_file(path)? != self.sha256).then_some(FileChange::Content),
        })
    }
}

/// Returns the length of a file, or `None` if it does not exist.
fn length(path: &Path) -> Result<Option<u64>, BpoError> {
    match fs::metadata(path) {
        Ok(there) => Ok(Some(there.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BpoError::io("read", path)(error)),
    }
}

/// The files of a stage in a run directory. The last two files of training exist only with
/// evaluations and samples.
const fn names(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Data | Stage::Reference => &[],
        Stage::Weaken => &["weakened.jsonl"],
        Stage::Judge => &["judged.jsonl"],
        Stage::Inject => &["injected.jsonl"],
        Stage::Pair => &["pairs.jsonl"],
        Stage::Train => &["metrics.jsonl", "eval.jsonl", "samples.jsonl"],
    }
}

/// Where the files of the stages are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A run directory.
    Run(PathBuf),
    /// The file of a single stage, with any name.
    File(PathBuf),
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Run(root) => root.join(name),
            Self::File(path) => path.clone(),
        }
    }

    /// Reads the files of a stage that exist.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn record(&self, stage: Stage) -> Result<BTreeMap<String, FileRecord>, BpoError> {
        let mut records = BTreeMap::new();
        for name in names(stage) {
            if let Some(record) = FileRecord::of(&self.path(name))? {
                records.insert((*name).to_owned(), record);
            }
        }
        Ok(records)
    }

    /// Returns the files of a finished stage that were changed afterwards. An unfinished stage has
    /// none.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn changed(&self, stage: Stage, entry: &StageEntry) -> Result<Vec<ChangedFile>, BpoError> {
        let mut changed = Vec::new();
        for name in names(stage) {
            let Some(record) = entry.files.get(*name).filter(|_| entry.finished.is_some()) else { continue };
            let path = self.path(name);
            if let Some(change) = record.compare(&path)? {
                changed.push(ChangedFile { path, stage, change });
            }
        }
        Ok(changed)
    }

    /// Returns whether the files of a stage have their recorded lengths. Their content is not read.
    pub(super) fn has_lengths(&self, stage: Stage, entry: &StageEntry) -> bool {
        let is_same = |name: &&str| {
            entry.files.get(*name).is_none_or(|record| {
                fs::metadata(self.path(name)).is_ok_and(|there| there.len() == record.bytes)
            })
        };
        names(stage).iter().all(is_same)
    }
}

/// Compares the files of the finished stages of a run with their records. `is_trained` tells
/// whether the run has its result.
///
/// A changed file from which later files were made is an error. A changed file without such later
/// files makes its stage unfinished, with a warning: answers that were removed are made again, and
/// pairs that were removed stay removed.
///
/// # Errors
/// Returns [`BpoError::FilesChanged`] with all files that an existing later file was made from, or
/// an error if a file cannot be read.
pub(super) fn check_run(dir: &RunDir, manifest: &mut Manifest, is_trained: bool) -> Result<(), BpoError> {
    let place = Place::Run(dir.root().to_owned());
    let is_paired = has_content(&dir.pairs());
    let mut all = Vec::new();
    for (stage, file, is_used) in [
        // a judge compares its records with the answers
        (Stage::Weaken, dir.weakened(), is_paired),
        (Stage::Judge, dir.judged(), is_paired),
        (Stage::Inject, dir.injected(), is_paired),
        (Stage::Pair, dir.pairs(), is_trained),
    ] {
        let Some(entry) = manifest.stages.get_mut(&stage).filter(|_| has_content(&file)) else { continue };
        let changed = place.changed(stage, entry)?;
        if is_used {
            all.extend(changed);
        } else {
            reopen(entry, &changed);
        }
    }
    if let Some(entry) = manifest.stages.get(&Stage::Train).filter(|_| is_trained) {
        all.extend(place.changed(Stage::Train, entry)?);
    }
    refuse(all, dir)
}

/// Compares the files of a finished training with their records.
///
/// # Errors
/// Returns [`BpoError::FilesChanged`], or an error if a file cannot be read.
pub(super) fn check_training(dir: &RunDir, entry: &StageEntry) -> Result<(), BpoError> {
    refuse(Place::Run(dir.root().to_owned()).changed(Stage::Train, entry)?, dir)
}

/// Makes a stage unfinished if its files were changed, with a warning.
pub(super) fn reopen(entry: &mut StageEntry, changed: &[ChangedFile]) {
    for file in changed {
        tracing::warn!("{file}; it is used as it is now");
        entry.finished = None;
        entry.files.clear();
    }
}

/// Returns the error for changed files, with the files to delete.
fn refuse(changed: Vec<ChangedFile>, dir: &RunDir) -> Result<(), BpoError> {
    let Some(first) = changed.first() else { return Ok(()) };
    let made = match first.stage {
        Stage::Weaken | Stage::Judge | Stage::Inject => vec![dir.pairs()],
        _ => Vec::new(),
    };
    let made = made.into_iter().chain(dir.files_of_training());
    let delete = made.filter(|path| has_content(path)).collect();
    Err(BpoError::FilesChanged { files: changed, delete })
}
