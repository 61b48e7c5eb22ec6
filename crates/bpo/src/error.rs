//! What can go wrong in a run.

use std::path::{Path, PathBuf};

use crate::config::Change;
use crate::device::DeviceSpec;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpoError {
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A configuration file has a key that nothing reads.
    #[error(
        "{}: line {line}, column {column}: unknown key `{key}`: did you mean `{nearest}`? (known here: {})",
        path.display(), known.join(", ")
    )]
    UnknownKey {
        /// The configuration file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: String,
        /// All keys known at this place.
        known: Vec<String>,
    },
    /// A configuration file is not TOML, or a value has the wrong form.
    #[error("{}: line {line}, column {column}: {message}", path.display())]
    ConfigSyntax {
        /// The configuration file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A JSON file of the run is not what it should be.
    #[error("{}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The configuration cannot be written down.
    #[error("the configuration cannot be written as TOML")]
    ConfigEncode {
        /// Why.
        source: toml::ser::Error,
    },
    /// A setting without a default is not given.
    #[error("`{key}` is not set: give it in the configuration file, or as {flag}")]
    NotSet {
        /// Its key.
        key: &'static str,
        /// The flag of the command that sets it.
        flag: &'static str,
    },
    /// A setting has a value that cannot work.
    #[error("`{key}` must be {expected}, not {found}")]
    Setting {
        /// Its key.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A stage was begun with other settings than those given now.
    #[error(
        "{} was made with other settings: {}. Give the old settings to go on with it, or another directory to begin anew",
        path.display(), list(changes)
    )]
    ConfigChanged {
        /// What was made.
        path: PathBuf,
        /// Each setting that differs.
        changes: Vec<Change>,
    },
    /// A run directory was begun with other data or another model.
    #[error(
        "{} was made from other input: {}. Restore the input to go on with it, or give another directory to begin anew",
        path.display(), list(changes)
    )]
    InputChanged {
        /// The run directory.
        path: PathBuf,
        /// Each input that differs, with its fingerprints.
        changes: Vec<Change>,
    },
    /// Another process works in the same directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A text that names no device.
    #[error("unknown device {found:?}: expected flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu")]
    UnknownDevice {
        /// The text.
        found: String,
    },
    /// A text that names no type of numbers.
    #[error("unknown dtype {found:?}: expected f32, bf16 or f16")]
    UnknownDtype {
        /// The text.
        found: String,
    },
    /// The program was built without what the device needs.
    #[error("device {device} needs a program built with `--features {feature}`")]
    DeviceNotBuilt {
        /// The device.
        device: DeviceSpec,
        /// The missing feature of this crate.
        feature: &'static str,
    },
    /// The device does not start.
    #[error("device {device} cannot be used: {reason}")]
    DeviceUnavailable {
        /// The device.
        device: DeviceSpec,
        /// What its driver or backend says.
        reason: String,
    },
    /// There is nothing to work on.
    #[error("{}: no {what} is left ({set_aside} set aside)", path.display())]
    Nothing {
        /// Where they came from.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// How many could not be used.
        set_aside: usize,
    },
    /// Data, stage files or images.
    #[error(transparent)]
    Pairs(#[from] bpo_pairs::error::PairsError),
    /// A checkpoint or adapter.
    #[error(transparent)]
    Model(#[from] bpo_model::ModelError),
    /// The tokenizer, chat template or image processor of a checkpoint.
    #[error(transparent)]
    Processor(#[from] bpo_model::processor::ProcessorError),
    /// Error injection.
    #[error(transparent)]
    Inject(#[from] bpo_inject::InjectError),
    /// Training.
    #[error(transparent)]
    Dpo(#[from] bpo_dpo::DpoError),
}

impl BpoError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn list(changes: &[Change]) -> String {
    changes.iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
}

/// An error with all its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // some errors repeat their cause in their own message
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
