//! Parquet files that stay open while their images are read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::image_file::ImageFile;
use crate::files::FileError;
use crate::row_images::{RowImage, RowImageError};

/// Number of files that stay open.
const OPEN: usize = 4;

/// The files that were used last, with their metadata and decoded pages.
#[derive(Default)]
pub(crate) struct OpenFiles(Mutex<Vec<Opened>>);

struct Opened {
    path: PathBuf,
    version: Version,
    file: Arc<Mutex<ImageFile>>,
}

/// What shows that a file has changed: its size and the time of its last change.
type Version = (u64, Option<SystemTime>);

impl OpenFiles {
    /// Returns the bytes of an image of at most `limit` bytes.
    pub(crate) fn read(
        &self,
        path: &Path,
        image: &RowImage<'_>,
        limit: u64,
    ) -> Result<Vec<u8>, RowImageError> {
        let file = self.file(path)?;
        lock(&file).read(image, limit)
    }

    /// Returns a file that is open and has not changed, or opens it.
    fn file(&self, path: &Path) -> Result<Arc<Mutex<ImageFile>>, RowImageError> {
        let there = path.metadata().map_err(FileError::io("open", path))?;
        let version = (there.len(), there.modified().ok());
        let mut files = lock(&self.0);
        let known = files.iter().position(|opened| opened.path == path);
        let opened = match known.map(|known| files.remove(known)).filter(|known| known.version == version) {
            Some(opened) => opened,
            None => {
                let file = Arc::new(Mutex::new(ImageFile::open(path)?));
                Opened { path: path.to_owned(), version, file }
            }
        };
        let file = Arc::clone(&opened.file);
        if files.len() >= OPEN {
            files.remove(0);
        }
        files.push(opened);
        Ok(file)
    }
}

/// Locks what no panic leaves in between: [`ImageFile`] takes out what it changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFiles").finish_non_exhaustive()
    }
}
