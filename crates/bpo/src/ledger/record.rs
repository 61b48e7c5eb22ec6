//! `config.toml`: the resolved settings, for the user. The manifest decides whether a stage may be continued.

use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::{FileError, read_text, write_bytes};

use crate::config::RunConfig;
use crate::error::BpoError;

/// The first line of every file that bpo writes. One without it is somebody else's, and is not written over.
const MARK: &str = "# Settings of bpo, as they were resolved.";
const LIMIT: u64 = Limits::DEFAULT.settings_bytes;

/// Checks that a file is not there, is empty, or was written by [`write()`].
///
/// # Errors
/// [`BpoError::NotOurs`]; if the file cannot be read.
pub(super) fn check_ours(path: &Path) -> Result<(), BpoError> {
    match read_text(path, LIMIT) {
        Ok(text) if text.is_empty() || text.starts_with(MARK) => Ok(()),
        // anything but text is not ours either
        Ok(_) | Err(FileError::NotText { .. } | FileError::TooLarge { .. }) => {
            Err(BpoError::NotOurs { path: path.to_owned() })
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the settings, unless the file has them.
///
/// # Errors
/// As [`check_ours`], or if the file cannot be written.
pub(super) fn write(path: &Path, config: &RunConfig) -> Result<(), BpoError> {
    check_ours(path)?;
    let text = format!("{MARK}\n\n{}", config.to_toml()?);
    if read_text(path, LIMIT).is_ok_and(|there| there == text) {
        return Ok(());
    }
    Ok(write_bytes(path, text.as_bytes())?)
}

/// Replaces the paths of the checkpoint, the data and the images, and keeps everything else. Does nothing if there is
/// no file.
///
/// # Errors
/// As [`write()`]; if the file cannot be read.
pub(super) fn replace_input_paths(path: &Path, config: &RunConfig) -> Result<(), BpoError> {
    if !path.exists() {
        return Ok(());
    }
    check_ours(path)?;
    let mut recorded = RunConfig::read(path)?;
    recorded.model.path.clone_from(&config.model.path);
    recorded.data.path.clone_from(&config.data.path);
    recorded.data.images.clone_from(&config.data.images);
    write(path, &recorded)
}
