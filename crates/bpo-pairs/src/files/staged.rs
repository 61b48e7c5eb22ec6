//! Whole directories.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::destructive::{remove_empty_dir, remove_marked, rename};
use super::error::FileError;
use super::mark::{self, Mark};
use super::temporary;

/// A directory that is made beside its target and moved there when it is whole.
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
/// Dropped without [`commit`](Self::commit) it is removed. See the [module](super) for what a killed process
/// leaves.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    dir: TempDir,
    /// Locked while the directory is in the making.
    mark: File,
}

impl StagedDir {
    /// Begins a directory. Missing parents of `target` are made.
    ///
    /// # Errors
    /// [`FileError::Occupied`] if `target` is there and no empty directory; [`FileError::Io`].
    pub fn new(target: &Path) -> Result<Self, FileError> {
        let target = target_of(target)?;
        if is_free(&target)? { Self::beside(target) } else { Err(FileError::Occupied { path: target }) }
    }

    /// Begins a directory that replaces one which was made in this way.
    ///
    /// # Errors
    /// [`FileError::NotOurs`] if `target` is there, not empty, and not all of it was written by bpo;
    /// [`FileError::Io`].
    pub fn replacing(target: &Path) -> Result<Self, FileError> {
        let target = target_of(target)?;
        if !is_free(&target)? {
            mark::check_owned(&target)?;
        }
        Self::beside(target)
    }

    fn beside(target: PathBuf) -> Result<Self, FileError> {
        let parent = temporary::parent(&target);
        fs::create_dir_all(parent).map_err(FileError::io("create the directory", parent))?;
        let dir = temporary::dir_in(parent).map_err(FileError::io("create a directory in", parent))?;
        let mark = Mark::begin(dir.path())?;
        Ok(Self { target, dir, mark })
    }

    /// The directory to write into. It has a mark, and nothing else.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until all files are on disk, and moves the directory to its target.
    ///
    /// An old directory is replaced by two renames. A process that is killed between them leaves no directory at
    /// the target.
    ///
    /// # Errors
    /// [`FileError::Occupied`] or [`FileError::NotOurs`] if the target has got something else since;
    /// [`FileError::Io`]. The directory in the making is then removed.
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
        // it is not there any more under its old name
        let _ = dir.keep();
        drop(mark);
        if let Some(old) = old {
            remove_marked(&old).map_err(FileError::io("remove", &old))?;
        }
        sync_dir(temporary::parent(&target))
    }
}

/// The path with a name at its end, whatever a shell puts behind it; the directory that a link leads to.
fn target_of(path: &Path) -> Result<PathBuf, FileError> {
    let absolute = std::path::absolute(path).map_err(FileError::io("find", path))?;
    let target: PathBuf = absolute.components().collect();
    if target.is_symlink() { target.canonicalize().map_err(FileError::io("find", path)) } else { Ok(target) }
}

/// Whether nothing is there, or an empty directory.
fn is_free(target: &Path) -> Result<bool, FileError> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(FileError::io("list", target)(error)),
    }
}

/// Waits until all in a directory is on disk.
fn sync(dir: &Path) -> Result<(), FileError> {
    let mut dirs = vec![dir.to_owned()];
    mark::walk(dir, &mut |path| {
        let path = dir.join(path);
        dirs.extend(path.parent().map(Path::to_owned));
        // a link has nothing to sync, and what it leads to is not ours
        if path.is_symlink() {
            return Ok(());
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(FileError::io("write", &path))
    })?;
    dirs.sort();
    dirs.dedup();
    dirs.iter().try_for_each(|dir| sync_dir(dir))
}

/// A rename is on disk when its directory is; elsewhere than on Unix directories cannot be opened.
fn sync_dir(dir: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(FileError::io("write", dir))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_a_directory_in_the_making_is_not() {
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
        // the end of a process ends its locks
        drop(mark);
        // the same name without the mark is no proof
        let mine = temporary::free_name(parent.path());
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("thesis"), "mine").unwrap();
        temporary::remove_abandoned_in(parent.path());
        assert!(!killed.exists() && mine.join("thesis").exists());
        making.commit().unwrap();
        assert!(parent.path().join("making/a.txt").exists());
    }
}
