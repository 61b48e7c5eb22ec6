//! Checkpoints on disk.
//!
//! ```text
//! checkpoints/step-000010/trainable.safetensors   trainable parameters
//!                         optimizer.safetensors   state of AdamW
//!                         reference.safetensors   parameters of a moving reference
//!                         trainer_state.json      [`TrainerState`]
//!                         checksums.json          size and SHA-256 of each file
//! ```
//!
//! A checkpoint is a [`StagedDir`]: a process killed at any moment leaves either the whole
//! checkpoint or none.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bpo_pairs::files::{FileError, StagedDir, read_bytes, remove_owned_dir};
use bpo_pairs::{Fingerprint, Limits};
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::state::TrainerState;

const TRAINABLE: &str = "trainable.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const REFERENCE: &str = "reference.safetensors";
const STATE: &str = "trainer_state.json";
const CHECKSUMS: &str = "checksums.json";
const PREFIX: &str = "step-";

/// A checkpoint: everything that a run needs to resume.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The progress of the run.
    pub state: TrainerState,
    /// The trainable parameters, from [`save_trainable`](crate::save_trainable).
    pub trainable: Vec<u8>,
    /// The state of the optimizer, from
    /// [`PathOptimizer::to_bytes`](crate::PathOptimizer::to_bytes).
    pub optimizer: Vec<u8>,
    /// Parameters of a reference that [follows the policy](crate::ReferenceSync), in the same form
    /// as `trainable`.
    pub reference: Option<Vec<u8>>,
}

/// Size and checksum of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksum {
    bytes: u64,
    sha256: Fingerprint,
}

impl Checksum {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: Fingerprint::of(bytes) }
    }
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct CheckpointDir {
    root: PathBuf,
}

impl CheckpointDir {
    /// Creates a handle for `checkpoints/` in a run directory. Does not access the file system.
    pub fn new(run_dir: &Path) -> Self {
        Self { root: run_dir.join("checkpoints") }
    }

    /// Returns the directory of a step.
    pub fn path(&self, step: usize) -> PathBuf {
        self.root.join(format!("{PREFIX}{step:06}"))
    }

    /// Writes a checkpoint, then removes all but the last `keep` and the best one.
    ///
    /// # Errors
    /// Returns [`DpoError::Io`] or [`DpoError::File`] if a file cannot be written or a directory
    /// cannot be removed.
    pub fn save(&self, checkpoint: &Checkpoint, keep: usize) -> Result<PathBuf, DpoError> {
        let path = self.path(checkpoint.state.step);
        let json = |name: &str| {
            let path = path.join(name);
            move |source| DpoError::Json { path, source }
        };
        let state = serde_json::to_vec_pretty(&checkpoint.state).map_err(json(STATE))?;
        let mut files = vec![
            (TRAINABLE, checkpoint.trainable.as_slice()),
            (OPTIMIZER, &checkpoint.optimizer),
            (STATE, &state),
        ];
        files.extend(checkpoint.reference.as_deref().map(|reference| (REFERENCE, reference)));
        let checksums: BTreeMap<&str, Checksum> =
            files.iter().map(|(name, bytes)| (*name, Checksum::of(bytes))).collect();
        let checksums = serde_json::to_vec_pretty(&checksums).map_err(json(CHECKSUMS))?;
        files.push((CHECKSUMS, &checksums));
        // an existing checkpoint of this step is damaged: an intact one would have been loaded
        let staged = StagedDir::replacing(&path)?;
        for (name, bytes) in files {
            let path = staged.path().join(name);
            fs::write(&path, bytes).map_err(DpoError::io("write", &path))?;
        }
        staged.commit()?;
        let best = checkpoint.state.best.map(|best| best.step);
        for (step, old) in self.steps()?.into_iter().rev().skip(keep) {
            if Some(step) != best {
                remove_owned_dir(&old)?;
            }
        }
        Ok(path)
    }

    /// Loads the newest intact checkpoint that `check` accepts. Returns `None` if there is no
    /// checkpoint at all. Damaged ones, and those that `check` calls [damaged](DpoError::Damaged),
    /// are passed over with a warning.
    ///
    /// # Errors
    /// Returns [`DpoError::NoIntactCheckpoint`] if all are damaged, [`DpoError::Io`] if the
    /// directory cannot be read, and other errors of `check`.
    pub fn load_newest(
        &self,
        check: impl Fn(&Path, &Checkpoint) -> Result<(), DpoError>,
    ) -> Result<Option<(PathBuf, Checkpoint)>, DpoError> {
        let steps = self.steps()?;
        let count = steps.len();
        let mut newest = None;
        for (_, path) in steps.into_iter().rev() {
            let checked = load(&path).and_then(|checkpoint| check(&path, &checkpoint).map(|()| checkpoint));
            match checked {
                Ok(checkpoint) => return Ok(Some((path, checkpoint))),
                Err(error @ DpoError::Damaged { .. }) => {
                    let error = error.to_string();
                    tracing::warn!(path = %path.display(), error, "ignoring a damaged checkpoint");
                    newest = newest.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        let all = |newest| DpoError::NoIntactCheckpoint { path: self.root.clone(), count, newest };
        newest.map_or(Ok(None), |newest| Err(all(newest)))
    }

    /// Returns the checkpoint of a step.
    ///
    /// # Errors
    /// Returns [`DpoError::Damaged`] if a file is missing or has changed since it was written, or
    /// [`DpoError::Io`] if a file cannot be read.
    pub fn load(&self, step: usize) -> Result<Checkpoint, DpoError> {
        load(&self.path(step))
    }

    /// Returns the steps that have a directory, in ascending order, with the directories.
    fn steps(&self) -> Result<Vec<(usize, PathBuf)>, DpoError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(DpoError::io("list", &self.root))?,
        };
        let mut steps = Vec::new();
        for entry in entries {
            let entry = entry.map_err(DpoError::io("list", &self.root))?;
            let name = entry.file_name();
            let step =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|step| step.parse().ok());
            steps.extend(step.map(|step| (step, entry.path())));
        }
        steps.sort();
        Ok(steps)
    }
}

fn load(dir: &Path) -> Result<Checkpoint, DpoError> {
    let damaged = |path: &Path, reason: String| DpoError::Damaged { path: path.to_owned(), reason };
    let read = |name: &str, limit: u64| {
        let path = dir.join(name);
        read_bytes(&path, limit).map_err(|error| match error {
            FileError::TooLarge { limit, .. } => damaged(&path, format!("it has more than {limit} bytes")),
            FileError::NotAFile { found, .. } => damaged(&path, format!("it is {found}")),
            error if error.is_not_found() => damaged(&path, "it is missing".to_owned()),
            error => error.into(),
        })
    };
    let path = dir.join(CHECKSUMS);
    let checksums: BTreeMap<String, Checksum> =
        serde_json::from_slice(&read(CHECKSUMS, Limits::DEFAULT.settings_bytes)?)
            .map_err(|error| damaged(&path, error.to_string()))?;
    let verified = |name: &str| {
        let path = dir.join(name);
        let Some(expected) = checksums.get(name) else {
            return Err(damaged(&path, format!("{CHECKSUMS} does not list the file")));
        };
        let bytes = read(name, expected.bytes)?;
        let found = Checksum::of(&bytes);
        if found.bytes != expected.bytes {
            return Err(damaged(
                &path,
                format!("the file has {} bytes, not {}", found.bytes, expected.bytes),
            ));
        }
        if found != *expected {
            return Err(damaged(&path, "its SHA-256 differs from the recorded one".to_owned()));
        }
        Ok(bytes)
    };
    let path = dir.join(STATE);
    let state: TrainerState =
        serde_json::from_slice(&verified(STATE)?).map_err(|error| damaged(&path, error.to_string()))?;
    let reference = state.config.reference_sync.map(|_| verified(REFERENCE)).transpose()?;
    Ok(Checkpoint { state, trainable: verified(TRAINABLE)?, optimizer: verified(OPTIMIZER)?, reference })
}
