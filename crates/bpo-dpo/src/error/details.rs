//! Values in errors of the trainer, and their texts.

use std::fmt;
use std::path::PathBuf;

use bpo_pairs::{Skipped, Untrusted, UntrustedPath};

/// The part of a pair that changed since the reference's log-probabilities were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The preprocessed pixels.
    Image,
    /// The token ids, by the text, the chat template or the tokenizer.
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

/// A changed setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the setting.
    pub key: String,
    /// Its value then, as JSON.
    pub then: String,
    /// Its value now, as JSON.
    pub now: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [key, then, now] = [&self.key, short(&self.then), short(&self.now)].map(Untrusted);
        write!(f, "`{key}` was {then} and is now {now}")
    }
}

/// Shortens a fingerprint: its first digits suffice.
fn short(value: &str) -> &str {
    let is_fingerprint = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_fingerprint { &value[..12] } else { value }
}

/// All tensors of a file, or parameters of a reference, that do not fit a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Paths in the module and not in the file.
    pub missing: Vec<String>,
    /// Names in the file and not in the module.
    pub extra: Vec<String>,
    /// Names in both, of unequal shape or element type: what was expected and found.
    pub misshapen: Vec<String>,
}

impl Mismatch {
    /// Whether everything fits.
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

/// All items, or the first of many: a model has thousands of parameters.
pub(super) fn list<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 20;
    let shown = items.iter().take(SHOWN).map(|item| Untrusted(&item.to_string()).to_string());
    let shown = shown.collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Names with a verb.
pub(super) fn listed(names: &[String]) -> String {
    format!("{} {}", list(names), if names.len() == 1 { "is" } else { "are" })
}

/// The first skipped pair and its reason, to end a message with.
pub(super) fn first(skipped: &[Skipped]) -> String {
    skipped.first().map_or_else(String::new, |first| {
        format!("; the first, {}: {}", Untrusted(&first.id), Untrusted(&first.detail))
    })
}

/// The file, or "the given bytes".
pub(super) fn place(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "the given bytes".to_owned(), |path| UntrustedPath(path).to_string())
}
