//! The PNG text that records how a copy was made: `v1 blur:sigma=3.2 seed=7 of=SHA-256
//! [other=SHA-256]`.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use bpo_distort::{
    DistortError, Distortion, ImageLimits, PngCompression, PngText, encode_png, read_image_file,
    read_png_text,
};
use bpo_pairs::files::{FileError, create_parents, open_input, write_bytes};
use bpo_pairs::{Fingerprint, FingerprintReader};
use image::RgbImage;

use super::error::DistortFilesError;

/// Changes whenever a distortion produces other bytes for the same image.
pub(super) const VERSION: u32 = 1;

/// Keyword of the PNG text.
const KEYWORD: &str = "bpo-distort";

/// The text of a copy.
///
/// `of` and `other` are the SHA-256 digests of the files of the image and the second image.
pub(super) fn origin(
    distortion: &Distortion,
    seed: u64,
    of: &Fingerprint,
    other: Option<&Fingerprint>,
) -> String {
    let other = other.map(|other| format!(" other={other}")).unwrap_or_default();
    format!("v{VERSION} {} seed={seed} of={of}{other}", distortion.drawn(seed))
}

/// Reads the text of an existing file; `None` if there is no file.
///
/// # Errors
/// Returns [`DistortFilesError::Damaged`] for a truncated or corrupt PNG file,
/// [`DistortFilesError::NotOurs`] for a file without the text.
pub(super) fn read(out: &Path) -> Result<Option<String>, DistortFilesError> {
    let file = match open_input(out) {
        Err(error) if error.is_not_found() => return Ok(None),
        file => file?,
    };
    match read_png_text(BufReader::new(file), KEYWORD).map_err(FileError::io("read", out))? {
        PngText::Found(text) => Ok(Some(text)),
        PngText::Damaged => Err(DistortFilesError::Damaged { path: out.to_owned() }),
        PngText::Absent => Err(DistortFilesError::NotOurs { path: out.to_owned() }),
    }
}

/// Writes a PNG file with a text, and the folders above it.
pub(super) fn write(
    out: &Path,
    image: &RgbImage,
    text: &str,
    compression: PngCompression,
) -> Result<(), DistortFilesError> {
    let bytes = encode_png(image, Some((KEYWORD, text)), compression)?;
    create_parents(out)?;
    Ok(write_bytes(out, &bytes)?)
}

/// Checks for the extension `.png`, in any case.
pub(super) fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
}

/// An image file with its digest, not yet decoded.
pub(super) struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub digest: Fingerprint,
}

impl Source {
    pub(super) fn read(path: &Path, limits: &ImageLimits) -> Result<Self, DistortError> {
        let bytes = read_image_file(path, limits)?;
        let digest = Fingerprint::of(&bytes);
        Ok(Self { path: path.to_owned(), bytes, digest })
    }
}

/// SHA-256 of a file of any size.
pub(super) fn digest_of(path: &Path) -> Result<Fingerprint, FileError> {
    FingerprintReader::new(open_input(path)?).finish().map_err(FileError::io("read", path))
}
