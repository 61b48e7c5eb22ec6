//! What a file is made of, and how.

use std::path::{Path, PathBuf};

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::load::{decode_rgb, read_file};
use crate::{DistortError, Distortion, Limits};

/// Changes with whatever changes the bytes that are made of the same image.
pub(crate) const VERSION: u32 = 1;

/// An image file as it is on disk.
pub(crate) struct Source {
    path: PathBuf,
    bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub digest: String,
}

impl Source {
    pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Self, DistortError> {
        let bytes = read_file(path, limits)?;
        let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.to_owned(), bytes, digest })
    }

    pub(crate) fn decode(&self, limits: &Limits) -> Result<RgbImage, DistortError> {
        decode_rgb(&self.bytes, &self.path, limits)
    }
}

/// How a file is made, as it says of itself: `v1 blur:sigma=3.2 seed=7 of=SHA-256 [other=SHA-256]`.
pub(crate) fn origin(distortion: &Distortion, seed: u64, of: &str, other: Option<&str>) -> String {
    let other = other.map(|other| format!(" other={other}")).unwrap_or_default();
    format!("v{VERSION} {} seed={seed} of={of}{other}", distortion.drawn(seed))
}

/// How a contact sheet is made.
#[cfg(feature = "sheet")]
pub(crate) fn of_sheet(seed: u64) -> String {
    format!("v{VERSION} {SHEET} seed={seed}")
}

/// Whether a file says that it is a contact sheet, of whatever version.
#[cfg(feature = "sheet")]
pub(crate) fn is_sheet(text: &str) -> bool {
    text.split(' ').nth(1) == Some(SHEET)
}

/// No family has this name.
#[cfg(feature = "sheet")]
const SHEET: &str = "sheet";
