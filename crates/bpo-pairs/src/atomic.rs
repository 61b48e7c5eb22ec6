//! Files that are whole or not there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::PairsError;

/// Writes a file under another name (`{path}.part`), and renames it when its bytes have reached the disk.
///
/// A process that is killed at any moment leaves the old file or the new one. Two processes must not write the same file.
///
/// # Errors
/// If the file cannot be made, written or renamed, and what `write` fails with; the old file then stays as it was.
pub fn write_atomic<E: From<PairsError>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let part = part_name(path);
    let written = write_part(&part, write)
        .and_then(|()| Ok(fs::rename(&part, path).map_err(PairsError::io("replace", path))?));
    if written.is_err() {
        // The first error is the one to tell; a leftover part is overwritten by the next attempt.
        let _ = fs::remove_file(&part);
    }
    written
}

fn write_part<E: From<PairsError>>(
    part: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::create(part).map_err(PairsError::io("create", part))?;
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    writer.flush().map_err(PairsError::io("write", part))?;
    Ok(writer.get_ref().sync_all().map_err(PairsError::io("write", part))?)
}

fn part_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        let write = |text: &'static [u8]| {
            write_atomic(&path, move |writer| {
                writer.write_all(text).map_err(PairsError::io("write", Path::new("a.txt")))?;
                if text.is_empty() { Err(PairsError::Locked { path: "x".into() }) } else { Ok(()) }
            })
        };
        write(b"old").unwrap();
        assert!(matches!(write(b""), Err(PairsError::Locked { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let failed: Result<(), PairsError> = write_atomic(&dir.path().join("no/a.txt"), |_| Ok(()));
        assert!(failed.is_err());
    }
}
