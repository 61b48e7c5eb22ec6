//! Images in the rows of Parquet files, and their names.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::files::FileError;
use crate::skipped::SkipReason;
use crate::untrusted::{Untrusted, UntrustedPath};

/// The place of an image in a Parquet file: `COLUMN/ROW`, or `COLUMN/ROW/INDEX` in a column of lists.
///
/// ```
/// use bpo_pairs::RowImage;
///
/// let image = RowImage::new("images", 12, Some(0)).unwrap();
/// let name = image.name_in("train.parquet");
/// assert_eq!(name, "train.parquet#images/12/0");
/// assert_eq!(RowImage::of_name(&name), Some(("train.parquet", image)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowImage<'a> {
    /// Name of the column.
    pub column: &'a str,
    /// Number of the row in the file, from 0.
    pub row: u64,
    /// Place in the list of the row, from 0, or `None` in a column without lists.
    pub index: Option<u64>,
}

impl<'a> RowImage<'a> {
    /// Creates a place. Returns `None` if the name of the column is empty, or has a `/` or `#`, which
    /// separate the parts of a name.
    pub fn new(column: &'a str, row: u64, index: Option<u64>) -> Option<Self> {
        let is_usable = !column.is_empty() && !column.contains(['/', '#']);
        is_usable.then_some(Self { column, row, index })
    }

    /// Returns the name of the image: `FILE#COLUMN/ROW` or `FILE#COLUMN/ROW/INDEX`.
    pub fn name_in(&self, file: impl fmt::Display) -> String {
        format!("{file}#{self}")
    }

    /// Splits the name of an image into the file and the place in it. Returns `None` for any other
    /// name. The name of a frame of a video (`FILE#N`) has no `/` after the `#`.
    pub fn of_name(name: &'a str) -> Option<(&'a str, Self)> {
        let (file, place) = name.rsplit_once('#').filter(|(file, _)| !file.is_empty())?;
        let mut parts = place.split('/');
        let (column, row) = (parts.next()?, number(parts.next()?)?);
        let index = match parts.next() {
            Some(index) => Some(number(index)?),
            None => None,
        };
        let place = Self::new(column, row, index).filter(|_| parts.next().is_none())?;
        Some((file, place))
    }
}

impl fmt::Display for RowImage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.column, self.row)?;
        self.index.map_or(Ok(()), |index| write!(f, "/{index}"))
    }
}

/// Reads a number in the form in which it is written, so that an image has one name.
fn number(text: &str) -> Option<u64> {
    let is_plain = text == "0" || !text.starts_with('0');
    let has_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && has_digits).then(|| text.parse().ok())?
}

/// Errors of reading an image in a row of a Parquet file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowImageError {
    /// The program was built without the feature that reads Parquet files.
    #[error("an image in a Parquet file needs a program built with `--features parquet`")]
    NotBuilt,
    /// The file cannot be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not Parquet, is damaged, or cannot be read.
    #[error("cannot read the Parquet file {}: {}", UntrustedPath(path), Untrusted(problem))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The file has no such column of images.
    #[error("the Parquet file {} has no column {:?} of {expected}", UntrustedPath(path), Untrusted(column))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// Name of the column.
        column: String,
        /// What the name of the image expects in the column: images, or lists of images.
        expected: &'static str,
    },
    /// The file has fewer rows.
    #[error(
        "the Parquet file {} has {rows} rows, but not the row {row}, counted from 0",
        UntrustedPath(path)
    )]
    NoRow {
        /// The file.
        path: PathBuf,
        /// Number of the row, from 0.
        row: u64,
        /// Number of rows.
        rows: u64,
    },
    /// The row has no image at this place: it is null, or the list is shorter.
    #[error("the row {row} of the Parquet file {} has no image there", UntrustedPath(path))]
    NoImage {
        /// The file.
        path: PathBuf,
        /// Number of the row, from 0.
        row: u64,
    },
    /// The image has more bytes than allowed.
    #[error(
        "the image in row {row} of the Parquet file {} has {found} bytes, above the limit of {limit}",
        UntrustedPath(path)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Number of the row, from 0.
        row: u64,
        /// Bytes of the image.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl RowImageError {
    /// Returns the reason to skip a record with this image.
    pub fn reason(&self) -> SkipReason {
        match self {
            Self::NoColumn { .. } | Self::NoRow { .. } | Self::NoImage { .. } => SkipReason::ImageMissing,
            Self::TooLarge { .. } => SkipReason::ImageTooLarge,
            Self::NotBuilt | Self::File(_) | Self::Unreadable { .. } => SkipReason::ImageUnreadable,
        }
    }
}

/// Reads images in rows of Parquet files.
///
/// A few files stay open, with their metadata and the pages that were read last, so rows that are
/// read in their order are decoded once. A file that has changed is opened again.
#[derive(Debug, Default)]
pub struct RowImages {
    #[cfg(feature = "parquet")]
    files: crate::format::OpenFiles,
}

impl RowImages {
    /// Returns the bytes of an image of at most `limit` bytes. Besides the image, memory holds one or
    /// two decoded pages of the column; Parquet limits a page to 2 GiB.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no such image, or if the image is larger.
    #[cfg(feature = "parquet")]
    pub fn read(&self, file: &Path, image: &RowImage<'_>, limit: u64) -> Result<Vec<u8>, RowImageError> {
        self.files.read(file, image, limit)
    }

    /// Fails, because the program was built without the feature `parquet`.
    ///
    /// # Errors
    /// Returns [`RowImageError::NotBuilt`].
    #[cfg(not(feature = "parquet"))]
    pub fn read(&self, _: &Path, _: &RowImage<'_>, _: u64) -> Result<Vec<u8>, RowImageError> {
        Err(RowImageError::NotBuilt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_file_and_place() {
        let image = |column, row, index| RowImage::new(column, row, index).unwrap();
        for (name, file, place) in [
            ("a.parquet#image/0", "a.parquet", image("image", 0, None)),
            ("b/a.parquet#images/70/3", "b/a.parquet", image("images", 70, Some(3))),
            ("a#1.png#image/5", "a#1.png", image("image", 5, None)),
            ("a#image/1", "a", image("image", 1, None)),
            ("a#12/5", "a", image("12", 5, None)),
            ("../a#a.png/5", "../a", image("a.png", 5, None)),
        ] {
            assert_eq!(RowImage::of_name(name), Some((file, place)), "{name}");
            assert_eq!(place.name_in(file), name);
        }
    }

    #[test]
    fn other_names_have_no_place() {
        for name in [
            "",
            "a.png",
            "#image/0",
            "a.gif#3",
            "a#1.png",
            "a.parquet#image",
            "a.parquet#image/",
            "a.parquet#/0",
            "a.parquet#image/01",
            "a.parquet#image/+1",
            "a.parquet#image/-1",
            "a.parquet#image/1/",
            "a.parquet#image/1/x",
            "a.parquet#image/1/2/3",
            "a.parquet#image/99999999999999999999",
        ] {
            assert_eq!(RowImage::of_name(name), None, "{name}");
        }
        for column in ["", "a/b", "a#b"] {
            assert_eq!(RowImage::new(column, 0, None), None, "{column}");
        }
    }
}
