//! The images of a folder.

use std::fs::{self, File, FileType};
use std::io::Read;
use std::path::{Path, PathBuf};

use image::ImageFormat;

use super::error::FilesError;
use super::skipped::{SkipReason, Skipped};

/// What can be decoded.
const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Bmp,
    ImageFormat::Gif,
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Tiff,
    ImageFormat::WebP,
];

/// More than any format needs to be told by.
const HEAD: u64 = 32;

/// The images of a folder and of those in it, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Paths in the folder.
    pub images: Vec<PathBuf>,
    /// Links that are not followed.
    pub skipped: Vec<Skipped>,
}

impl Listing {
    /// The images of a folder, which is given without links.
    pub(crate) fn of(root: &Path) -> Result<Self, FilesError> {
        let mut listing = Self::default();
        walk(root, |path, kind| {
            let full = root.join(&path);
            if kind.is_symlink() {
                match full.canonicalize() {
                    Ok(target) if target.is_dir() => listing.leave(path, SkipReason::LinkToFolder),
                    Ok(target) if !target.starts_with(root) => {
                        // the content is not looked at
                        if has_ending(&path) || has_ending(&target) {
                            listing.leave(path, SkipReason::LinkOut);
                        }
                    }
                    Ok(target) if is_image(&path, &target) => listing.images.push(path),
                    Ok(_) => {}
                    // that it leads nowhere is told when it is read
                    Err(_) if has_ending(&path) => listing.images.push(path),
                    Err(_) => {}
                }
            } else if has_ending(&path) || (kind.is_file() && is_image(&path, &full)) {
                listing.images.push(path);
            }
        })?;
        listing.images.sort_unstable();
        listing.skipped.sort_unstable_by(|a, b| a.image.cmp(&b.image));
        Ok(listing)
    }

    fn leave(&mut self, image: PathBuf, reason: SkipReason) {
        self.skipped.push(Skipped { image, reason });
    }
}

/// Goes through a folder and those in it, with the path in the folder of all that is no folder; links are not followed.
/// Names that begin with a dot are passed over.
pub(crate) fn walk(root: &Path, mut found: impl FnMut(PathBuf, FileType)) -> Result<(), FilesError> {
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        let full = root.join(&folder);
        let list = FilesError::io("list", &full);
        let entries = fs::read_dir(&full).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(list)?;
        for entry in entries {
            if is_hidden(&entry.file_name()) {
                continue;
            }
            let kind = entry.file_type().map_err(FilesError::io("look at", &entry.path()))?;
            let path = folder.join(entry.file_name());
            if kind.is_dir() { pending.push(path) } else { found(path, kind) }
        }
    }
    Ok(())
}

/// Whether a name begins with a dot.
pub(crate) fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

/// Whether a name ends as those of images do.
pub(crate) fn has_ending(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| FORMATS.contains(&format))
}

fn is_image(path: &Path, file: &Path) -> bool {
    has_ending(path) || begins_as_image(file)
}

fn begins_as_image(file: &Path) -> bool {
    // to open a pipe is to wait for somebody who writes to it
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    // a file that cannot be read and is not named as an image is none
    read.is_ok() && image::guess_format(&head).is_ok_and(|format| FORMATS.contains(&format))
}
