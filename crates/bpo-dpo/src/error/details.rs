//! Values in the errors of the trainer, their text forms, and conversions from other errors.

use std::fmt;
use std::path::PathBuf;

use bpo_pairs::{Skipped, Untrusted, UntrustedPath};

use super::DpoError;
use crate::loss::LossError;

/// The part of a pair that has changed since the log-probabilities of the reference were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The preprocessed pixels.
    Image,
    /// The token ids, because the text, the chat template or the tokenizer has changed.
    Tokens,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the image",
            Self::Tokens => "the tokens (by the chat template or the tokenizer)",
        })
    }
}

/// A setting or fingerprint that differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Name of the setting.
    pub key: String,
    /// The old value, as JSON.
    pub old: String,
    /// The new value, as JSON.
    pub new: String,
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [key, old, new] = [&self.key, short(&self.old), short(&self.new)].map(Untrusted);
        write!(f, "`{key}` was {old} and is now {new}")
    }
}

/// Shortens a fingerprint to its first 12 digits. Returns other values unchanged.
fn short(value: &str) -> &str {
    let is_fingerprint = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_fingerprint { &value[..12] } else { value }
}

/// The tensors of a file, or the parameters of a reference, that do not match a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Paths of the module that the file does not have.
    pub missing: Vec<String>,
    /// Names of the file that the module does not have.
    pub extra: Vec<String>,
    /// Names in both with another shape or element type. Each text has the expected and the found
    /// one.
    pub misshapen: Vec<String>,
}

impl Mismatch {
    /// Returns whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("missing", &self.missing), ("extra", &self.extra), ("misshapen", &self.misshapen)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(kind, names)| format!("{} {kind}: {}", names.len(), list(names)))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// Returns a comma-separated list of the items. At most 20 items are listed, because a model may
/// have thousands of parameters.
pub(super) fn list<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 20;
    let shown = items.iter().take(SHOWN).map(|item| Untrusted(&item.to_string()).to_string());
    let shown = shown.collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns a list of the names, followed by "is" or "are".
pub(super) fn list_with_verb(names: &[String]) -> String {
    format!("{} {}", list(names), if names.len() == 1 { "is" } else { "are" })
}

/// Returns the first skipped pair and its reason as the end of a message.
pub(super) fn first(skipped: &[Skipped]) -> String {
    skipped.first().map_or_else(String::new, |first| {
        format!("; the first, {}: {}", Untrusted(&first.id), Untrusted(&first.detail))
    })
}

/// Returns the path of a file, or "the given bytes" without one.
pub(super) fn file_name(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "the given bytes".to_owned(), |path| UntrustedPath(path).to_string())
}

impl From<bpo_pairs::PairsError> for DpoError {
    fn from(error: bpo_pairs::PairsError) -> Self {
        match error {
            bpo_pairs::PairsError::File(error) => Self::File(error),
            error => Self::Pairs(Box::new(error)),
        }
    }
}

impl From<LossError> for DpoError {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Setting { key, expected, found } => Self::Setting { key, expected, found },
            LossError::Conflict { key, with, reason } => Self::Conflict { key, with, reason },
        }
    }
}
