//! All renaming, removing and truncating of files in the workspace.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use super::error::FileError;
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

/// Renames a file or directory.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::io("rename", from))
}

/// Removes a file. Does not follow a link.
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
/// proven after an interruption. What another process removes at the same time is no error.
pub(super) fn remove_marked(dir: &Path) -> std::io::Result<()> {
    let Some(entries) = unless_missing(fs::read_dir(dir))? else { return Ok(()) };
    for entry in entries {
        let Some(entry) = unless_missing(entry)? else { continue };
        if entry.file_name() == mark::NAME {
            continue;
        }
        let Some(kind) = unless_missing(entry.file_type())? else { continue };
        if kind.is_dir() {
            unless_missing(fs::remove_dir_all(entry.path()))?;
        } else {
            unless_missing(fs::remove_file(entry.path()))?;
        }
    }
    unless_missing(fs::remove_file(dir.join(mark::NAME)))?;
    unless_missing(fs::remove_dir(dir)).map(drop)
}

/// Returns `None` for the error that a file or directory does not exist.
fn unless_missing<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::StagedDir;

    #[test]
    fn processes_that_remove_one_directory_together_all_succeed() {
        for _ in 0..20 {
            let parent = tempfile::tempdir().unwrap();
            let out = parent.path().join("out");
            let staged = StagedDir::new(&out).unwrap();
            for i in 0..20 {
                let sub = staged.path().join(format!("{}", i % 4));
                fs::create_dir_all(&sub).unwrap();
                fs::write(sub.join(format!("{i}")), "x").unwrap();
            }
            staged.commit().unwrap();
            std::thread::scope(|scope| {
                let removers: Vec<_> = (0..4).map(|_| scope.spawn(|| remove_marked(&out))).collect();
                removers.into_iter().for_each(|remover| remover.join().unwrap().unwrap());
            });
            assert!(!out.exists());
        }
    }
}
