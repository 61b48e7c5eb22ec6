//! The settings of a stage that runs on its own: `FILE.settings.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use super::has_answers;
use crate::config::{RunConfig, Stage, changes};
use crate::error::BpoError;
use crate::summary::write_bytes;

/// Holds a stage's file to the settings that it was begun with, and keeps those beside it, all of them, resolved.
///
/// A file without a single answer holds nothing: with other settings it is begun anew. A run directory needs none of this,
/// it has its `config.toml`.
///
/// # Errors
/// [`BpoError::ConfigChanged`]; [`BpoError::NoSettings`] if there are answers and nothing tells how they were made; if a file
/// cannot be read or written.
pub fn hold(stage: Stage, config: &RunConfig, file: &Path) -> Result<(), BpoError> {
    let config = config.clone().with_absolute_paths()?;
    let settings = beside(file);
    let answered = has_answers(file)?;
    let changes = match settings.exists() {
        true => Some(changes(stage, &RunConfig::read(&settings)?, &config)?),
        false => None,
    };
    match changes {
        Some(changes) if changes.is_empty() => {}
        Some(changes) if answered => return Err(BpoError::ConfigChanged { path: file.to_owned(), changes }),
        None if answered => return Err(BpoError::NoSettings { path: file.to_owned(), settings }),
        _ => fs::remove_file(file).map_err(BpoError::io("remove", file))?,
    }
    write_bytes(&settings, config.to_toml()?.as_bytes())
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".settings.toml");
    name.into()
}
