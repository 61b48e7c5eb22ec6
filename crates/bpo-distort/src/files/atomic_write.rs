//! Files that are whole or not there.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, TryLockError};
use std::hash::BuildHasher;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::FilesError;
use super::png::{self, Found};

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
    // unless somebody else writes the same file
    let _ = part.parent().map(fs::remove_dir);
    moved
}

/// Removes what a kill has left of the making of a file that is there.
pub(crate) fn tidy(path: &Path) {
    let folder = parts_name(path, 0);
    if folder.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        clean(&folder);
        // unless somebody else writes the same file
        let _ = fs::remove_dir(folder);
    }
}

/// A new file in a folder beside the other, of a name that nobody has or will have. What a kill has left there is removed.
///
/// It is locked while it is open, so that nobody takes it for left. A fixed name would not do: between its making and its locking
/// another process may remove it and make its own of the same name, which would then be renamed before it is whole.
fn create_part(path: &Path) -> Result<(PathBuf, File), FilesError> {
    loop {
        let folder = parts_folder(path)?;
        clean(&folder);
        // the standard library's only random numbers
        let part = folder.join(format!("{:016x}", RandomState::new().hash_one(())));
        match File::create_new(&part) {
            // a file system without locks has none to respect, and nothing is removed there
            Ok(file) if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && part.exists() => {
                return Ok((part, file));
            }
            // taken for left before it was locked
            Ok(_) => {}
            // or the folder is gone with what another process has made in it
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
            Err(error) => return Err(FilesError::io("write", &part)(error)),
        }
    }
}

/// The folder for what becomes a file, made where it is not there.
fn parts_folder(path: &Path) -> Result<PathBuf, FilesError> {
    let mut count = 0;
    loop {
        let folder = parts_name(path, count);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match folder.symlink_metadata() {
                Ok(there) if there.is_dir() => return Ok(folder),
                Ok(_) => count += 1,
                // gone in the meantime
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(FilesError::io("look at", &folder)(error)),
            },
            Err(error) => return Err(FilesError::io("create the folder", &folder)(error)),
        }
    }
}

/// No name of an image, which has no dot in front; as long for names of any length.
fn parts_name(path: &Path, count: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let digest: String = Sha256::digest(name)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let count = if count == 0 { String::new() } else { format!("-{count}") };
    path.with_file_name(format!(".distort-{digest}{count}.part"))
}

/// Removes what was left in a folder. What cannot be removed is in nobody's way.
fn clean(folder: &Path) {
    let Ok(entries) = folder.read_dir() else { return };
    entries.flatten().for_each(|entry| remove_left(&entry.path()));
}

/// Removes a file if it was written here and nobody goes on with it.
fn remove_left(part: &Path) {
    // to open a pipe is to wait for somebody who writes to it
    let is_file = part.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file || matches!(png::look(part), Ok(Found::Other) | Err(_)) {
        return;
    }
    // locked until it is gone, so that who has just made it sees that
    if let Ok(file) = File::open(part)
        && file.try_lock().is_ok()
    {
        let _ = fs::remove_file(part);
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
        let names = ["a.png.part".into(), ".a.png.part".into(), parts_name(&file, 0), parts_name(&file, 1)];
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
        // nor in the folder itself
        let parts = parts_name(&file, 0);
        fs::remove_file(&parts).unwrap();
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("thesis"), "mine").unwrap();
        write(&file, &bytes()).unwrap();
        assert_eq!(others(&parts.join("x")), [(parts.join("thesis"), b"mine".to_vec())]);
    }

    #[test]
    fn what_a_kill_left_is_gone_and_what_is_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        let parts = parts_name(&file, 0);
        for left in [0, 5, 50, 100, bytes().len()] {
            fs::create_dir(&parts).unwrap();
            fs::write(parts.join("left"), &bytes()[..left]).unwrap();
            write(&file, &bytes()).unwrap();
            assert_eq!(fs::read(&file).unwrap(), bytes());
            assert_eq!(others(&file), []);
        }
        // one that came between the renaming and the end
        fs::create_dir(&parts).unwrap();
        tidy(&file);
        assert_eq!(others(&file), []);
        let (part, mut other) = create_part(&file).unwrap();
        write(&file, &bytes()).unwrap();
        tidy(&file);
        other.write_all(b"more").unwrap();
        assert_eq!(others(&part), []);
        assert_eq!(fs::read(part).unwrap(), b"more");
    }

    /// Each of several writers has bytes of its own: whatever is there is one of theirs, and whole.
    #[test]
    fn writers_of_one_file_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        let text = |writer: usize| format!("v1 test {writer}");
        let rounds = 100;
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (file, text) = (&file, text(writer));
                scope.spawn(move || {
                    let bytes = png::encode(&RgbImage::new(300, 300), &text, Compression::Fast).unwrap();
                    for _ in 0..rounds {
                        write(file, &bytes).unwrap();
                        assert!(matches!(png::look(file).unwrap(), Found::Made(_)));
                        assert!(png::is_whole(file).unwrap());
                    }
                });
            }
        });
        assert!(
            matches!(png::look(&file).unwrap(), Found::Made(made) if (0..4).any(|writer| made == text(writer)))
        );
        assert_eq!(others(&file), []);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (file, target) = (dir.path().join("a.png"), dir.path().join("target"));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("empty"), "").unwrap();
        std::os::unix::fs::symlink(&target, parts_name(&file, 0)).unwrap();
        write(&file, &bytes()).unwrap();
        assert_eq!(fs::read(target.join("empty")).unwrap(), b"");
        assert!(parts_name(&file, 0).is_symlink());
    }

    #[test]
    fn the_longest_names_are_no_longer_in_the_making() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(format!("{}.png", "n".repeat(251)));
        write(&file, &bytes()).unwrap();
        assert_eq!(others(&file), []);
    }
}
