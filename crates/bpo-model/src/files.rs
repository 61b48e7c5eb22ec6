//! Writing files so that a kill leaves the old one or the new one.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::ModelError;

/// Writes beside the file and renames.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let partial = partial(path);
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(bytes)?;
        // else a power cut may leave the new name with nothing behind it
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| ModelError::Io { path: path.into(), source })
}

/// The name that a file or directory has until it is whole.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
