//! Files and directories that outlive a power cut.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::DpoError;

/// Writes a file and waits until it is on disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), DpoError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(DpoError::io("write", path))
}

/// Removes a directory with all that is in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), DpoError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DpoError::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// A rename is on disk only when its directory is; elsewhere than on Unix directories cannot be opened.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DpoError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(DpoError::io("write", dir))
    } else {
        Ok(())
    }
}
