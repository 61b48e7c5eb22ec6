//! Everything that can go wrong in this crate.

use std::io;
use std::path::PathBuf;

use image::ImageError;

use crate::Expected;

/// Why an image could not be loaded, or a distortion not be read or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistortError {
    /// Noise to replay that does not fit the pixels.
    #[error("noise to replay has {found} values for {expected} pixel values")]
    NoiseLength {
        /// Pixel values given.
        expected: usize,
        /// Noise values given.
        found: usize,
    },

    /// A sequence without stages.
    #[error("a sequence of distortions needs at least one stage")]
    EmptySequence,

    /// Nothing where the text form needs a stage, as in `blur:sigma=2+`.
    #[error("distortion {text:?} has an empty stage; write it as `blur:sigma=4+diffusion-noise:step=500`")]
    EmptyStage {
        /// The whole text.
        text: String,
    },

    /// A family of distortions that does not exist.
    #[error("unknown distortion {found:?}{}; known are {}", suggest(nearest), known.join(", "))]
    UnknownFamily {
        /// The name given.
        found: String,
        /// The known name most like it.
        nearest: Option<&'static str>,
        /// All known names.
        known: Vec<&'static str>,
    },

    /// A parameter that the family does not have.
    #[error("{family} has no parameter {found:?}{}; it takes {}", suggest(nearest), list(known))]
    UnknownParameter {
        /// The family the parameter was given to.
        family: &'static str,
        /// The name given.
        found: String,
        /// The family's parameter most like it.
        nearest: Option<&'static str>,
        /// All parameters of the family.
        known: Vec<&'static str>,
    },

    /// A parameter without a default that was left out.
    #[error("{family} needs the parameter {parameter}, as in `{family}:{parameter}=...`")]
    MissingParameter {
        /// The family.
        family: &'static str,
        /// What it lacks.
        parameter: &'static str,
    },

    /// A parameter given more than once.
    #[error("{family} has the parameter {parameter} twice")]
    RepeatedParameter {
        /// The family.
        family: &'static str,
        /// What was repeated.
        parameter: &'static str,
    },

    /// A parameter value that cannot be read, is out of range, or a range with its ends the wrong way round.
    #[error("{family}: {parameter}={value:?} is not {expected}")]
    InvalidValue {
        /// The family.
        family: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value given, as text.
        value: String,
        /// What was expected.
        expected: Expected,
    },

    /// A level of severity that there is not.
    #[error("severity {found:?} is not a whole number from 1 to 5{}", range_hint(found))]
    NoSuchSeverity {
        /// What was given.
        found: String,
    },

    /// A distortion that works on an image after one that works on what a model makes of the image.
    #[error("{family} works on the image and cannot follow {after}, which works on what a model makes of it")]
    StageAfterFeatures {
        /// The stage that comes too late.
        family: &'static str,
        /// The stage before it.
        after: &'static str,
    },

    /// A distortion that only a model can apply.
    #[error("{family} works on what a model makes of an image: it cannot be applied to the image itself")]
    NeedsModel {
        /// The family.
        family: &'static str,
    },

    /// A distortion that brings in another image, without one.
    #[error("{family} needs another image that has pixels, given with `Input::with_other`")]
    NeedsOther {
        /// The family.
        family: &'static str,
    },

    /// An image that cannot be stored as JPEG, as its sides are too long.
    #[error("an image of {width} x {height} pixels cannot be stored as JPEG")]
    Recompress {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the encoder said.
        source: ImageError,
    },

    /// There is no such file.
    #[error("image {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },

    /// A directory, a pipe or a device in place of a file.
    #[error("image {} is not a regular file", path.display())]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },

    /// A file that the system refused to read.
    #[error("image {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file of zero bytes.
    #[error("image {} is empty (0 bytes)", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// A file above [`Limits::max_file_bytes`](crate::Limits::max_file_bytes).
    #[error("image {} has {found} bytes, above the limit max_file_bytes = {limit}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// An image above [`Limits::max_side`](crate::Limits::max_side).
    #[error("image {} is {width} x {height} pixels, above the limit max_side = {limit}", path.display())]
    SideTooLong {
        /// The file.
        path: PathBuf,
        /// Width in pixels, as stored.
        width: u32,
        /// Height in pixels, as stored.
        height: u32,
        /// The longest side allowed.
        limit: u32,
    },

    /// An image above [`Limits::max_pixels`](crate::Limits::max_pixels).
    #[error("image {} is {width} x {height} pixels, above the limit max_pixels = {limit}", path.display())]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels, as stored.
        width: u32,
        /// Height in pixels, as stored.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },

    /// A JPEG file with more scans than [`Limits::max_scans`](crate::Limits::max_scans).
    #[error("image {} has more than max_scans = {limit} scans", path.display())]
    TooManyScans {
        /// The file.
        path: PathBuf,
        /// The most scans allowed.
        limit: u32,
    },

    /// An image whose decoding took longer than [`Limits::max_millis`](crate::Limits::max_millis).
    #[error("image {} took longer to decode than max_millis = {limit}", path.display())]
    TooSlow {
        /// The file.
        path: PathBuf,
        /// The time allowed, in milliseconds.
        limit: u64,
    },

    /// An image whose width or height is 0.
    #[error("image {} has no pixels ({width} x {height})", path.display())]
    NoPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// Content that is no image format known here, whatever the file's extension.
    #[error("{} is not an image: its content is of no known image format", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },

    /// An image format, or a variant of one, that is not supported.
    #[error("image {} is of an unsupported kind", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ImageError,
    },

    /// An image that ends before its last pixel.
    #[error("image {} is truncated: its {bytes} bytes end in the middle of the image", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The bytes there are.
        bytes: usize,
    },

    /// An image whose content breaks the rules of its format.
    #[error("image {} cannot be decoded", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ImageError,
    },
}

fn range_hint(found: &str) -> &'static str {
    if found.contains("..") {
        ", and is never a range: give one to a parameter, as in `blur:sigma=2..4`"
    } else {
        ""
    }
}

fn suggest(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default()
}

fn list(known: &[&'static str]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}
