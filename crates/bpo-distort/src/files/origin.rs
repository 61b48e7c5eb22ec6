//! What a file is made of, and how.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::load::{decode_rgb, open_file, read_error, read_file};
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

/// SHA-256 of an image file's bytes, of whatever size.
pub(crate) fn digest_of(path: &Path) -> Result<String, DistortError> {
    let mut digest = Digesting(Sha256::new());
    io::copy(&mut open_file(path)?.0, &mut digest).map_err(read_error(path))?;
    Ok(hex(digest.0))
}

struct Digesting(Sha256);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Source {
    pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Self, DistortError> {
        let bytes = read_file(path, limits)?;
        let digest = hex(Sha256::new_with_prefix(&bytes));
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
