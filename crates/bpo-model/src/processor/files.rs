//! Reading a checkpoint's small files, any of which may be absent.

use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ProcessorError;
use super::json::{shown, typed};

/// The text of `path`, or `None` where there is no such file.
///
/// # Errors
/// [`ProcessorError::Read`] for every other failure.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, ProcessorError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ProcessorError::Read { path: path.to_owned(), source }),
    }
}

/// The JSON object in `path`, or `None` where there is no such file.
///
/// # Errors
/// [`ProcessorError::Read`], [`ProcessorError::Json`] with line and column, and [`ProcessorError::Value`].
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ProcessorError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let json: Value = serde_json::from_str(&text)
        .map_err(|source| ProcessorError::Json { path: path.to_owned(), source })?;
    if !json.is_object() {
        // serde would read a list as the fields of a struct
        return Err(ProcessorError::Value {
            path: path.to_owned(),
            key: String::new(),
            expected: "an object".to_owned(),
            found: shown(&json),
        });
    }
    from_json(&json, path, "").map(Some)
}

/// `json`, which `path` has at the key `at` (at its top where that is empty), as a `T`.
///
/// # Errors
/// [`ProcessorError::Value`].
pub(super) fn from_json<T: DeserializeOwned>(
    json: &Value,
    path: &Path,
    at: &str,
) -> Result<T, ProcessorError> {
    typed(json).map_err(|misfit| {
        let dot = if at.is_empty() || misfit.key.is_empty() { "" } else { "." };
        ProcessorError::Value {
            path: path.to_owned(),
            key: format!("{at}{dot}{}", misfit.key),
            expected: misfit.expected,
            found: misfit.found,
        }
    })
}
