//! Files that are whole or not there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::error::FilesError;

/// Sees that a file's name says that it is a PNG file.
pub(crate) fn check_name(path: &Path) -> Result<(), FilesError> {
    match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        true => Ok(()),
        false => Err(FilesError::NotPng { path: path.to_owned() }),
    }
}

/// Writes a file under another name, and renames it when its bytes have reached the disk. Folders are made.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(FilesError::io("create the folder", folder))?;
    }
    let mut part = OsString::from(path);
    part.push(".part");
    let part = Path::new(&part);
    let written = File::create(part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written
        .map_err(FilesError::io("write", part))
        .and_then(|()| fs::rename(part, path).map_err(FilesError::io("write", path)));
    if moved.is_err() {
        // the first error is the one to tell
        let _ = fs::remove_file(part);
    }
    moved
}
