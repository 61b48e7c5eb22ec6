//! Locks for files that several processes update.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::error::FileError;
use super::write::target_of;

/// The lock of a file that several processes read, extend and replace; see [`lock_file`].
///
/// The operating system releases the lock when the value is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Waits for the lock of a file, which may be missing.
///
/// A file that [`write_atomic`](super::write_atomic) replaces cannot be locked itself, because the
/// lock would belong to the old file. The lock is on the empty file `PATH.lock`, which stays. A
/// symbolic link has the lock of its target. On a file system without locks a warning is logged.
///
/// # Errors
/// Returns [`FileError::NotAFile`] if `path` is a directory, a device, a FIFO or a socket, and
/// [`FileError::Io`] if `PATH.lock` cannot be created.
pub fn lock_file(path: &Path) -> Result<FileLock, FileError> {
    let mut name = target_of(path)?.into_os_string();
    name.push(".lock");
    let lock = target_of(&PathBuf::from(name))?;
    let file = OpenOptions::new().append(true).create(true).open(&lock);
    let file = file.map_err(FileError::io("lock", path))?;
    if let Err(error) = file.lock() {
        let path = tracing::field::display(crate::untrusted::UntrustedPath(path));
        tracing::warn!(path, %error, "this file system does not support locks");
    }
    Ok(FileLock { _file: file })
}
