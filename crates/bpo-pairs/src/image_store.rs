//! The bytes of images in files such as Parquet.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::PairsError;
use crate::files::{FileError, create_parents, write_bytes};
use crate::limits::Limits;
use crate::row_images::RowImage;
use crate::skipped::{SkipCause, SkipReason};

/// Reads the bytes of images that records name, for files that hold them.
pub trait ImageBytes {
    /// Returns the bytes of the file of an image. `name` is the path in the record, which is not
    /// trusted.
    ///
    /// # Errors
    /// Returns the reason for which the record is skipped.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, SkipCause>;
}

/// Takes images that a file holds as bytes, and gives them names that records can have.
pub trait ImageSink {
    /// Returns the name of an image below the image root, or the reason for which the record is
    /// skipped. An implementation may write the image to a file, or name its place.
    ///
    /// # Errors
    /// Returns an error if the image cannot be written.
    fn store(&self, place: &ImagePlace<'_>, bytes: &[u8]) -> Result<Result<String, SkipCause>, PairsError>;
}

/// The place of an image in a file that holds its bytes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ImagePlace<'a> {
    /// The file.
    pub file: &'a Path,
    /// The key of the image in its record, for the reason of a skipped record.
    pub key: &'a str,
    /// The row and column of the image. `None` if they do not lead to it: the image lies deeper than
    /// in a list, or the name of its column has a `/` or `#`.
    pub row: Option<RowImage<'a>>,
}

impl<'a> ImagePlace<'a> {
    /// Creates a place.
    pub fn new(file: &'a Path, key: &'a str, row: Option<RowImage<'a>>) -> Self {
        Self { file, key, row }
    }
}

/// Writes images to a directory. The name of a file is half of the SHA-256 digest of its content, in
/// hexadecimal, so equal images have one file.
#[derive(Clone, Debug)]
pub struct ImageDir {
    dir: PathBuf,
}

impl ImageDir {
    /// Creates the directory, if it does not exist.
    ///
    /// # Errors
    /// Returns [`FileError::Io`] if the directory cannot be created.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self, FileError> {
        let dir = dir.into();
        create_parents(&dir.join("image"))?;
        Ok(Self { dir })
    }
}

impl ImageSink for ImageDir {
    fn store(&self, place: &ImagePlace<'_>, bytes: &[u8]) -> Result<Result<String, SkipCause>, PairsError> {
        let (key, limit) = (place.key, Limits::DEFAULT.record_bytes);
        if let Err(error) = Limits::check(format!("{key} (bytes)"), bytes.len(), limit) {
            return Ok(Err(error.into()));
        }
        let Some(extension) = extension(bytes) else {
            return Ok(Err(SkipCause::new(
                SkipReason::ImageUnreadable,
                format_args!(
                    "`{key}`: expected a PNG, JPEG, GIF, WebP, BMP or TIFF file, found {} other bytes",
                    bytes.len()
                ),
            )));
        };
        let name = format!("{:x}.{extension}", HexDigest(&Sha256::digest(bytes)));
        let path = self.dir.join(&name);
        if !is_written(&path, bytes.len()).map_err(PairsError::io("write", &path))? {
            write_bytes(&path, bytes)?;
        }
        Ok(Ok(name))
    }
}

/// Returns whether a regular file of this length exists.
fn is_written(path: &Path, length: usize) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(there) => Ok(there.is_file() && there.len() == length as u64),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

struct HexDigest<'a>(&'a [u8]);

impl std::fmt::LowerHex for HexDigest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Returns the extension of an image file, by its first bytes.
fn extension(bytes: &[u8]) -> Option<&'static str> {
    let starts: [(&[u8], &str); 7] = [
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM", "bmp"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
    ];
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("webp");
    }
    starts.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, extension)| *extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_images_have_one_file_named_by_content() {
        let parent = tempfile::tempdir().unwrap();
        let dir = ImageDir::create(parent.path().join("images")).unwrap();
        let png = b"\x89PNG\r\n\x1a\nrest";
        let place = ImagePlace::new(Path::new("a.parquet"), "image", None);
        let name = dir.store(&place, png).unwrap().unwrap();
        assert_eq!(dir.store(&place, png).unwrap().unwrap(), name);
        assert_ne!(dir.store(&place, b"GIF89a...").unwrap().unwrap(), name);
        assert!(name.len() == 36 && name.ends_with(".png"), "{name}");
        assert_eq!(std::fs::read(parent.path().join("images").join(name)).unwrap(), png);
        let cause = dir.store(&place, b"plain text").unwrap().unwrap_err();
        assert_eq!(cause.reason, SkipReason::ImageUnreadable);
    }
}
