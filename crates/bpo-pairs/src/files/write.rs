//! Atomic writing of files.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::{FileError, describe};
use super::temporary;

/// Maximum length of a chain of symbolic links, as in Linux.
const MOST_LINKS: usize = 40;

/// Writes a file atomically: an existing file is unchanged until the new one is complete on disk.
///
/// `write` gets a buffered writer to a temporary file in the same directory, which is then flushed,
/// synced and renamed to `path`. The temporary name is unique, so several processes can write the
/// same file; the last rename wins, and the file is always complete. A symbolic link is followed.
/// The new file has the permissions of the old file, or the default permissions if there is none.
/// Returns the value that `write` returns.
///
/// # Errors
/// Returns [`FileError::NotAFile`] if `path` is a directory, a device, a FIFO or a socket,
/// [`FileError::Io`] if the file cannot be written or an old one is write-protected, and the errors
/// of `write`. An old file is then unchanged.
pub fn write_atomic<T, E: From<FileError>>(
    path: &Path,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, E>,
) -> Result<T, E> {
    let target = target_of(path)?;
    let file = temporary::file_in(temporary::parent(&target)).map_err(FileError::io("write", path))?;
    let mut writer = BufWriter::new(file.as_file());
    let result = write(&mut writer)?;
    let io = || FileError::io("write", path);
    writer.flush().map_err(io())?;
    drop(writer);
    keep_permissions(&target, file.as_file()).map_err(io())?;
    file.as_file().sync_all().map_err(io())?;
    file.persist(&target).map_err(|failed| io()(failed.error))?;
    // without this a crash of the system could undo the renaming
    temporary::sync_dir(temporary::parent(&target))?;
    Ok(result)
}

/// Creates the missing directories of a file.
///
/// # Errors
/// Returns [`FileError::Io`] if a directory cannot be created.
pub fn create_parents(path: &Path) -> Result<(), FileError> {
    let parent = temporary::parent(path);
    fs::create_dir_all(parent).map_err(FileError::io("create the directory", parent))
}

/// Writes bytes to a file atomically; see [`write_atomic`].
///
/// # Errors
/// Returns the errors of [`write_atomic`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_atomic(path, |writer| writer.write_all(bytes).map_err(FileError::io("write", path)))
}

/// Follows symbolic links to a regular file, or to a path that does not exist yet.
pub(super) fn target_of(path: &Path) -> Result<PathBuf, FileError> {
    let io = || FileError::io("write", path);
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match target.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(target),
            Err(error) => return Err(io()(error)),
            Ok(there) if there.is_symlink() => {
                let leads_to = fs::read_link(&target).map_err(io())?;
                target = temporary::parent(&target).join(leads_to);
            }
            Ok(there) if there.is_file() => return Ok(target),
            Ok(there) => {
                return Err(FileError::NotAFile {
                    path: path.to_owned(),
                    found: describe(there.file_type()),
                });
            }
        }
    }
    Err(io()(io::Error::other("too many links in a row")))
}

/// Copies the permissions of the file that is replaced, if there is one.
fn keep_permissions(old: &Path, new: &fs::File) -> io::Result<()> {
    match OpenOptions::new().write(true).open(old) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        old => new.set_permissions(old?.metadata()?.permissions()),
    }
}
