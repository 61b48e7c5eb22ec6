//! The file in a folder that says how it was made.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::FilesError;
use super::listing::is_hidden;
use super::origin::VERSION;
use super::whole::write;

const NAME: &str = "distort.json";

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
        if path.exists() {
            return self.compare(folder, &path).map(|()| true);
        }
        let is_ours = |name: &std::ffi::OsStr| is_hidden(name) || name == "distort.json.part";
        match folder.read_dir() {
            Ok(mut entries) => {
                match entries.all(|entry| entry.is_ok_and(|entry| is_ours(&entry.file_name()))) {
                    true => Ok(false),
                    false => Err(FilesError::NotOurs { path: folder.to_owned(), record: NAME }),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FilesError::io("list", folder)(error)),
        }
    }

    fn compare(&self, folder: &Path, path: &Path) -> Result<(), FilesError> {
        let bytes = fs::read(path).map_err(FilesError::io("read", path))?;
        let there: Self = serde_json::from_slice(&bytes)
            .map_err(|source| FilesError::Record { path: path.to_owned(), source })?;
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

    /// Writes it, if it is not there, and keeps other processes out for as long as the file is open.
    pub(crate) fn begin(&self, folder: &Path, begun: bool) -> Result<File, FilesError> {
        let path = folder.join(NAME);
        if !begun {
            let json = serde_json::to_vec_pretty(self)
                .map_err(|source| FilesError::Record { path: path.clone(), source })?;
            write(&path, &json)?;
        }
        let file = File::open(&path).map_err(FilesError::io("read", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(FilesError::Locked { path: folder.to_owned() }),
            // a file system without locks has none to respect
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        }
    }
}
