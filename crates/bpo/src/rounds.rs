//! Several rounds of BPO: each starts from the result of the one before.
//!
//! ```text
//! round-0/    a run: answers and pairs of the model, and an adapter
//! round-1/    a run with the adapter of round 0, which answers, is trained on and is the reference
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use bpo_pairs::UntrustedPath;

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::progress::Progress;
use crate::run::{PipelineBackend, RunReport, RunStatus, run_after};

/// A directory holds rounds, or none, contrary to what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundsError {
    /// A directory for a single run holds rounds.
    #[error("{} holds rounds: give --rounds as before, or another --out", UntrustedPath(path))]
    Unexpected {
        /// The directory.
        path: PathBuf,
    },
    /// A directory for rounds is not empty and has no first round, or holds a run of its own.
    #[error(
        "{} is not empty and has no round-0: give another --out. To continue a run without rounds, start the rounds from \
         its adapter with --adapter",
        UntrustedPath(path)
    )]
    Others {
        /// The directory.
        path: PathBuf,
    },
    /// A directory has no rounds to read.
    #[error("{} has no rounds: name the --out of `bpo run --rounds`", UntrustedPath(path))]
    Missing {
        /// The directory.
        path: PathBuf,
    },
}

/// Prefix of the directory of a round.
pub(crate) const PREFIX: &str = "round-";

/// Returns the run directory of a round, counted from 0.
pub fn round_dir(out: &Path, round: usize) -> PathBuf {
    out.join(format!("{PREFIX}{round}"))
}

/// Returns the settings of a round. From round 1 on, the model is the result of the round before:
/// [`model.adapter`](crate::config::ModelSection::adapter) is its adapter or, with full
/// fine-tuning, [`model.path`](crate::config::ModelSection::path) its checkpoint. The reference is
/// then that model as well.
pub fn round_config(config: &RunConfig, out: &Path, round: usize) -> RunConfig {
    let mut config = config.clone();
    config.rounds = None;
    if let Some(before) = round.checked_sub(1) {
        let result = Some(round_dir(out, before).join(config.result_name()));
        if config.full_finetune.is_some() {
            config.model.path = result;
        } else {
            config.model.adapter = result;
        }
    }
    config
}

/// Does [`rounds`](RunConfig::rounds) runs (one if it is not set) in directories below `out`, or
/// resumes them. Each round answers about weakened images with the result of the round before, makes
/// pairs, and trains that model on them with itself as the reference. Round 0 is
/// [`run()`](crate::run()).
///
/// Rewritten answers with injected errors do not depend on the model, so each round takes them from
/// the one before, unless [the model itself](crate::config::InjectSection::with_model) rewrites them.
/// `backend` creates the backend of each round, from its number and its [settings](round_config), when
/// the round starts. Returns the reports of all rounds up to the one that was stopped, if one was.
///
/// # Errors
/// Returns [`BpoError::Conflict`] if a setting fixes the answering model or the reference of all
/// rounds, or the data is not a file, [`RoundsError::Others`] if `out` is not empty and has no first
/// round, or the errors of [`run()`](crate::run()).
pub fn run_rounds<B: PipelineBackend>(
    config: &RunConfig,
    out: &Path,
    mut backend: impl FnMut(usize, &RunConfig) -> Result<B, BpoError>,
    progress: &mut dyn Progress,
) -> Result<Vec<RunReport>, BpoError> {
    config.validate()?;
    check_settings(config)?;
    check_data(config)?;
    check_dir(out)?;
    let mut reports = Vec::new();
    for round in 0..config.rounds.unwrap_or(1) {
        let _span = tracing::info_span!("round", round).entered();
        let config = round_config(config, out, round);
        let before = round.checked_sub(1).filter(|_| !config.inject.with_model);
        let before = before.map(|before| round_dir(out, before));
        let mut backend = backend(round, &config)?;
        let report = run_after(before.as_deref(), &config, &round_dir(out, round), &mut backend, progress)?;
        let is_stopped = report.status == RunStatus::Stopped;
        reports.push(report);
        if is_stopped {
            break;
        }
    }
    Ok(reports)
}

/// Checks that no setting keeps later rounds from using the result of the round before.
fn check_settings(config: &RunConfig) -> Result<(), BpoError> {
    #[cfg(feature = "server")]
    let answers_elsewhere = config.weaken.server.is_some();
    #[cfg(not(feature = "server"))]
    let answers_elsewhere = false;
    let reference = "each round has the model that it starts from as its reference";
    for (key, is_set, reason) in [
        ("weaken.server", answers_elsewhere, "the trained model must answer, and the server has another"),
        ("reference.path", config.reference.path.is_some(), reference),
        ("reference.adapter", config.reference.adapter.is_some(), reference),
        ("reference.cache", config.reference.cache.is_some(), reference),
    ] {
        if is_set {
            return Err(BpoError::Conflict { key: key.into(), with: "`rounds`".to_owned(), reason });
        }
    }
    Ok(())
}

/// Checks that each round can read the data.
fn check_data(config: &RunConfig) -> Result<(), BpoError> {
    let path = config.data_path()?;
    let file = fs::metadata(path).map_err(BpoError::io("open", path))?;
    if file.is_file() || file.is_dir() {
        return Ok(());
    }
    let (with, reason) = ("data from a pipe".to_owned(), "each round reads the data: write it to a file");
    Err(BpoError::Conflict { key: "rounds".into(), with, reason })
}

/// Checks that a directory is missing, empty, or has rounds and no other run.
fn check_dir(out: &Path) -> Result<(), BpoError> {
    let mut entries = match fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(BpoError::io("read the directory", out))?,
    };
    let is_run = out.join("manifest.json").exists();
    if entries.next().is_none() || round_dir(out, 0).is_dir() && !is_run {
        return Ok(());
    }
    Err(RoundsError::Others { path: out.to_owned() }.into())
}
