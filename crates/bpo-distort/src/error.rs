//! Errors of this crate.

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

use image::ImageError;

use crate::AllowedValues;

/// Errors of loading images, and of parsing and applying distortions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistortError {
    /// The number of noise values to replay differs from the number of pixel values.
    #[error("expected noise of {expected} values, one for each pixel value, but got {found}")]
    NoiseLength {
        /// Number of pixel values.
        expected: usize,
        /// Number of noise values.
        found: usize,
    },

    /// A sequence has no stages.
    #[error("a sequence of distortions needs at least one stage")]
    EmptySequence,

    /// The text form has an empty stage, as in `blur:sigma=2+`.
    #[error("distortion {text:?} has an empty stage; write it as `blur:sigma=4+diffusion-noise:step=500`")]
    EmptyStage {
        /// The whole text.
        text: String,
    },

    /// The family does not exist.
    #[error("unknown distortion {found:?}{}; expected one of {}", suggest(nearest), known.join(", "))]
    UnknownFamily {
        /// The given name.
        found: String,
        /// The most similar known name.
        nearest: Option<&'static str>,
        /// All known names.
        known: Vec<&'static str>,
    },

    /// The family does not have the parameter.
    #[error("{family} has no parameter {found:?}{}; expected {}", suggest(nearest), list(known))]
    UnknownParameter {
        /// The family.
        family: &'static str,
        /// The given name.
        found: String,
        /// The most similar parameter.
        nearest: Option<&'static str>,
        /// All parameters of the family.
        known: Vec<&'static str>,
    },

    /// A required parameter is missing.
    #[error("{family} needs the parameter {parameter}, as in `{family}:{parameter}=...`")]
    MissingParameter {
        /// The family.
        family: &'static str,
        /// The parameter.
        parameter: &'static str,
    },

    /// A parameter is given more than once.
    #[error("{family}: the parameter {parameter} is given twice")]
    RepeatedParameter {
        /// The family.
        family: &'static str,
        /// The parameter.
        parameter: &'static str,
    },

    /// A value cannot be parsed, is out of range, or is a range with swapped ends.
    #[error("{family}: {parameter}={value:?} is invalid; expected {expected}")]
    InvalidValue {
        /// The family.
        family: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value in text form.
        value: String,
        /// The accepted values.
        expected: AllowedValues,
    },

    /// The severity level does not exist.
    #[error("severity {found:?} is invalid; expected an integer from 1 to 5{}", range_hint(found))]
    NoSuchSeverity {
        /// The given level.
        found: String,
    },

    /// An image stage follows a feature stage.
    #[error("{family} works on the image and cannot follow {after}, which works on the features of a model")]
    StageAfterFeatures {
        /// The family of the image stage.
        family: &'static str,
        /// The family of the feature stage.
        after: &'static str,
    },

    /// Only a model can apply the distortion.
    #[error("{family} works on the features of a model and cannot be applied to an image")]
    NeedsModel {
        /// The family.
        family: &'static str,
    },

    /// The distortion needs a second image, which is missing or empty.
    #[error("{family} needs a second image with pixels; set it with `Input::with_other`")]
    NeedsOther {
        /// The family.
        family: &'static str,
    },

    /// The image is too large for JPEG.
    #[error("cannot encode an image of {width} x {height} pixels as JPEG")]
    Recompress {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The error of the encoder.
        source: ImageError,
    },

    /// The image cannot be encoded as PNG: it has no pixels, or its text chunk is not Latin-1.
    #[error("cannot encode an image of {width} x {height} pixels as PNG")]
    Encode {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The error of the encoder.
        source: io::Error,
    },

    /// The file does not exist.
    #[error("image {} does not exist", Shown(path))]
    Missing {
        /// The file.
        path: PathBuf,
    },

    /// The path is a directory, a pipe or a device.
    #[error("image {} is not a regular file", Shown(path))]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// The operating system cannot read the file.
    #[error("cannot read image {}", Shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },

    /// The file has zero bytes.
    #[error("image {} is empty (0 bytes)", Shown(path))]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// The file exceeds [`ImageLimits::max_file_bytes`](crate::ImageLimits::max_file_bytes).
    #[error("image {} has {found} bytes, which exceeds max_file_bytes = {limit}", Shown(path))]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// The image exceeds [`ImageLimits::max_side`](crate::ImageLimits::max_side).
    #[error("image {} has {width} x {height} pixels, which exceeds max_side = {limit}", Shown(path))]
    SideTooLong {
        /// The file.
        path: PathBuf,
        /// Width in pixels, before rotation.
        width: u32,
        /// Height in pixels, before rotation.
        height: u32,
        /// The limit.
        limit: u32,
    },

    /// The image exceeds [`ImageLimits::max_pixels`](crate::ImageLimits::max_pixels).
    #[error("image {} has {width} x {height} pixels, which exceeds max_pixels = {limit}", Shown(path))]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels, before rotation.
        width: u32,
        /// Height in pixels, before rotation.
        height: u32,
        /// The limit.
        limit: u64,
    },

    /// The JPEG file has more scans than [`ImageLimits::max_scans`](crate::ImageLimits::max_scans).
    #[error("image {} has more scans than max_scans = {limit}", Shown(path))]
    TooManyScans {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u32,
    },

    /// The decoder took longer than [`ImageLimits::max_millis`](crate::ImageLimits::max_millis).
    #[error("image {} took longer to decode than max_millis = {limit}", Shown(path))]
    TooSlow {
        /// The file.
        path: PathBuf,
        /// The limit in milliseconds.
        limit: u64,
    },

    /// An image file has fewer frames.
    #[error("image {} has no frame{}", Shown(path), missing_frame(*index, *frames))]
    NoFrame {
        /// The file.
        path: PathBuf,
        /// The index of the frame.
        index: usize,
        /// Number of frames.
        frames: usize,
    },

    /// Width or height is 0.
    #[error("image {} has no pixels ({width} x {height})", Shown(path))]
    NoPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// The content has no known image format. The file extension does not matter.
    #[error("{} is not an image: its content has no known image format", Shown(path))]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },

    /// The image format, or this variant of it, is not supported.
    #[error("image {} has an unsupported format", Shown(path))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        source: ImageError,
    },

    /// The file ends before the last pixel.
    #[error("image {} is truncated: its {bytes} bytes end before the last pixel", Shown(path))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Size of the file in bytes.
        bytes: usize,
    },

    /// The content is corrupt.
    #[error("cannot decode image {}", Shown(path))]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        source: ImageError,
    },
}

/// A path with control characters and bidirectional marks escaped, because its name may come from
/// an untrusted file.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string_lossy().chars() {
            match c {
                '"' | '\'' | '\\' => f.write_char(c)?,
                c => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

fn range_hint(found: &str) -> &'static str {
    if found.contains("..") {
        " and not a range; give a parameter a range, as in `blur:sigma=2..4`"
    } else {
        ""
    }
}

fn suggest(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default()
}

fn list(known: &[&'static str]) -> String {
    if known.is_empty() { "no parameter".to_owned() } else { format!("one of {}", known.join(", ")) }
}

/// What an image with `frames` frames has instead of the frame `index`.
fn missing_frame(index: usize, frames: usize) -> String {
    if frames == 0 { String::new() } else { format!(" {index}: it has {frames}, counted from 0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_without_characters_that_control_a_terminal() {
        let path = || {
            PathBuf::from(
                "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}",
            )
        };
        let (width, height) = (1, 1);
        let errors = [
            DistortError::Missing { path: path() },
            DistortError::NotAFile { path: path() },
            DistortError::Unreadable { path: path(), source: io::Error::other("source") },
            DistortError::EmptyFile { path: path() },
            DistortError::FileTooLarge { path: path(), found: 2, limit: 1 },
            DistortError::SideTooLong { path: path(), width, height, limit: 1 },
            DistortError::TooManyPixels { path: path(), width, height, limit: 1 },
            DistortError::TooManyScans { path: path(), limit: 1 },
            DistortError::TooSlow { path: path(), limit: 1 },
            DistortError::NoFrame { path: path(), index: 2, frames: 1 },
            DistortError::NoPixels { path: path(), width, height },
            DistortError::NotAnImage { path: path() },
            DistortError::Truncated { path: path(), bytes: 1 },
        ];
        let is_unsafe = |c: char| c.is_control() || "\u{2028}\u{202e}\u{2066}\u{feff}".contains(c);
        for error in errors {
            let shown = error.to_string();
            assert!(!shown.chars().any(is_unsafe) && shown.contains("forged"), "{shown:?}");
        }
        let plain = DistortError::Missing { path: "a b/Größe 猫's \"x\".png".into() };
        assert_eq!(plain.to_string(), "image a b/Größe 猫's \"x\".png does not exist");
    }
}
