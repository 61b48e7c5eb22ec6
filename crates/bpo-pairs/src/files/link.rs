//! Links to files.

use std::fs;
use std::io;
use std::path::Path;

use super::destructive::rename;
use super::error::FileError;
use super::temporary::{free_name, parent, sync_dir};

/// Creates `link`, which leads to the file at `target`, a path relative to the directory of `link`.
/// A file or link at `link` is replaced atomically.
///
/// The result is a symbolic link, or a hard link or a copy where the system allows no symbolic
/// links.
///
/// # Errors
/// Returns [`FileError::Io`] if `link` cannot be written.
pub fn link_file(target: &Path, link: &Path) -> Result<(), FileError> {
    let dir = parent(link);
    let made = free_name(dir);
    let file = dir.join(target);
    symbolic_link(target, &made)
        .or_else(|_| fs::hard_link(&file, &made))
        .or_else(|_| fs::copy(&file, &made).map(drop))
        .map_err(FileError::io("write", link))?;
    rename(&made, link)?;
    sync_dir(dir)
}

#[cfg(unix)]
fn symbolic_link(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symbolic_link(target: &Path, link: &Path) -> io::Result<()> {
    // Windows does not accept `/` in the target of a link
    std::os::windows::fs::symlink_file(target.components().collect::<std::path::PathBuf>(), link)
}

#[cfg(not(any(unix, windows)))]
fn symbolic_link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_replace_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("blobs")).unwrap();
        fs::create_dir_all(at("snapshot")).unwrap();
        fs::write(at("blobs/one"), "1").unwrap();
        fs::write(at("blobs/two"), "2").unwrap();
        for name in ["one", "two", "two"] {
            link_file(&Path::new("../blobs").join(name), &at("snapshot/file")).unwrap();
        }
        assert_eq!(fs::read_to_string(at("snapshot/file")).unwrap(), "2");
        assert_eq!(fs::read_to_string(at("blobs/one")).unwrap(), "1");
        assert_eq!(fs::read_dir(at("snapshot")).unwrap().count(), 1);
        #[cfg(unix)]
        assert_eq!(fs::read_link(at("snapshot/file")).unwrap(), Path::new("../blobs/two"));
    }
}
