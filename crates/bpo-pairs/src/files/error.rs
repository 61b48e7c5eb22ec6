//! Errors of reading and writing files.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

use crate::untrusted::UntrustedPath;

/// Why a file or directory cannot be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file system refused.
    #[error("cannot {action} {}", UntrustedPath(path))]
    Io {
        /// What was tried: `open`, `read`, `write`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else is where a regular file is expected.
    #[error("{} is {found}: expected a regular file", UntrustedPath(path))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there, in words: `a directory`, `a FIFO`, `a device`, `a socket`.
        found: &'static str,
    },
    /// The directory that is to be written is there and holds something.
    #[error("{} exists already and is no empty directory: give another output", UntrustedPath(path))]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory that is to be replaced or removed was not written by bpo, or not all of it.
    #[error(
        "{} is not replaced or removed: {reason}. Remove it, or give another output",
        UntrustedPath(path)
    )]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// What shows that it belongs to somebody else.
        reason: String,
    },
    /// Another process writes the file.
    #[error("{} is being written by another process", UntrustedPath(path))]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A file is larger than any file of its kind.
    #[error("{} is larger than {limit} bytes, the limit for a file of its kind", UntrustedPath(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A text file is not UTF-8.
    #[error("{} is not UTF-8 text: byte {at} does not belong to a character", UntrustedPath(path))]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first such byte, from 0.
        at: usize,
    },
}

impl FileError {
    /// Makes an [`Io`](Self::Io) error, for `map_err`.
    ///
    /// ```
    /// # use bpo_pairs::files::{FileError, write_atomic};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// write_atomic(&path, |writer| writer.write_all(b"text").map_err(FileError::io("write", &path)))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether there is no such file or directory.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What a file that is no regular one is, in words.
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
    "no regular file"
}
