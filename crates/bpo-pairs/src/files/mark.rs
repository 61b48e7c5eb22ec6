//! The mark in a directory that bpo has written.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::FileError;

/// Name of the mark in its directory.
pub(super) const NAME: &str = ".bpo-owned";
const MAKER: &str = "bpo";
/// More than any mark of ours has.
const LONGEST: u64 = 16 << 20;

/// What a directory's mark says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    written_by: String,
    /// Paths in the directory, with `/` between names; `None` while it is in the making.
    files: Option<Vec<String>>,
}

impl Mark {
    /// The mark of a directory and its open file; `None` if there is none.
    pub(super) fn read(dir: &Path) -> Option<(Self, File)> {
        let path = dir.join(NAME);
        // a FIFO would be waited for
        if !path.symlink_metadata().ok()?.is_file() {
            return None;
        }
        let file = File::open(path).ok()?;
        let mut text = Vec::new();
        (&file).take(LONGEST).read_to_end(&mut text).ok()?;
        let mark: Self = serde_json::from_slice(&text).ok()?;
        (mark.written_by == MAKER).then_some((mark, file))
    }

    /// Marks a new directory as one in the making. The file is locked for as long as it is open.
    pub(super) fn begin(dir: &Path) -> Result<File, FileError> {
        let path = dir.join(NAME);
        let write = |path: &Path| {
            let mut file = File::create_new(path)?;
            // a file system without locks has none to respect
            let _ = file.try_lock();
            file.write_all(&json(None)?)?;
            Ok(file)
        };
        write(&path).map_err(FileError::io("write", &path))
    }

    /// Replaces the mark of a directory by one that lists its files.
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

/// Checks that all in a directory was written by bpo.
pub(super) fn check_owned(dir: &Path) -> Result<(), FileError> {
    let not_ours = |reason: String| FileError::NotOurs { path: dir.to_owned(), reason };
    let is_dir = dir.symlink_metadata().is_ok_and(|there| there.is_dir());
    let mark = if is_dir { Mark::read(dir) } else { None };
    let Some((Mark { files: Some(listed), .. }, _)) = mark else {
        return Err(not_ours(format!("it has no file {NAME} that says that bpo wrote it")));
    };
    match files(dir)?.into_iter().find(|name| !listed.contains(name)) {
        Some(other) => {
            let name = crate::untrusted::Untrusted(&other);
            Err(not_ours(format!("bpo did not write the file {name} in it")))
        }
        None => Ok(()),
    }
}

/// All files in a directory and those in it but the mark, as paths with `/` between names, sorted. Links are
/// not followed.
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

/// Calls `each` with the path, in the directory, of everything in it that is no directory.
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
