//! Files that are read.

use std::fs::{File, FileType};
use std::io::Read;
use std::path::Path;

use super::error::{FileError, describe};

/// Opens a regular file, or a pipe that the process inherited, for reading.
///
/// The check comes before the opening, which would wait for a writer of a FIFO. A pipe can be read once only.
///
/// # Errors
/// [`FileError::NotAFile`] for a directory, a device, a FIFO or a socket; [`FileError::Io`].
pub fn open_input(path: &Path) -> Result<File, FileError> {
    let kind = path.metadata().map_err(FileError::io("open", path))?.file_type();
    if kind.is_file() || is_inherited_pipe(path, kind) {
        File::open(path).map_err(FileError::io("open", path))
    } else {
        Err(FileError::NotAFile { path: path.to_owned(), found: describe(kind) })
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// As [`open_input`]; [`FileError::TooLarge`].
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = open_input(path)?;
    let mut bytes = Vec::new();
    // one byte above the limit is enough to know
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// As [`read_bytes`]; [`FileError::NotText`].
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    String::from_utf8(read_bytes(path, limit)?)
        .map_err(|error| FileError::NotText { path: path.to_owned(), at: error.utf8_error().valid_up_to() })
}

/// Whether this is a pipe that somebody writes to already, as a shell gives it for `<(command)` and `|`.
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
