//! The directory of a run.
//!
//! ```text
//! config.toml       the resolved settings
//! manifest.json     settings, fingerprints of inputs, and counts of each stage
//! weakened.jsonl    the model's answers about weakened images, or why they were skipped
//! judged.jsonl      the answers of weakened.jsonl with the scores of a judge, if one is asked
//! injected.jsonl    annotated answers with injected errors, or why they were skipped
//! pairs.jsonl       preference pairs
//! skipped.jsonl     everything that is not trained on, with reasons
//! metrics.jsonl     metrics of each training step
//! eval.jsonl        metrics of each evaluation, if there are evaluations
//! samples.jsonl     answers of the policy during training, if `train.sample_every` is set
//! checkpoints/      training checkpoints
//! tensorboard/      the metrics as event files, if `train.tensorboard` is set
//! report/           curves.png: plots of the metrics
//! adapter/          the result: a PEFT adapter
//! model/            the result of full fine-tuning: a whole checkpoint
//! result.json       fingerprint of the result
//! lock              locked while a process uses the directory
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use bpo_pairs::files::{read_bytes, write_bytes};
use bpo_pairs::{Fingerprint, Limits};
use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::fingerprint_checkpoint;
use crate::rounds::{RoundsError, round_dir};

/// A run directory, locked against other processes while the value lives.
///
/// The operating system releases the lock when the process ends.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Creates the directory if it does not exist, and locks it.
    ///
    /// # Errors
    /// Returns [`BpoError::Io`] if the directory cannot be created or written, [`BpoError::Locked`]
    /// if another process uses it, or [`BpoError::NotARun`] if it is not empty and holds no run, or
    /// [`RoundsError::Unexpected`].
    pub fn open(root: &Path) -> Result<Self, BpoError> {
        fs::create_dir_all(root).map_err(BpoError::io("create the directory", root))?;
        check_ours(root)?;
        let path = root.join("lock");
        let lock =
            File::options().create(true).append(true).open(&path).map_err(BpoError::io("write", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BpoError::Locked { path: root.to_owned() }),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "this file system does not support locks");
            }
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Returns the path of `manifest.json`.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// Returns the path of `weakened.jsonl`.
    pub fn weakened(&self) -> PathBuf {
        self.root.join("weakened.jsonl")
    }

    /// Returns the path of `judged.jsonl`.
    pub fn judged(&self) -> PathBuf {
        self.root.join("judged.jsonl")
    }

    /// Returns the path of `injected.jsonl`.
    pub fn injected(&self) -> PathBuf {
        self.root.join("injected.jsonl")
    }

    /// Returns the path of `pairs.jsonl`.
    pub fn pairs(&self) -> PathBuf {
        self.root.join("pairs.jsonl")
    }

    /// Returns the path of `skipped.jsonl`.
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped.jsonl")
    }

    /// Returns the path of `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Returns the path of `eval.jsonl`.
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("eval.jsonl")
    }

    /// Returns the path of `report/curves.png`.
    pub fn curves(&self) -> PathBuf {
        self.root.join("report").join("curves.png")
    }

    /// Returns the path of `samples.jsonl`.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.jsonl")
    }

    /// Returns the files and directories of training that tell its progress or hold its results.
    pub(crate) fn files_of_training(&self) -> [PathBuf; 6] {
        [self.metrics(), self.evaluations(), self.samples(), self.checkpoints(), self.adapter(), self.model()]
    }

    /// Returns the path of `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Returns the path of `adapter/`.
    pub fn adapter(&self) -> PathBuf {
        self.root.join("adapter")
    }

    /// Returns the path of `model/`.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// Returns all paths that training may write, replace or remove in a directory, for any
    /// settings.
    pub(crate) fn outputs_of_training(root: &Path) -> Vec<PathBuf> {
        const NAMES: [&str; 11] = [
            "lock",
            "metrics.jsonl",
            "eval.jsonl",
            "samples.jsonl",
            "checkpoints",
            "tensorboard",
            "report",
            "adapter",
            "model",
            "manifest.json",
            "result.json",
        ];
        NAMES.map(|name| root.join(name)).into()
    }

    /// Returns all paths that the stages before training may write, replace or remove in a
    /// directory.
    pub(crate) fn outputs_of_stages(root: &Path) -> Vec<PathBuf> {
        const NAMES: [&str; 5] =
            ["weakened.jsonl", "judged.jsonl", "injected.jsonl", "pairs.jsonl", "skipped.jsonl"];
        NAMES.map(|name| root.join(name)).into()
    }

    /// Returns the path of the training result: [`adapter`](Self::adapter) or
    /// [`model`](Self::model).
    pub fn result(&self, config: &RunConfig) -> PathBuf {
        self.root.join(config.result_name())
    }

    /// Returns whether the result exists and is the one that [`record_result`](Self::record_result)
    /// recorded.
    pub fn has_result(&self, config: &RunConfig) -> bool {
        has_result(&self.root, config)
    }

    /// Records the fingerprint of the result, for [`has_result`](Self::has_result).
    ///
    /// # Errors
    /// Returns an error if the result cannot be read or the record cannot be written.
    pub fn record_result(&self, config: &RunConfig) -> Result<(), BpoError> {
        let path = self.root.join(RESULT_RECORD);
        let record = ResultRecord { fingerprint: fingerprint_checkpoint(&self.result(config))? };
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|source| BpoError::Json { path: path.clone(), source })?;
        Ok(write_bytes(&path, &text)?)
    }
}

/// The file with the fingerprint of the result.
const RESULT_RECORD: &str = "result.json";

/// Returns whether a directory has the training result that its `result.json` records.
pub(crate) fn has_result(root: &Path, config: &RunConfig) -> bool {
    let recorded = read_bytes(&root.join(RESULT_RECORD), Limits::DEFAULT.settings_bytes).ok();
    let recorded = recorded.and_then(|text| serde_json::from_slice::<ResultRecord>(&text).ok());
    recorded.is_some_and(|recorded| {
        let result = root.join(config.result_name());
        fingerprint_checkpoint(&result).is_ok_and(|found| found == recorded.fingerprint)
    })
}

/// The content of `result.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultRecord {
    /// Fingerprint of the directory of the result.
    fingerprint: Fingerprint,
}

/// Names by which a run directory is recognized.
const OURS: [&str; 8] = [
    "lock",
    "config.toml",
    "manifest.json",
    "weakened.jsonl",
    "injected.jsonl",
    "pairs.jsonl",
    "metrics.jsonl",
    "checkpoints",
];

fn check_ours(root: &Path) -> Result<(), BpoError> {
    let mut entries = fs::read_dir(root).map_err(BpoError::io("read the directory", root))?;
    if entries.next().is_none() || OURS.iter().any(|name| root.join(name).exists()) {
        return Ok(());
    }
    let path = root.to_owned();
    if round_dir(root, 0).is_dir() {
        return Err(RoundsError::Unexpected { path }.into());
    }
    Err(BpoError::NotARun { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/run");
        let run = RunDir::open(&root).unwrap();
        assert_eq!(run.pairs(), root.join("pairs.jsonl"));
        assert!(matches!(RunDir::open(&root), Err(BpoError::Locked { path }) if path == root));
        drop(run);
        RunDir::open(&root).unwrap();
    }

    #[test]
    fn directory_of_another_program_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        assert!(matches!(RunDir::open(dir.path()), Err(BpoError::NotARun { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(dir.path().join("pairs.jsonl"), "").unwrap();
        RunDir::open(dir.path()).unwrap();
    }

    #[test]
    fn file_instead_of_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run");
        fs::write(&file, "").unwrap();
        let error = RunDir::open(&file).unwrap_err();
        assert!(matches!(error, BpoError::Io { .. }) && error.to_string().contains("run"), "{error}");
    }
}
