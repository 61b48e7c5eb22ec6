//! The images of a folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bpo_pairs::files::FileError;
use bpo_pairs::{SkipReason, Skipped};
use image::ImageFormat;
use walkdir::{DirEntry, WalkDir};

use super::error::DistortFilesError;

/// The formats that can be decoded.
const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Bmp,
    ImageFormat::Gif,
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Tiff,
    ImageFormat::WebP,
];

/// Number of bytes that identify any format.
const HEAD: u64 = 32;

/// The images of a folder and its subfolders, as sorted paths relative to the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub images: Vec<PathBuf>,
    /// Links that are not followed.
    pub skipped: Vec<Skipped>,
}

impl Listing {
    /// Lists the images of a folder. `root` has no links.
    pub(super) fn of(root: &Path) -> Result<Self, DistortFilesError> {
        let mut listing = Self::default();
        for entry in walk(root) {
            let entry = entry?;
            let (full, kind) = (entry.path(), entry.file_type());
            let path = full.strip_prefix(root).unwrap_or(full).to_owned();
            if !kind.is_symlink() {
                if has_extension(&path) || (kind.is_file() && has_image_content(full)) {
                    listing.images.push(path);
                }
                continue;
            }
            match full.canonicalize() {
                Ok(target) if target.is_dir() => {
                    listing.skip(&path, SkipReason::ImageUnreadable, "a link to a folder");
                }
                Ok(target) if !target.starts_with(root) => {
                    // The content outside the folder is not read.
                    if has_extension(&path) || has_extension(&target) {
                        listing.skip(&path, SkipReason::ImageOutside, "a link that leads out of the folder");
                    }
                }
                Ok(target) if has_extension(&path) || has_image_content(&target) => {
                    listing.images.push(path);
                }
                // A dangling link fails with its reason when it is read.
                Err(_) if has_extension(&path) => listing.images.push(path),
                Ok(_) | Err(_) => {}
            }
        }
        listing.images.sort_unstable();
        Ok(listing)
    }

    fn skip(&mut self, path: &Path, reason: SkipReason, detail: &str) {
        self.skipped.push(Skipped::new(path.to_string_lossy(), reason).with_detail(detail));
    }
}

/// All entries of a folder and its subfolders, except folders and hidden entries.
pub(super) fn walk(root: &Path) -> impl Iterator<Item = Result<DirEntry, FileError>> + '_ {
    WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name()))
        .map(|entry| {
            entry.map_err(|error| {
                let path = error.path().unwrap_or(root).to_owned();
                FileError::io("list", &path)(error.into())
            })
        })
        .filter(|entry| entry.as_ref().map_or(true, |entry| !entry.file_type().is_dir()))
}

/// Whether a name starts with a dot.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

/// Whether a name has the extension of an image format.
pub(super) fn has_extension(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| FORMATS.contains(&format))
}

/// Whether a regular file starts like an image.
fn has_image_content(file: &Path) -> bool {
    // Opening a FIFO would block.
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok() && image::guess_format(&head).is_ok_and(|format| FORMATS.contains(&format))
}
