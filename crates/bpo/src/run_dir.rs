//! The directory of a run.
//!
//! ```text
//! config.toml       the settings, resolved
//! manifest.json     fingerprints of what it was made from, and what each stage did
//! weakened.jsonl    the model's answers about weakened images, or why there is none
//! injected.jsonl    annotated answers with errors, or why there is none
//! pairs.jsonl       preference pairs
//! skipped.jsonl   all that is not trained on, and why
//! metrics.jsonl     figures of each training step
//! eval.jsonl        figures of each evaluation, where there are any
//! samples.jsonl     answers while training, where they are asked for
//! checkpoints/      where training stands
//! report/           curves.png: how training went
//! adapter/          the result, as PEFT has it
//! model/            the result where there is no adapter: a whole checkpoint
//! result.json       fingerprint of the result
//! lock              held while a process works here
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use bpo_pairs::Fingerprint;
use bpo_pairs::files::write_bytes;
use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, fingerprint_checkpoint};

/// A directory that no other process works in, for as long as the value lives.
///
/// The lock is the operating system's, so it ends with the process, however that ends.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// [`BpoError::Io`] if it cannot be made or written; [`BpoError::Locked`]; [`BpoError::NotARun`] if it holds something, and
    /// nothing of a run.
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
                tracing::warn!(path = %path.display(), %error, "this file system has no locks");
            }
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `manifest.json`
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// `weakened.jsonl`
    pub fn weakened(&self) -> PathBuf {
        self.root.join("weakened.jsonl")
    }

    /// `injected.jsonl`
    pub fn injected(&self) -> PathBuf {
        self.root.join("injected.jsonl")
    }

    /// `pairs.jsonl`
    pub fn pairs(&self) -> PathBuf {
        self.root.join("pairs.jsonl")
    }

    /// `skipped.jsonl`
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped.jsonl")
    }

    /// `metrics.jsonl`
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `eval.jsonl`
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("eval.jsonl")
    }

    /// `report/curves.png`
    pub fn curves(&self) -> PathBuf {
        self.root.join("report").join("curves.png")
    }

    /// `samples.jsonl`
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.jsonl")
    }

    /// `checkpoints/`
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `adapter/`
    pub fn adapter(&self) -> PathBuf {
        self.root.join("adapter")
    }

    /// `model/`
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// `result.json`
    fn result_record(&self) -> PathBuf {
        self.root.join("result.json")
    }

    /// All that training writes, replaces or removes in a directory, whatever it trains: the names are reserved.
    pub(crate) fn outputs_of_training(root: &Path) -> Vec<PathBuf> {
        const NAMES: [&str; 10] = [
            "lock",
            "metrics.jsonl",
            "eval.jsonl",
            "samples.jsonl",
            "checkpoints",
            "report",
            "adapter",
            "model",
            "manifest.json",
            "result.json",
        ];
        NAMES.map(|name| root.join(name)).into()
    }

    /// The same of the stages before it.
    pub(crate) fn outputs_of_stages(root: &Path) -> Vec<PathBuf> {
        const NAMES: [&str; 4] = ["weakened.jsonl", "injected.jsonl", "pairs.jsonl", "skipped.jsonl"];
        NAMES.map(|name| root.join(name)).into()
    }

    /// What training with these settings makes: [`adapter`](Self::adapter) or [`model`](Self::model).
    pub fn result(&self, config: &RunConfig) -> PathBuf {
        self.root.join(config.result_name())
    }

    /// Whether the result is there, with the files that [`record_result`](Self::record_result) recorded.
    pub fn has_result(&self, config: &RunConfig) -> bool {
        let recorded = fs::read(self.result_record()).ok();
        let recorded = recorded.and_then(|text| serde_json::from_slice::<ResultRecord>(&text).ok());
        recorded.is_some_and(|recorded| {
            fingerprint_checkpoint(&self.result(config)).is_ok_and(|found| found == recorded.fingerprint)
        })
    }

    /// Records the files of the result, for [`has_result`](Self::has_result).
    ///
    /// # Errors
    /// If the result cannot be read or the record not be written.
    pub fn record_result(&self, config: &RunConfig) -> Result<(), BpoError> {
        let path = self.result_record();
        let record = ResultRecord { fingerprint: fingerprint_checkpoint(&self.result(config))? };
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|source| BpoError::Json { path: path.clone(), source })?;
        Ok(write_bytes(&path, &text)?)
    }

    /// Whether the adapter is there, with its weights.
    pub fn has_adapter(&self) -> bool {
        [ADAPTER_CONFIG, ADAPTER_WEIGHTS].iter().all(|name| self.adapter().join(name).exists())
    }
}

/// The content of `result.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultRecord {
    /// Fingerprint of the directory of the result.
    fingerprint: Fingerprint,
}

/// Names that only a run gives.
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
    match entries.next().is_none() || OURS.iter().any(|name| root.join(name).exists()) {
        true => Ok(()),
        false => Err(BpoError::NotARun { path: root.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/run");
        let run = RunDir::open(&root).unwrap();
        assert_eq!(run.pairs(), root.join("pairs.jsonl"));
        assert!(matches!(RunDir::open(&root), Err(BpoError::Locked { path }) if path == root));
        drop(run);
        RunDir::open(&root).unwrap();
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        assert!(matches!(RunDir::open(dir.path()), Err(BpoError::NotARun { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(dir.path().join("pairs.jsonl"), "").unwrap();
        RunDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run");
        fs::write(&file, "").unwrap();
        let error = RunDir::open(&file).unwrap_err();
        assert!(matches!(error, BpoError::Io { .. }) && error.to_string().contains("run"), "{error}");
    }
}
