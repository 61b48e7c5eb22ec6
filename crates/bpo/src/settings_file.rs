//! Files of resolved settings: TOML that says it is ours, and in comments what the settings were used on.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::files::{FileError, read_text, write_bytes};
use bpo_pairs::{Fingerprint, Limits, fingerprint_file};

use crate::config::{Change, RunConfig};
use crate::error::BpoError;
use crate::fingerprint::{check_is_adapter, fingerprint_checkpoint};
use crate::stage::Stage;

/// The first line of every file of ours. One without it is somebody's own and is not written over.
const MARK: &str = "# Settings of bpo, as they were resolved.";
const LIMIT: u64 = Limits::DEFAULT.settings_bytes;
const INPUT: &str = "# made from ";

/// Names and fingerprints of what a stage reads besides its settings.
pub(crate) type Inputs = BTreeMap<&'static str, String>;

/// What a stage on its own is made from. Images are not looked at: reading them all would take as long as the stage.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn inputs(stage: Stage, config: &RunConfig) -> Result<Inputs, BpoError> {
    let mut inputs = Inputs::new();
    if matches!(stage, Stage::Weaken | Stage::Train) {
        for (name, print) in model_inputs(config)? {
            inputs.insert(name, print.to_string());
        }
    }
    if stage == Stage::Train {
        for (name, print) in reference_inputs(config)? {
            inputs.insert(name, print.to_string());
        }
    }
    if matches!(stage, Stage::Weaken | Stage::Inject) {
        inputs.insert("data", fingerprint_file(config.data_path()?)?.to_string());
    }
    Ok(inputs)
}

/// What the model is read from, by name.
///
/// # Errors
/// If it is not there.
pub(crate) fn model_inputs(config: &RunConfig) -> Result<Vec<(&'static str, Fingerprint)>, BpoError> {
    let mut inputs = vec![("model", fingerprint_checkpoint(config.model_path()?)?)];
    if let Some(adapter) = &config.model.adapter {
        check_is_adapter(adapter)?;
        inputs.push(("adapter", fingerprint_checkpoint(adapter)?));
    }
    Ok(inputs)
}

/// What the reference is read from, by name.
///
/// # Errors
/// If it is not there.
pub(crate) fn reference_inputs(config: &RunConfig) -> Result<Vec<(&'static str, Fingerprint)>, BpoError> {
    let mut inputs = Vec::new();
    if let Some(model) = &config.reference.path {
        inputs.push(("reference", fingerprint_checkpoint(model)?));
    }
    if let Some(adapter) = &config.reference.adapter {
        check_is_adapter(adapter)?;
        inputs.push(("reference_adapter", fingerprint_checkpoint(adapter)?));
    }
    Ok(inputs)
}

/// The text of a file of settings.
///
/// # Errors
/// [`BpoError::ConfigEncode`].
pub(crate) fn text(config: &RunConfig, inputs: &Inputs) -> Result<String, BpoError> {
    let made: String = inputs.iter().map(|(name, print)| format!("{INPUT}{name}: {print}\n")).collect();
    Ok(format!("{MARK}\n{made}\n{}", config.to_toml()?))
}

/// Reads a file of settings.
///
/// # Errors
/// As [`RunConfig::read`]; [`BpoError::NotOurs`] for a file that is no settings, and was not written by [`write()`].
pub(crate) fn read(path: &Path) -> Result<RunConfig, BpoError> {
    RunConfig::read(path).map_err(|error| match read_text(path, LIMIT) {
        Ok(text) if !text.starts_with(MARK) && error.is_usage() => {
            BpoError::NotOurs { path: path.to_owned() }
        }
        _ => error,
    })
}

/// Writes a file of settings.
///
/// # Errors
/// [`BpoError::NotOurs`] if a file is there that was not written by this, or if it cannot be written.
pub(crate) fn write(path: &Path, config: &RunConfig, inputs: &Inputs) -> Result<(), BpoError> {
    let text = text(config, inputs)?;
    match read_text(path, LIMIT) {
        Ok(there) if there == text => Ok(()),
        Ok(there) if !there.is_empty() && !there.starts_with(MARK) => {
            Err(BpoError::NotOurs { path: path.to_owned() })
        }
        // anything but text is not ours either
        Err(FileError::NotText { .. } | FileError::TooLarge { .. }) => {
            Err(BpoError::NotOurs { path: path.to_owned() })
        }
        _ => Ok(write_bytes(path, text.as_bytes())?),
    }
}

/// Checks that what a file was made from is what is there now. Files that do not say are taken as they are.
///
/// # Errors
/// [`BpoError::InputChanged`] with each input that differs, for the file or directory `made`.
pub(crate) fn check_inputs(settings: &Path, now: &Inputs, made: &Path) -> Result<(), BpoError> {
    let text = read_text(settings, LIMIT)?;
    let then: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix(INPUT)?.split_once(": ")).collect();
    let changed = |(name, print): (&&'static str, &String)| {
        let before = *then.get(*name)?;
        (before != print).then(|| Change {
            key: (*name).to_owned(),
            then: Some(before.to_owned()),
            now: Some(print.clone()),
        })
    };
    let changes: Vec<Change> = now.iter().filter_map(changed).collect();
    match changes.is_empty() {
        true => Ok(()),
        false => Err(BpoError::InputChanged { path: made.to_owned(), changes }),
    }
}
