//! Copying of the files of a directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::FileError;
use super::{mark, temporary};

/// Copies the files of the directory `from` whose names `wanted` accepts into the directory `to`,
/// and returns the paths of links that were not copied, sorted.
///
/// Subdirectories, ownership marks and temporary files of this module are not copied. A link is
/// followed if `read` accepts its name, which must only be so for files whose content the caller
/// uses anyway, if it leads to a file in `from`, or if `from` is a snapshot in a Hugging Face cache,
/// whose files are links into the `blobs` directory of the model. Other links are returned, because
/// a link in a directory of unknown origin can lead to any file. Dangling links are ignored.
///
/// # Errors
/// Returns [`FileError::Io`] if `from` cannot be listed or a file cannot be copied.
pub fn copy_files(
    from: &Path,
    to: &Path,
    wanted: impl Fn(&Path) -> bool,
    read: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, FileError> {
    let root = from.canonicalize().map_err(FileError::io("list", from))?;
    let blobs = blobs_of(&root);
    let mut left_out = Vec::new();
    for entry in fs::read_dir(&root).map_err(FileError::io("list", from))? {
        let name = entry.map_err(FileError::io("list", from))?.file_name();
        let (source, target) = (root.join(&name), to.join(&name));
        let Ok(leads_to) = source.canonicalize() else { continue };
        // the mark only applies to the directory that it was written in
        let is_ours = name == mark::NAME || temporary::maker(&name).is_some();
        if is_ours || !wanted(Path::new(&name)) || !leads_to.is_file() {
            continue;
        }
        let is_inside =
            leads_to.starts_with(&root) || blobs.as_ref().is_some_and(|blobs| leads_to.starts_with(blobs));
        if is_inside || read(Path::new(&name)) {
            fs::copy(&leads_to, &target).map_err(FileError::io("copy", &source))?;
        } else {
            left_out.push(from.join(name));
        }
    }
    left_out.sort();
    Ok(left_out)
}

/// Returns the directory of `models--ORG--NAME/blobs`, which can be a link, for
/// `models--ORG--NAME/snapshots/REVISION`.
fn blobs_of(snapshot: &Path) -> Option<PathBuf> {
    let snapshots = snapshot.parent().filter(|parent| parent.ends_with("snapshots"))?;
    snapshots.parent()?.join("blobs").canonicalize().ok()
}
