//! The ownership mark: a file in each directory that bpo has written.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::FileError;
use crate::limits::Limits;

/// File name of the mark.
pub(super) const NAME: &str = ".bpo-owned";
const MAKER: &str = "bpo";
/// Maximum size of a mark in bytes.
const LONGEST: u64 = Limits::DEFAULT.settings_bytes;

/// The content of a mark.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    written_by: String,
    /// Paths of the files in the directory, separated by `/`. `None` while the directory is being
    /// written.
    files: Option<Vec<String>>,
}

impl Mark {
    /// Reads the mark of a directory. Returns the mark and its open file, or `None` without a valid
    /// mark.
    pub(super) fn read(dir: &Path) -> Option<(Self, File)> {
        let path = dir.join(NAME);
        // opening a FIFO would block
        if !path.symlink_metadata().ok()?.is_file() {
            return None;
        }
        let file = File::open(path).ok()?;
        let mut text = Vec::new();
        (&file).take(LONGEST).read_to_end(&mut text).ok()?;
        let mark: Self = serde_json::from_slice(&text).ok()?;
        (mark.written_by == MAKER).then_some((mark, file))
    }

    /// Creates the mark of a new directory that is being written. The mark is locked while the
    /// returned file is open.
    pub(super) fn begin(dir: &Path) -> Result<File, FileError> {
        let path = dir.join(NAME);
        let write = |path: &Path| {
            let mut file = File::create_new(path)?;
            // locking fails on a file system without locks; abandoned directories are then not
            // removed
            let _ = file.try_lock();
            file.write_all(&json(None)?)?;
            Ok(file)
        };
        write(&path).map_err(FileError::io("write", &path))
    }

    /// Rewrites the mark with the list of all files in the directory.
    pub(super) fn finish(dir: &Path) -> Result<(), FileError> {
        let path = dir.join(NAME);
        let text = json(Some(files(dir)?)).map_err(FileError::io("write", &path))?;
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(FileError::io("write", &path))
    }
}

fn json(files: Option<Vec<String>>) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&Mark { written_by: MAKER.to_owned(), files })?;
    text.push(b'\n');
    Ok(text)
}

/// Checks that bpo wrote all files of a directory.
pub(super) fn check_owned(dir: &Path) -> Result<(), FileError> {
    let not_ours = |reason: String| FileError::NotOurs { path: dir.to_owned(), reason };
    let is_dir = dir.symlink_metadata().is_ok_and(|there| there.is_dir());
    let mark = if is_dir { Mark::read(dir) } else { None };
    let Some((Mark { files: Some(listed), .. }, _)) = mark else {
        return Err(not_ours(format!("it has no mark {NAME}, which bpo writes")));
    };
    match files(dir)?.into_iter().find(|name| !listed.contains(name)) {
        Some(other) => {
            let name = crate::untrusted::Untrusted(&other);
            Err(not_ours(format!("bpo did not write the file {name} in it")))
        }
        None => Ok(()),
    }
}

/// Returns the paths of all files below a directory except the mark, separated by `/` and sorted.
/// Links are not followed.
pub(super) fn files(dir: &Path) -> Result<Vec<String>, FileError> {
    let mut found = Vec::new();
    walk(dir, &mut |path| {
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        found.push(names.join("/"));
        Ok(())
    })?;
    found.retain(|name| name != NAME);
    found.sort();
    Ok(found)
}

/// Calls `each` with the relative path of every entry below `dir` that is not a directory.
pub(super) fn walk(
    dir: &Path,
    each: &mut dyn FnMut(&Path) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        let full = dir.join(&below);
        for entry in std::fs::read_dir(&full).map_err(FileError::io("list", &full))? {
            let entry = entry.map_err(FileError::io("list", &full))?;
            let path = below.join(entry.file_name());
            if entry.file_type().map_err(FileError::io("list", &full))?.is_dir() {
                pending.push(path);
            } else {
                each(&path)?;
            }
        }
    }
    Ok(())
}
