//! Reading a checkpoint's small files, any of which may be absent.

use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::ProcessorError;

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

/// The JSON in `path`, or `None` where there is no such file.
///
/// # Errors
/// [`ProcessorError::Read`], and [`ProcessorError::Json`] with line and column.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ProcessorError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let json = serde_json::from_str(&text);
    json.map(Some).map_err(|source| ProcessorError::Json { path: path.to_owned(), source })
}
