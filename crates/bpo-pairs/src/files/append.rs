//! Append-only files of lines.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::destructive;
use super::error::{FileError, describe};
use super::temporary::{parent, sync_dir};
use super::write::{target_of, write_atomic};

/// A locked file that whole lines are appended to.
///
/// Each append is one write, so a killed process leaves whole lines and at most one torn last line.
/// After opening, the caller finds the end of the last good line with [`reader`](Self::reader) and
/// removes the rest with [`truncate`](Self::truncate).
///
/// A download appends parts of a file in place of lines, and ends with
/// [`finish_as`](Self::finish_as) or [`remove`](Self::remove).
#[derive(Debug)]
pub struct AppendLog {
    path: PathBuf,
    file: File,
    end: u64,
}

impl AppendLog {
    /// Opens or creates a file and locks it until the value is dropped. A symbolic link is
    /// followed.
    ///
    /// # Errors
    /// Returns [`FileError::NotAFile`] for a directory, a device, a FIFO or a socket,
    /// [`FileError::Locked`] if another process has the file open, and [`FileError::Io`] otherwise.
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
                tracing::warn!(path = %path.display(), %error, "cannot lock the file");
            }
        }
        // another process may have replaced the file before it was locked
        if !is_at(&file, &target) {
            return Err(FileError::Locked { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), file, end: there.len() })
    }

    /// Returns the path that the file was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Returns whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Returns a reader from the start of the file.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the file cannot be read.
    pub fn reader(&self) -> Result<impl BufRead + '_, FileError> {
        (&self.file).seek(SeekFrom::Start(0)).map_err(FileError::io("read", &self.path))?;
        Ok(BufReader::new(&self.file))
    }

    /// Appends one or more lines, each with its newline, in one write.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the write fails. The file then keeps its earlier content.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        if let Err(source) = self.file.write_all(lines) {
            // A part may have been written, for example to a full disk. If truncation fails too,
            // the next opening removes that part.
            let _ = destructive::truncate(&self.file, self.end);
            return Err(FileError::io("append to", &self.path)(source));
        }
        self.end += lines.len() as u64;
        Ok(())
    }

    /// Truncates the file to `length` bytes. A shorter file is left unchanged.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the file cannot be truncated.
    pub fn truncate(&mut self, length: u64) -> Result<(), FileError> {
        if length < self.end {
            destructive::truncate(&self.file, length).map_err(FileError::io("truncate", &self.path))?;
            self.end = length;
        }
        Ok(())
    }

    /// Replaces the whole content by what `write` makes of the old one. A killed process leaves the
    /// old content or the new one.
    ///
    /// The new file is locked after it has replaced the old one. A process that opens the new one in
    /// between has the lock, and this one gets an error. One that has opened the old one gets an error.
    ///
    /// # Errors
    /// Returns the errors of [`write_atomic`], after which the old content is there, and those of
    /// [`open`](Self::open).
    pub fn replace<E: From<FileError>>(
        &mut self,
        write: impl FnOnce(&mut dyn BufRead, &mut (dyn Write + Send)) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path.clone();
        let mut old = self.reader()?;
        write_atomic(&path, |new| write(&mut old, new))?;
        drop(old);
        *self = Self::open(&path)?;
        Ok(())
    }

    /// Waits until all bytes are on disk.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the system call fails.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(FileError::io("sync", &self.path))
    }

    /// Waits until all bytes are on disk, and renames the file to `target` in the same file system.
    /// A file at `target` is replaced.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if a system call fails. `target` is then unchanged.
    pub fn finish_as(self, target: &Path) -> Result<(), FileError> {
        self.sync()?;
        destructive::rename(&self.path, target)?;
        sync_dir(parent(target))
    }

    /// Removes the file.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the file cannot be removed.
    pub fn remove(self) -> Result<(), FileError> {
        destructive::remove_file(&self.path)
    }
}

/// Returns whether a path leads to an open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    match (file.metadata(), path.metadata()) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Other systems do not replace a file that is open.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}
