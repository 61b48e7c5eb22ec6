//! Temporary files and directories, and the removal of those that killed processes have left.

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

/// Creates and locks a temporary file in `dir`, with the default permissions of new files. It is
/// removed on drop.
pub(super) fn file_in(dir: &Path) -> io::Result<NamedTempFile> {
    tidy(dir);
    loop {
        let prefix = prefix();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(dir)?;
        // another process may have removed the file as abandoned before it was locked
        let is_locked_elsewhere = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
        if !is_locked_elsewhere && file.path().exists() {
            return Ok(file);
        }
    }
}

/// Creates a temporary directory in `dir`. It is removed on drop.
pub(super) fn dir_in(dir: &Path) -> io::Result<TempDir> {
    tidy(dir);
    let prefix = prefix();
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(dir)
}

/// Returns an unused path in `dir`, to which a file or directory can be moved before it is removed.
pub(super) fn free_name(dir: &Path) -> PathBuf {
    dir.join(format!("{}0{SUFFIX}", prefix()))
}

/// Returns the parent directory of a path, or `.` for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes abandoned files and directories in `dir` when this process first writes there.
fn tidy(dir: &Path) {
    static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Ok(key) = dir.canonicalize() else { return };
    if TIDIED.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
        remove_abandoned_in(dir);
    }
}

/// Removes abandoned files and directories in `dir`. Those that cannot be removed are ignored.
pub(super) fn remove_abandoned_in(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    entries
        .flatten()
        .filter(|entry| is_temporary(&entry.file_name()))
        .for_each(|entry| remove_abandoned(&entry.path()));
}

/// Returns a new `.bpo-NONCE-CHECK-`.
fn prefix() -> String {
    let nonce = format!("{:016x}", RandomState::new().hash_one(()));
    format!("{PREFIX}{nonce}-{}-", check(&nonce))
}

fn check(nonce: &str) -> String {
    let digest = Sha256::digest(format!("temporary file of bpo {nonce}"));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns whether a name is one that this module gave.
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
    fn only_names_with_a_checksum_are_temporary() {
        let given = free_name(Path::new("")).into_os_string().into_string().unwrap();
        assert!(is_temporary(OsStr::new(&given)), "{given}");
        let nonce = &given[PREFIX.len()..PREFIX.len() + 16];
        let other = given.replacen(nonce, "0123456789abcdef", 1);
        for name in [".bpo-mine.tmp", ".bpo-1-2-3.tmp", "a.part", "out.partial", &other, &given[1..]] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn abandoned_files_are_removed_and_active_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let making = file_in(dir.path()).unwrap();
        // a killed process releases the lock and leaves the file
        let (file, killed) = file_in(dir.path()).unwrap().keep().unwrap();
        drop(file);
        let mine = dir.path().join(".bpo-mine.tmp");
        fs::write(&mine, "mine").unwrap();
        remove_abandoned_in(dir.path());
        assert!(making.path().exists() && !killed.exists() && mine.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_with_a_temporary_name_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "mine").unwrap();
        let link = free_name(dir.path());
        std::os::unix::fs::symlink(&target, &link).unwrap();
        remove_abandoned_in(dir.path());
        assert!(link.is_symlink() && target.exists());
    }
}
