//! Names of files and directories in the making, and what killed processes have left of them.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, TryLockError};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::destructive::remove_abandoned;

const PREFIX: &str = ".bpo-";
const SUFFIX: &str = ".tmp";

/// A locked file in a directory, with the permissions that a new file has. It is removed when it is dropped.
pub(super) fn file_in(dir: &Path) -> io::Result<NamedTempFile> {
    tidy(dir);
    loop {
        let prefix = prefix();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(dir)?;
        // another process may have taken it for abandoned before it was locked
        let is_locked_elsewhere = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
        if !is_locked_elsewhere && file.path().exists() {
            return Ok(file);
        }
    }
}

/// A new directory in another one. It is removed when it is dropped.
pub(super) fn dir_in(dir: &Path) -> io::Result<TempDir> {
    tidy(dir);
    let prefix = prefix();
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(dir)
}

/// A path that nothing has, for what is moved out of the way.
pub(super) fn free_name(dir: &Path) -> PathBuf {
    dir.join(format!("{}0{SUFFIX}", prefix()))
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what killed processes have left in a directory, the first time that this process writes there.
fn tidy(dir: &Path) {
    static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Ok(key) = dir.canonicalize() else { return };
    if TIDIED.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
        remove_abandoned_in(dir);
    }
}

/// What cannot be removed stays.
pub(super) fn remove_abandoned_in(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    entries
        .flatten()
        .filter(|entry| is_temporary(&entry.file_name()))
        .for_each(|entry| remove_abandoned(&entry.path()));
}

/// `.bpo-NONCE-CHECK-`
fn prefix() -> String {
    let nonce = format!("{:016x}", RandomState::new().hash_one(()));
    format!("{PREFIX}{nonce}-{}-", check(&nonce))
}

fn check(nonce: &str) -> String {
    let digest = Sha256::digest(format!("temporary file of bpo {nonce}"));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a name was given here.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let parts = |name: &str| {
        let (nonce, rest) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
        let (found, _) = rest.split_once('-')?;
        Some(found == check(nonce))
    };
    name.to_str().and_then(parts).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_their_check_are_temporary() {
        let given = free_name(Path::new("")).into_os_string().into_string().unwrap();
        assert!(is_temporary(OsStr::new(&given)), "{given}");
        let nonce = &given[PREFIX.len()..PREFIX.len() + 16];
        let other = given.replacen(nonce, "0123456789abcdef", 1);
        for name in [".bpo-mine.tmp", ".bpo-1-2-3.tmp", "a.part", "out.partial", &other, &given[1..]] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn abandoned_files_are_removed_and_files_in_the_making_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let making = file_in(dir.path()).unwrap();
        // a kill closes the file, which ends the lock, and leaves its name
        let (file, killed) = file_in(dir.path()).unwrap().keep().unwrap();
        drop(file);
        let mine = dir.path().join(".bpo-mine.tmp");
        fs::write(&mine, "mine").unwrap();
        remove_abandoned_in(dir.path());
        assert!(making.path().exists() && !killed.exists() && mine.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_under_a_temporary_name_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "mine").unwrap();
        let link = free_name(dir.path());
        std::os::unix::fs::symlink(&target, &link).unwrap();
        remove_abandoned_in(dir.path());
        assert!(link.is_symlink() && target.exists());
    }
}
