//! Atomic writing of whole directories.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::destructive::{remove_empty_dir, remove_marked, rename};
use super::error::FileError;
use super::mark::{self, Mark};
use super::temporary::{self, sync_dir};
use super::write::create_parents;
use crate::untrusted::UntrustedPath;

/// A directory that is written beside its target and moved there when it is complete.
///
/// ```
/// # use bpo_pairs::files::StagedDir;
/// # let parent = tempfile::tempdir()?;
/// # let out = parent.path().join("out");
/// let dir = StagedDir::new(&out)?;
/// std::fs::write(dir.path().join("config.json"), "{}")?;
/// assert!(!out.exists());
/// dir.commit()?;
/// assert!(out.join("config.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A value dropped without [`commit`](Self::commit) removes the directory. The [module](super)
/// describes what a killed process leaves.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    dir: TempDir,
    /// The mark, locked until the directory is moved to its target.
    mark: File,
}

impl StagedDir {
    /// Creates a directory for a new `target`. Missing parents of `target` are created.
    ///
    /// # Errors
    /// Returns [`FileError::Occupied`] if `target` exists and is not an empty directory, and
    /// [`FileError::Io`] otherwise.
    pub fn new(target: &Path) -> Result<Self, FileError> {
        let target = target_of(target)?;
        if is_free(&target)? { Self::beside(target) } else { Err(FileError::Occupied { path: target }) }
    }

    /// Creates a directory that replaces `target`, which may be missing or must have been written
    /// with `StagedDir`.
    ///
    /// # Errors
    /// Returns [`FileError::NotOurs`] if `target` is not empty and bpo did not write all of it, and
    /// [`FileError::Io`] otherwise.
    pub fn replacing(target: &Path) -> Result<Self, FileError> {
        let target = target_of(target)?;
        if !is_free(&target)? {
            mark::check_owned(&target)?;
        }
        Self::beside(target)
    }

    fn beside(target: PathBuf) -> Result<Self, FileError> {
        create_parents(&target)?;
        let parent = temporary::parent(&target);
        let dir = temporary::dir_in(parent).map_err(FileError::io("create a directory in", parent))?;
        let mark = Mark::begin(dir.path())?;
        Ok(Self { target, dir, mark })
    }

    /// Returns the directory to write into. At first it contains only the mark.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until all files are on disk, and moves the directory to its target.
    ///
    /// An existing directory is replaced by two renames. A process that is killed between them
    /// leaves no directory at the target.
    ///
    /// # Errors
    /// Returns [`FileError::NotOurs`] if the target now holds files that bpo did not write, and
    /// [`FileError::Io`] otherwise. The staged directory is then removed.
    pub fn commit(self) -> Result<(), FileError> {
        let Self { target, dir, mark } = self;
        Mark::finish(dir.path())?;
        sync(dir.path())?;
        let old = if is_free(&target)? {
            if target.is_dir() {
                remove_empty_dir(&target)?;
            }
            None
        } else {
            mark::check_owned(&target)?;
            let moved = temporary::free_name(temporary::parent(&target));
            rename(&target, &moved)?;
            Some(moved)
        };
        rename(dir.path(), &target)?;
        // the directory was renamed, so there is nothing to remove on drop
        let _ = dir.keep();
        drop(mark);
        sync_dir(temporary::parent(&target))?;
        if let Some(old) = old
            && let Err(error) = remove_marked(&old)
        {
            // the new directory is in place, and the next process that writes here tries again
            let path = tracing::field::display(UntrustedPath(&old));
            tracing::warn!(path, %error, "the replaced directory cannot be removed");
        }
        Ok(())
    }
}

/// Returns the absolute path without trailing slashes, or the directory that a symbolic link leads
/// to.
fn target_of(path: &Path) -> Result<PathBuf, FileError> {
    let absolute = std::path::absolute(path).map_err(FileError::io("find", path))?;
    let target: PathBuf = absolute.components().collect();
    if target.is_symlink() { target.canonicalize().map_err(FileError::io("find", path)) } else { Ok(target) }
}

/// Returns whether `target` does not exist or is an empty directory.
fn is_free(target: &Path) -> Result<bool, FileError> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(FileError::io("list", target)(error)),
    }
}

/// Waits until all files and directories below `dir` are on disk.
fn sync(dir: &Path) -> Result<(), FileError> {
    let mut dirs = vec![dir.to_owned()];
    mark::walk(dir, &mut |path| {
        let path = dir.join(path);
        dirs.extend(path.parent().map(Path::to_owned));
        // a link has no content to sync, and its target is not part of the directory
        if path.is_symlink() {
            return Ok(());
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(FileError::io("write", &path))
    })?;
    dirs.sort();
    dirs.dedup();
    dirs.iter().try_for_each(|dir| sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_directories_are_removed_and_active_ones_kept() {
        let parent = tempfile::tempdir().unwrap();
        let begin = |name: &str| {
            let staged = StagedDir::new(&parent.path().join(name)).unwrap();
            fs::write(staged.path().join("a.txt"), "a").unwrap();
            staged
        };
        let making = begin("making");
        let StagedDir { dir, mark, .. } = begin("killed");
        let killed = dir.keep();
        temporary::remove_abandoned_in(parent.path());
        assert!(killed.exists(), "it was locked");
        // the end of a process releases its locks
        drop(mark);
        // a directory with a temporary name but without a mark is not removed
        let mine = temporary::free_name(parent.path());
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("thesis"), "mine").unwrap();
        temporary::remove_abandoned_in(parent.path());
        assert!(!killed.exists() && mine.join("thesis").exists());
        making.commit().unwrap();
        assert!(parent.path().join("making/a.txt").exists());
    }
}
