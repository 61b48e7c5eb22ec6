//! Temporary files and directories, and the removal of those that killed processes have left.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, TryLockError};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

use super::destructive::remove_abandoned;
use super::error::FileError;
use crate::fingerprint::Fingerprint;

const PREFIX: &str = ".bpo-";
const SUFFIX: &str = ".tmp";
/// Time after the last change for which temporary files of other hosts are kept.
const KEPT_OF_OTHERS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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

/// Waits until the entries of a directory are on disk. Does nothing outside of Unix, where
/// directories cannot be opened.
pub(super) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(FileError::io("write", dir))
    } else {
        Ok(())
    }
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
    for entry in entries.flatten() {
        let is_abandoned = match maker(&entry.file_name()) {
            None => false,
            Some(Maker::ThisSystem) => true,
            Some(Maker::OtherSystem) => is_old(&entry.path()),
        };
        if is_abandoned {
            remove_abandoned(&entry.path());
        }
    }
}

/// Returns whether a file or directory was last changed long ago. A file of a living process
/// changes more often.
fn is_old(path: &Path) -> bool {
    let changed = path.symlink_metadata().and_then(|there| there.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > KEPT_OF_OTHERS))
}

/// Returns a new `.bpo-NONCE-HOST-CHECK-`.
fn prefix() -> String {
    prefix_of(host())
}

fn prefix_of(host: &str) -> String {
    let nonce = format!("{:016x}", RandomState::new().hash_one(()));
    format!("{PREFIX}{nonce}-{host}-{}-", check(&nonce, host))
}

fn check(nonce: &str, host: &str) -> String {
    first_digits(&format!("temporary file of bpo {nonce} {host}"))
}

fn first_digits(text: &str) -> String {
    Fingerprint::of(text).as_str()[..16].to_owned()
}

/// Returns 16 digits that differ between hosts and between starts of a host. They are the same on
/// all hosts outside of Linux.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        first_digits(&format!("host of bpo {}", id.unwrap_or_default()))
    })
}

/// The system whose process gave a temporary name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    ThisSystem,
    /// Another host, or an earlier start of this one.
    OtherSystem,
}

/// Returns the maker of a temporary name, or `None` for a name that this module did not give.
pub(super) fn maker(name: &OsStr) -> Option<Maker> {
    let (nonce, rest) = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
    let (of, rest) = rest.split_once('-')?;
    let (found, _) = rest.split_once('-')?;
    let by = if of == host() { Maker::ThisSystem } else { Maker::OtherSystem };
    (found == check(nonce, of)).then_some(by)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_names_with_a_checksum_are_temporary() {
        let given = free_name(Path::new("")).into_os_string().into_string().unwrap();
        assert_eq!(maker(OsStr::new(&given)), Some(Maker::ThisSystem), "{given}");
        let nonce = &given[PREFIX.len()..PREFIX.len() + 16];
        let other = given.replacen(nonce, "0123456789abcdef", 1);
        for name in [".bpo-mine.tmp", ".bpo-1-2-3.tmp", "a.part", "out.partial", &other, &given[1..]] {
            assert_eq!(maker(OsStr::new(name)), None, "{name}");
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

    #[test]
    fn files_of_another_host_are_removed_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = |age: u64| {
            let path = dir.path().join(format!("{}{age}{SUFFIX}", prefix_of("0123456789abcdef")));
            assert_eq!(maker(path.file_name().unwrap()), Some(Maker::OtherSystem));
            let file = fs::File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let (living, old) = (file(60 * 60), file(8 * 24 * 60 * 60));
        remove_abandoned_in(dir.path());
        assert!(living.exists() && !old.exists());
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
