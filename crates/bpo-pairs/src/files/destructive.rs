//! The only place in the workspace that renames, removes and truncates.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use super::error::{FileError, describe};
use super::mark::{self, Mark};
use super::temporary;

/// Removes a directory that [`StagedDir`](super::StagedDir) has written. One that is not there is no error.
///
/// It is moved out of the way before anything in it is removed, so a process that is killed leaves the whole
/// directory or none at its path.
///
/// # Errors
/// [`FileError::NotOurs`] if it has no mark or a file that the mark does not list; [`FileError::Io`].
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

/// Removes a regular file if `is_ours` finds the proof in its content. One that is not there is no error.
///
/// # Errors
/// [`FileError::NotOurs`] if there is no proof, or the path is a link or no regular file; [`FileError::Io`].
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

/// Removes a file. The caller has the proof that it is ours.
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

/// Removes a directory with a mark. The mark goes last, so that the rest of it stays provable.
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

/// Removes what a killed process has left under a name of [`temporary`], if nobody holds its lock.
pub(super) fn remove_abandoned(path: &Path) {
    let Ok(there) = path.symlink_metadata() else { return };
    // the locks are held until the removal is done: a process that has just made the file sees that
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
