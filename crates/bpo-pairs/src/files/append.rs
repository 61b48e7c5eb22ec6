//! Files that lines are appended to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::destructive;
use super::error::{FileError, describe};
use super::write::target_of;

/// A file that whole lines are appended to, by one process at a time.
///
/// Each append is one write, so a process that is killed leaves whole lines and at most one torn line at the end.
/// Who opens the file again decides with [`reader`](Self::reader) where the last good line ends, and cuts the
/// rest off with [`truncate`](Self::truncate).
#[derive(Debug)]
pub struct AppendLog {
    path: PathBuf,
    /// The file itself, where `path` is a link.
    target: PathBuf,
    file: File,
    end: u64,
}

impl AppendLog {
    /// Opens a file, or makes an empty one, and locks it for as long as the value lives. A link is followed.
    ///
    /// # Errors
    /// [`FileError::NotAFile`] for a directory, a device, a FIFO or a socket; [`FileError::Locked`] if another
    /// process has it open; [`FileError::Io`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let target = target_of(path)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&target);
        let file = file.map_err(FileError::io("open", path))?;
        let there = file.metadata().map_err(FileError::io("open", path))?;
        if !there.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned(), found: describe(there.file_type()) });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "this file system has no locks");
            }
        }
        Ok(Self { path: path.to_owned(), target, file, end: there.len() })
    }

    /// The path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Reads the file from its first byte. Appending meanwhile is an error of the borrow checker.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn reader(&self) -> Result<impl BufRead + '_, FileError> {
        (&self.file).seek(SeekFrom::Start(0)).map_err(FileError::io("read", &self.path))?;
        Ok(BufReader::new(&self.file))
    }

    /// Appends bytes in one write: a line with its newline, or several.
    ///
    /// # Errors
    /// [`FileError::Io`]; the file then holds what it held before.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        if let Err(source) = self.file.write_all(lines) {
            // a part may have been written, as to a full disk; if this fails too, the next opening cuts it off
            let _ = destructive::truncate(&self.file, self.end);
            return Err(FileError::io("append to", &self.path)(source));
        }
        self.end += lines.len() as u64;
        Ok(())
    }

    /// Cuts the file off behind its first `length` bytes. One that is shorter stays as it is.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn truncate(&mut self, length: u64) -> Result<(), FileError> {
        if length < self.end {
            destructive::truncate(&self.file, length).map_err(FileError::io("truncate", &self.path))?;
            self.end = length;
        }
        Ok(())
    }

    /// Waits until all bytes are on disk.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(FileError::io("sync", &self.path))
    }

    /// Removes the file. The caller must have read it and found nothing but lines of its own.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn remove(self) -> Result<(), FileError> {
        destructive::remove_file(&self.target)
    }
}
