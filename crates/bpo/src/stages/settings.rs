//! The settings of a stage that runs on its own: `FILE.settings.toml`.

use std::path::{Path, PathBuf};

use super::{has_answers, remove_unanswered};
use crate::config::{RunConfig, changes};
use crate::error::BpoError;
use crate::paths::with_suffix;
use crate::resume::has_content;
use crate::run_dir::RunDir;
use crate::settings_file::{check_inputs, inputs, read, write};
use crate::stage::Stage;
use crate::summary::RunManifest;

/// Holds a stage's file to the settings that it was begun with, and keeps those beside it, all of them, resolved.
///
/// A file without a single answer holds nothing: with other settings it is begun anew. A run directory needs none of this,
/// it has its `config.toml`.
///
/// # Errors
/// [`BpoError::ConfigChanged`]; [`BpoError::InputChanged`] if the model or the data are others;
/// [`BpoError::NoSettings`] if the file holds anything and nothing tells how it was made; if a file
/// cannot be read or written.
pub fn hold(stage: Stage, config: &RunConfig, file: &Path) -> Result<(), BpoError> {
    let config = config.clone().with_absolute_paths()?;
    let settings = settings_beside(file);
    // ours have settings beside them from the first byte on: anything else is somebody's file, not to be repaired or begun anew
    if has_content(file) && !settings.exists() {
        return Err(BpoError::NoSettings { path: file.to_owned(), settings });
    }
    let (answered, inputs) = (has_answers(file)?, inputs(stage, &config)?);
    let changes = match settings.exists() {
        true => Some(changes(stage, &read(&settings)?, &config)?),
        false => None,
    };
    if answered {
        check_inputs(&settings, &inputs, file)?;
    }
    match changes {
        Some(changes) if changes.is_empty() && answered => {}
        Some(changes) if answered => return Err(BpoError::ConfigChanged { path: file.to_owned(), changes }),
        _ => remove_unanswered(file)?,
    }
    write(&settings, &config, &inputs)
}

/// Holds a directory's training to the settings that it was begun with: those of its `config.toml`, be it of a run or of
/// training on its own, which writes one.
///
/// # Errors
/// As [`hold`].
pub fn hold_training(config: &RunConfig, dir: &RunDir) -> Result<(), BpoError> {
    let begun =
        [dir.metrics(), dir.checkpoints(), dir.adapter(), dir.model()].iter().any(|path| has_content(path));
    let of_a_run = [dir.weakened(), dir.injected()].iter().any(|path| has_content(path));
    let settings = dir.config();
    let path = dir.root().to_owned();
    let inputs = inputs(Stage::Train, config)?;
    match settings.exists() {
        true if begun || of_a_run => {
            let changes = changes(Stage::Train, &read(&settings)?, config)?;
            if !changes.is_empty() {
                return Err(BpoError::ConfigChanged { path, changes });
            }
            // a run keeps its inputs in its manifest
            match RunManifest::read(&dir.manifest())? {
                Some(manifest) => manifest.check_models(&path, &inputs),
                None => check_inputs(&settings, &inputs, &path),
            }
        }
        false if begun => Err(BpoError::NoSettings { path, settings }),
        _ => write(&settings, config, &inputs),
    }
}

/// The file with the settings of a stage's file.
pub fn settings_beside(file: &Path) -> PathBuf {
    with_suffix(file, ".settings.toml")
}
