//! `config.toml`: the resolved settings, for users. It does not decide whether a stage can be
//! continued; the manifest does.

use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::{FileError, read_text, write_bytes};

use crate::config::RunConfig;
use crate::error::BpoError;

/// First line of every `config.toml` that bpo writes. A file without it is not overwritten.
const MARK: &str = "# Settings of bpo, as they were resolved.";
const LIMIT: u64 = Limits::DEFAULT.settings_bytes;

/// Checks that a file does not exist, is empty, or was written by [`write()`].
///
/// # Errors
/// Returns [`BpoError::NotOurs`] if the file has other content, or an error if it cannot be read.
pub(super) fn check_ours(path: &Path) -> Result<(), BpoError> {
    match read_text(path, LIMIT) {
        Ok(text) if text.is_empty() || text.starts_with(MARK) => Ok(()),
        // a file that is not text was not written by bpo
        Ok(_) | Err(FileError::NotText { .. } | FileError::TooLarge { .. }) => {
            Err(BpoError::NotOurs { path: path.to_owned() })
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the settings, unless the file already has them.
///
/// # Errors
/// Returns the errors of [`check_ours`], and an error if the file cannot be written.
pub(super) fn write(path: &Path, config: &RunConfig) -> Result<(), BpoError> {
    check_ours(path)?;
    let text = format!("{MARK}\n\n{}", config.to_toml()?);
    if read_text(path, LIMIT).is_ok_and(|there| there == text) {
        return Ok(());
    }
    Ok(write_bytes(path, text.as_bytes())?)
}
