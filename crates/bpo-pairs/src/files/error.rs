//! Errors of reading and writing files.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

use crate::untrusted::{Untrusted, UntrustedPath};

/// An error of reading, writing or removing a file or directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A file system operation failed.
    #[error("cannot {action} {}", UntrustedPath(path))]
    Io {
        /// The operation: `open`, `read`, `write`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path is not a regular file.
    #[error("{} is {found}: expected a regular file", UntrustedPath(path))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What the path is: `a directory`, `a FIFO`, `a device`, `a socket`, `a special file`.
        found: &'static str,
    },
    /// The output directory exists and is not empty.
    #[error("{} already exists and is not an empty directory: give another output", UntrustedPath(path))]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory to be replaced or removed was not, or not entirely, written by bpo.
    #[error(
        "{} is not replaced or removed: {}. Remove it, or give another output",
        UntrustedPath(path),
        Untrusted(reason)
    )]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// The evidence that bpo did not write it.
        reason: String,
    },
    /// Another process has the file locked for writing.
    #[error("{} is being written by another process", UntrustedPath(path))]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A file exceeds the size limit for its kind.
    #[error("{} is larger than {limit} bytes, the limit for a file of its kind", UntrustedPath(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A text file is not UTF-8.
    #[error("{} is not UTF-8 text: invalid byte at offset {at}", UntrustedPath(path))]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first invalid byte, from 0.
        at: usize,
    },
}

impl FileError {
    /// Returns a function for `map_err` that makes an [`Io`](Self::Io) error.
    ///
    /// ```
    /// # use bpo_pairs::files::{FileError, write_atomic};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// write_atomic(&path, |writer| {
    ///     writer.write_all(b"text").map_err(FileError::io("write", &path))
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Returns whether the error is that the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Describes a path that is not a regular file.
pub(super) fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    "a special file"
}
