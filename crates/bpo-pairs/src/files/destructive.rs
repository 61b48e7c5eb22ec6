//! All renaming, removing and truncating of files in the workspace.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use super::error::{FileError, describe};
use super::mark::{self, Mark};
use super::temporary;

/// Removes a directory that was written with [`StagedDir`](super::StagedDir). A missing directory
/// is not an error.
///
/// The directory is renamed before its content is removed, so a killed process leaves either the
/// whole directory or nothing at `path`.
///
/// # Errors
/// Returns [`FileError::NotOurs`] if the directory has no mark or has a file that the mark does not
/// list, and [`FileError::Io`] otherwise.
pub fn remove_owned_dir(path: &Path) -> Result<(), FileError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::io("remove", path)(error)),
        Ok(_) => mark::check_owned(path)?,
    }
    let moved = temporary::free_name(temporary::parent(path));
    rename(path, &moved)?;
    remove_marked(&moved).map_err(FileError::io("remove", path))
}

/// Removes a regular file if `is_ours` recognizes its content as written by bpo. A missing file is
/// not an error.
///
/// # Errors
/// Returns [`FileError::NotOurs`] if `is_ours` returns false or the path is not a regular file
/// (links included), and [`FileError::Io`] otherwise.
pub fn remove_owned_file(
    path: &Path,
    is_ours: impl FnOnce(&mut dyn BufRead) -> std::io::Result<bool>,
) -> Result<(), FileError> {
    let not_ours = |reason: &str| FileError::NotOurs { path: path.to_owned(), reason: reason.to_owned() };
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::io("remove", path)(error)),
        Ok(there) if there.is_symlink() => return Err(not_ours("it is a link")),
        Ok(there) if !there.is_file() => {
            return Err(not_ours(&format!("it is {}", describe(there.file_type()))));
        }
        Ok(_) => {}
    }
    let file = File::open(path).map_err(FileError::io("read", path))?;
    if is_ours(&mut BufReader::new(file)).map_err(FileError::io("read", path))? {
        remove_file(path)
    } else {
        Err(not_ours("its content is not what bpo writes there"))
    }
}

/// Renames a file or directory.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::io("rename", from))
}

/// Removes a file. The caller must have proof that bpo wrote it.
pub(super) fn remove_file(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(FileError::io("remove", path))
}

/// Removes an empty directory.
pub(super) fn remove_empty_dir(path: &Path) -> Result<(), FileError> {
    fs::remove_dir(path).map_err(FileError::io("remove", path))
}

/// Sets the length of a file.
pub(super) fn truncate(file: &File, length: u64) -> std::io::Result<()> {
    file.set_len(length)
}

/// Removes a directory that has a mark. The mark is removed last, so that ownership can still be
/// proven after an interruption.
pub(super) fn remove_marked(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == mark::NAME {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(dir.join(mark::NAME))?;
    fs::remove_dir(dir)
}

/// Removes a temporary file or directory of a killed process, if no process holds its lock.
pub(super) fn remove_abandoned(path: &Path) {
    let Ok(there) = path.symlink_metadata() else { return };
    // The lock is held until the removal is done, so that a process that just created the file
    // notices it.
    if there.is_file() {
        if let Ok(file) = File::open(path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(path);
        }
    } else if there.is_dir()
        && let Some((_, file)) = Mark::read(path)
        && file.try_lock().is_ok()
    {
        let _ = remove_marked(path);
    }
}
