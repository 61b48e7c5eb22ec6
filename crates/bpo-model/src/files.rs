//! Writing files so that a kill leaves the old one or the new one.

use std::path::Path;

use crate::error::ModelError;

/// Writes beside the file and renames.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|source| ModelError::Io { path: path.into(), source })
}
