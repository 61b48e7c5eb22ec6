//! Files that are whole or not there.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::FilesError;
use super::png;

/// Sees that a file's name says that it is a PNG file.
pub(crate) fn check_name(path: &Path) -> Result<(), FilesError> {
    match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        true => Ok(()),
        false => Err(FilesError::NotPng { path: path.to_owned() }),
    }
}

/// Writes a file under another name, and renames it when its bytes have reached the disk. Folders are made.
///
/// The bytes are those of a PNG file that says what it was made of.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(FilesError::io("create the folder", folder))?;
    }
    let (part, mut file) = create_part(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let moved = written
        .map_err(FilesError::io("write", &part))
        .and_then(|()| fs::rename(&part, path).map_err(FilesError::io("write", path)));
    if moved.is_err() {
        // the first error is the one to tell
        let _ = fs::remove_file(&part);
    }
    moved
}

/// A new file beside another, of the first name that nobody has. What a kill has left under it is removed.
///
/// It is locked while it is open, so that nobody else takes it for left.
fn create_part(path: &Path) -> Result<(PathBuf, File), FilesError> {
    let mut count = 0;
    loop {
        let part = part_name(path, count);
        match File::create_new(&part) {
            // a file system without locks has none to respect
            Ok(file) if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) => return Ok((part, file)),
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match is_left(&part) {
                true => remove(&part)?,
                false => count += 1,
            },
            Err(error) => return Err(FilesError::io("write", &part)(error)),
        }
    }
}

/// No name of an image, which has no dot in front, nor of what becomes of one, which ends in `.png`; as long for names of any
/// length.
fn part_name(path: &Path, count: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let digest: String = Sha256::digest(name)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let count = if count == 0 { String::new() } else { format!("-{count}") };
    path.with_file_name(format!(".distort-{digest}{count}.part"))
}

/// Whether it was written here and nobody goes on with it: it is empty, or says so as the whole file would.
fn is_left(part: &Path) -> bool {
    // to open a pipe is to wait for somebody who writes to it
    let Ok(metadata) = part.symlink_metadata() else { return false };
    let is_free = || {
        let file = File::open(part);
        file.is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    };
    let is_ours = || metadata.len() == 0 || matches!(png::text(part), Ok(Some(_)));
    metadata.is_file() && is_free() && is_ours()
}

/// Removes a file that may be gone.
fn remove(part: &Path) -> Result<(), FilesError> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FilesError::io("remove", part)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ::png::Compression;
    use image::RgbImage;

    use super::*;

    /// The files in a folder but for one, and what is in them.
    fn others(file: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let mut others: Vec<_> =
            entries.filter(|path| path != file).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        others.sort();
        others
    }

    fn bytes() -> Vec<u8> {
        png::encode(&RgbImage::new(40, 40), "v1 test", Compression::Fast).unwrap()
    }

    #[test]
    fn files_of_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        let names = ["a.png.part".into(), ".a.png.part".into(), part_name(&file, 0), part_name(&file, 1)];
        names.iter().for_each(|name: &PathBuf| fs::write(dir.path().join(name), "thesis").unwrap());
        let before = others(&file);
        write(&file, &bytes()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), bytes());
        assert_eq!(others(&file), before);
        // nor where the file cannot be moved to its place
        let folder = dir.path().join("b.png");
        fs::create_dir_all(folder.join("full")).unwrap();
        assert!(matches!(write(&folder, &bytes()), Err(FilesError::Io { path, .. }) if path == folder));
        fs::remove_dir_all(folder).unwrap();
        assert_eq!(others(&file), before);
    }

    #[test]
    fn what_a_kill_left_is_gone_and_what_is_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        for left in [0, 100, bytes().len()] {
            fs::write(part_name(&file, 0), &bytes()[..left]).unwrap();
            write(&file, &bytes()).unwrap();
            assert_eq!(fs::read(&file).unwrap(), bytes());
            assert_eq!(others(&file), []);
        }
        let (part, mut other) = create_part(&file).unwrap();
        write(&file, &bytes()).unwrap();
        other.write_all(b"more").unwrap();
        assert_eq!(others(&file), [(part, b"more".to_vec())]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (file, target) = (dir.path().join("a.png"), dir.path().join("target"));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, part_name(&file, 0)).unwrap();
        write(&file, &bytes()).unwrap();
        assert_eq!(fs::read(target).unwrap(), b"");
        assert!(part_name(&file, 0).is_symlink());
    }

    #[test]
    fn the_longest_names_are_no_longer_in_the_making() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(format!("{}.png", "n".repeat(251)));
        write(&file, &bytes()).unwrap();
        assert_eq!(others(&file), []);
    }
}
