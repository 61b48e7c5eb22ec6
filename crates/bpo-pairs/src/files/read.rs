//! Reading of files.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{FileError, describe};

/// Opens a regular file, or a pipe that the process inherited, for reading.
///
/// The kind of file is checked before opening, because opening a FIFO blocks until it has a writer.
/// A pipe can be read only once.
///
/// # Errors
/// Returns [`FileError::NotAFile`] for a directory, a device, a FIFO or a socket, and
/// [`FileError::Io`] otherwise.
pub fn open_input(path: &Path) -> Result<File, FileError> {
    let kind = path.metadata().map_err(FileError::io("open", path))?.file_type();
    if kind.is_file() || is_inherited_pipe(path, kind) {
        File::open(path).map_err(FileError::io("open", path))
    } else {
        Err(FileError::NotAFile { path: path.to_owned(), found: describe(kind) })
    }
}

/// A reader of a file of at most a number of bytes; see [`open_limited`].
#[derive(Debug)]
pub struct Limited {
    path: PathBuf,
    file: File,
    limit: u64,
    read: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        if self.read > self.limit {
            let (path, limit) = (self.path.clone(), self.limit);
            return Err(io::Error::other(FileError::TooLarge { path, limit }));
        }
        Ok(read)
    }
}

/// Opens a file of at most `limit` bytes, which is read in parts. Reading a larger file fails with
/// [`FileError::TooLarge`] inside of an [`io::Error`].
///
/// # Errors
/// Returns the errors of [`open_input`].
pub fn open_limited(path: &Path, limit: u64) -> Result<Limited, FileError> {
    Ok(Limited { path: path.to_owned(), file: open_input(path)?, limit, read: 0 })
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Returns the errors of [`open_input`], and [`FileError::TooLarge`] for a larger file.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = open_input(path)?;
    let mut bytes = Vec::new();
    // one more byte than the limit shows that the file is too large
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Reads a UTF-8 text file of at most `limit` bytes.
///
/// # Errors
/// Returns the errors of [`read_bytes`], and [`FileError::NotText`] if the file is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    String::from_utf8(read_bytes(path, limit)?)
        .map_err(|error| FileError::NotText { path: path.to_owned(), at: error.utf8_error().valid_up_to() })
}

/// Returns whether the path is an inherited pipe, as a shell passes for `<(command)` and `|`.
fn is_inherited_pipe(path: &Path, kind: FileType) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let is_descriptor = path == Path::new("/dev/stdin")
            || ["/dev/fd", "/proc/self/fd"].iter().any(|dir| path.starts_with(dir));
        kind.is_fifo() && is_descriptor
    }
    #[cfg(not(unix))]
    {
        let _ = (path, kind);
        false
    }
}
