//! The files of one directory into another.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::FileError;
use super::{mark, temporary};

/// Copies the files of the directory `from` that `wanted` takes by their names into the directory `to`.
/// Directories in it are left out, and so are files that only this module writes.
///
/// A link is followed if it leads to a file in `from`, or if `from` is a snapshot in a Hugging Face cache, whose
/// files are links to the `blobs` directory beside it. Other links are not followed: they are returned. Links
/// that lead nowhere are passed over.
///
/// # Errors
/// [`FileError::Io`] if `from` cannot be listed or a file not be copied.
pub fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, FileError> {
    let root = from.canonicalize().map_err(FileError::io("list", from))?;
    let blobs = blobs_of(&root);
    let mut left_out = Vec::new();
    for entry in fs::read_dir(&root).map_err(FileError::io("list", from))? {
        let name = entry.map_err(FileError::io("list", from))?.file_name();
        let (source, target) = (root.join(&name), to.join(&name));
        let Ok(leads_to) = source.canonicalize() else { continue };
        // our own mark is of the directory that it is in
        let is_ours = name == mark::NAME || temporary::is_temporary(&name);
        if is_ours || !wanted(Path::new(&name)) || !leads_to.is_file() {
            continue;
        }
        let is_inside =
            leads_to.starts_with(&root) || blobs.as_ref().is_some_and(|blobs| leads_to.starts_with(blobs));
        if is_inside {
            fs::copy(&leads_to, &target).map_err(FileError::io("copy", &source))?;
        } else {
            left_out.push(from.join(name));
        }
    }
    left_out.sort();
    Ok(left_out)
}

/// `blobs` of `models--org--name/snapshots/REVISION`.
fn blobs_of(snapshot: &Path) -> Option<PathBuf> {
    let snapshots = snapshot.parent().filter(|parent| parent.ends_with("snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}
