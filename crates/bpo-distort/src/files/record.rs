//! The file in a folder that says how it was made.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::FilesError;
use super::listing::is_hidden;
use super::origin::VERSION;

pub(crate) const NAME: &str = "distort.json";

/// What all files of a folder are made with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    distortion: String,
    seed: u64,
}

impl Record {
    pub(crate) fn new(distortion: String, seed: u64) -> Self {
        Self { version: VERSION, distortion, seed }
    }

    /// Whether a folder was begun with these settings, `false` if it was not begun at all.
    ///
    /// # Errors
    /// If it was begun with others, or something else is in it.
    pub(crate) fn fits(&self, folder: &Path) -> Result<bool, FilesError> {
        let path = folder.join(NAME);
        match fs::read(&path) {
            // as a kill may leave it
            Ok(there) if there.is_empty() => {}
            Ok(there) => return self.compare(folder, &there).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(FilesError::io("read", &path)(error)),
        }
        let entries = match folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(FilesError::io("list", folder)(error)),
        };
        for entry in entries {
            let name = entry.map_err(FilesError::io("list", folder))?.file_name();
            if !is_hidden(&name) && name != NAME {
                return Err(FilesError::NotOurs { path: folder.to_owned(), record: NAME });
            }
        }
        Ok(false)
    }

    /// Makes the folder, and keeps other processes out for as long as the file is open.
    ///
    /// # Errors
    /// If another process is in it, or was in the meantime with other settings.
    pub(crate) fn begin(&self, folder: &Path) -> Result<File, FilesError> {
        fs::create_dir_all(folder).map_err(FilesError::io("create the folder", folder))?;
        let path = folder.join(NAME);
        let mut file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(FilesError::io("write", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(FilesError::Locked { path: folder.to_owned() }),
            // a file system without locks has none to respect
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut there = Vec::new();
        file.read_to_end(&mut there).map_err(FilesError::io("read", &path))?;
        if !there.is_empty() {
            return self.compare(folder, &there).map(|()| file);
        }
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|source| FilesError::Record { path: path.clone(), source })?;
        json.push(b'\n');
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(FilesError::io("write", &path))?;
        Ok(file)
    }

    fn compare(&self, folder: &Path, there: &[u8]) -> Result<(), FilesError> {
        let there: Self = serde_json::from_slice(there)
            .map_err(|source| FilesError::Record { path: folder.join(NAME), source })?;
        let settings = [
            ("version", there.version.to_string(), self.version.to_string()),
            ("distortion", there.distortion, self.distortion.clone()),
            ("seed", there.seed.to_string(), self.seed.to_string()),
        ];
        match settings.into_iter().find(|(_, there, now)| there != now) {
            None => Ok(()),
            Some((setting, there, now)) => {
                Err(FilesError::OtherSettings { path: folder.to_owned(), setting, there, now })
            }
        }
    }
}
