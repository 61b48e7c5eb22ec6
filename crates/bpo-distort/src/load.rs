//! Loading of image files as RGB, within limits.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};

use crate::plain::plain;
use crate::timed::{Deadline, Timed};
use crate::{DistortError, cmyk, color, jpeg, orientation};

/// ImageLimits on image files. The defaults fit photographs and stop decompression bombs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ImageLimits {
    /// Largest width and height in pixels. Default: 16,384.
    pub max_side: u32,
    /// Largest number of pixels. Default: 100,000,000.
    ///
    /// It also limits the memory: an image has 3 bytes per pixel, and a decoder uses at most 16
    /// bytes per pixel and 64 MiB. With the default these are 300 MB and 1.7 GB.
    pub max_pixels: u64,
    /// Largest file size in bytes. Default: 256 MiB.
    pub max_file_bytes: u64,
    /// Largest number of scans of a JPEG file. Default: 32.
    ///
    /// Each scan is a pass over the whole image, so a small file with many scans takes minutes.
    /// libjpeg writes 10 scans, or 18 for four components. With the defaults, the slowest test
    /// files took 6 s on one core, or 26 s with arithmetic coding.
    pub max_scans: u32,
    /// Largest decoding time in milliseconds. Default: 60,000.
    ///
    /// The time is checked whenever a decoder reads more of the file. JPEG decoding is limited by
    /// `max_scans` and `max_pixels` instead.
    pub max_millis: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_side: 16_384,
            max_pixels: 100_000_000,
            max_file_bytes: 256 << 20,
            max_scans: 32,
            max_millis: 60_000,
        }
    }
}

impl ImageLimits {
    /// Sets the largest width and height in pixels.
    pub fn with_max_side(mut self, max_side: u32) -> Self {
        self.max_side = max_side;
        self
    }

    /// Sets the largest number of pixels.
    pub fn with_max_pixels(mut self, max_pixels: u64) -> Self {
        self.max_pixels = max_pixels;
        self
    }

    /// Sets the largest file size in bytes.
    pub fn with_max_file_bytes(mut self, max_file_bytes: u64) -> Self {
        self.max_file_bytes = max_file_bytes;
        self
    }

    /// Sets the largest number of scans of a JPEG file.
    pub fn with_max_scans(mut self, max_scans: u32) -> Self {
        self.max_scans = max_scans;
        self
    }

    /// Sets the largest decoding time in milliseconds.
    pub fn with_max_millis(mut self, max_millis: u64) -> Self {
        self.max_millis = max_millis;
        self
    }

    pub(crate) fn check_file(&self, path: &Path, found: u64) -> Result<(), DistortError> {
        let limit = self.max_file_bytes;
        match found {
            0 => Err(DistortError::EmptyFile { path: path.into() }),
            _ if found > limit => Err(DistortError::FileTooLarge { path: path.into(), found, limit }),
            _ => Ok(()),
        }
    }

    pub(crate) fn check_size(&self, path: &Path, (width, height): (u32, u32)) -> Result<(), DistortError> {
        let path = || path.to_path_buf();
        if width == 0 || height == 0 {
            return Err(DistortError::NoPixels { path: path(), width, height });
        }
        if width.max(height) > self.max_side {
            return Err(DistortError::SideTooLong { path: path(), width, height, limit: self.max_side });
        }
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(DistortError::TooManyPixels { path: path(), width, height, limit: self.max_pixels });
        }
        Ok(())
    }
}

/// Loads an image file as 8-bit RGB with the orientation applied, equal to Pillow.
///
/// - The format is detected from the content: BMP, GIF, JPEG, PNG, TIFF or WebP. The size is
///   checked before decoding.
/// - The orientation from EXIF or XMP metadata is applied like in transformers' `load_image`.
/// - Colours are converted like by Pillow's `convert("RGB")`: alpha is dropped, palettes are
///   applied, grey is repeated. 16-bit samples are truncated to their high byte (Pillow clips
///   16-bit grey). Colour profiles are ignored.
/// - Animations give their first frame.
/// - JPEG files are decoded like by libjpeg-turbo, equal in every level.
///
/// Data beyond the image is ignored: additional rows of a PNG, metadata that are not needed, and
/// everything after the last block of a JPEG, whose end marker may be missing.
///
/// # Errors
///
/// Returns [`DistortError::Missing`], [`NotAFile`](DistortError::NotAFile),
/// [`Unreadable`](DistortError::Unreadable), [`FileTooLarge`](DistortError::FileTooLarge), and the
/// errors of [`decode_rgb`]. All contain the path.
pub fn load_rgb(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<RgbImage, DistortError> {
    let path = path.as_ref();
    let bytes = read_image_file(path, limits)?;
    decode_rgb(&bytes, path, limits)
}

/// Decodes the bytes of an image file like [`load_rgb`]. `name` is the path in errors.
///
/// # Errors
///
/// Returns [`DistortError::EmptyFile`], [`FileTooLarge`](DistortError::FileTooLarge),
/// [`NotAnImage`](DistortError::NotAnImage), [`Unsupported`](DistortError::Unsupported),
/// [`NoPixels`](DistortError::NoPixels), [`SideTooLong`](DistortError::SideTooLong),
/// [`TooManyPixels`](DistortError::TooManyPixels), [`TooManyScans`](DistortError::TooManyScans),
/// [`TooSlow`](DistortError::TooSlow), [`Truncated`](DistortError::Truncated) or
/// [`Undecodable`](DistortError::Undecodable).
pub fn decode_rgb(
    bytes: &[u8],
    name: impl AsRef<Path>,
    limits: &ImageLimits,
) -> Result<RgbImage, DistortError> {
    let path = name.as_ref();
    limits.check_file(path, bytes.len() as u64)?;
    let format = format_of(bytes).ok_or_else(|| DistortError::NotAnImage { path: path.into() })?;
    let (image, orientation) = match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, path, limits).map(|(image, turn)| (image.into(), turn))?,
        format => decode_other(bytes, path, format, limits)?,
    };
    let mut image: DynamicImage = image;
    image.apply_orientation(orientation);
    Ok(color::to_rgb8(image))
}

/// Reads width and height from the header of an image file, before the orientation is applied.
/// Nothing is decoded.
///
/// # Errors
///
/// Returns the errors of [`decode_rgb`] that the header shows, in particular those of the limits.
pub fn image_size(
    bytes: &[u8],
    name: impl AsRef<Path>,
    limits: &ImageLimits,
) -> Result<(u32, u32), DistortError> {
    let path = name.as_ref();
    limits.check_file(path, bytes.len() as u64)?;
    match format_of(bytes).ok_or_else(|| DistortError::NotAnImage { path: path.into() })? {
        ImageFormat::Jpeg => jpeg::open(bytes, path, limits).map(|(_, size)| size),
        format => {
            let reader = ImageReader::with_format(Cursor::new(bytes), format);
            let size = reader
                .into_dimensions()
                .map_err(|source| decode_error(path, bytes.len(), plain(source, format)))?;
            limits.check_size(path, size).map(|()| size)
        }
    }
}

/// Detects the format of a file from its first bytes.
pub(crate) fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    // `image` does not detect BigTIFF, but its decoder reads it
    let is_big_tiff = bytes.starts_with(b"II\x2b\0") || bytes.starts_with(b"MM\0\x2b");
    image::guess_format(bytes).ok().or(is_big_tiff.then_some(ImageFormat::Tiff))
}

fn decode_other(
    bytes: &[u8],
    path: &Path,
    format: ImageFormat,
    limits: &ImageLimits,
) -> Result<(DynamicImage, Orientation), DistortError> {
    let deadline = Deadline::in_millis(limits.max_millis);
    let fail = |source| match decode_error(path, bytes.len(), plain(source, format)) {
        DistortError::Undecodable { path, .. } if deadline.has_passed() => {
            DistortError::TooSlow { path, limit: limits.max_millis }
        }
        error => error,
    };
    let mut reader = ImageReader::with_format(Timed::new(bytes, deadline), format);
    reader.limits(allocation(0));
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    limits.check_size(path, (width, height))?;
    decoder.set_limits(allocation(u64::from(width) * u64::from(height))).map_err(fail)?;
    let orientation = orientation_of(&mut decoder, bytes, format);
    let cmyk = (format == ImageFormat::Tiff)
        .then(|| cmyk::decode(Timed::new(bytes, deadline), decoder.original_color_type(), (width, height)))
        .flatten();
    let image = cmyk.unwrap_or_else(|| DynamicImage::from_decoder(decoder)).map_err(fail)?;
    Ok((image, orientation))
}

/// The orientation from the metadata, or none if the metadata cannot be read.
fn orientation_of(decoder: &mut impl ImageDecoder, bytes: &[u8], format: ImageFormat) -> Orientation {
    match format {
        ImageFormat::Png => orientation::of_png(bytes),
        ImageFormat::Tiff => orientation::of_tiff(bytes),
        format => orientation_of_webp(decoder, format),
    }
}

/// The orientation of a WebP file. Other formats have none here.
pub(crate) fn orientation_of_webp(decoder: &mut impl ImageDecoder, format: ImageFormat) -> Orientation {
    if format != ImageFormat::WebP {
        return Orientation::NoTransforms;
    }
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    orientation::of(exif.as_deref(), xmp.as_deref())
}

/// The memory limit of a decoder: pixels of the widest colour type, and 64 MiB for tables and
/// metadata.
pub(crate) fn allocation(pixels: u64) -> image::Limits {
    const WIDEST_PIXEL: u64 = 16;
    const METADATA: u64 = 64 << 20;
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(pixels * WIDEST_PIXEL + METADATA);
    limits
}

/// Reads an image file without decoding it, for [`decode_rgb`].
///
/// # Errors
///
/// Returns [`DistortError::Missing`], [`NotAFile`](DistortError::NotAFile),
/// [`Unreadable`](DistortError::Unreadable), [`EmptyFile`](DistortError::EmptyFile) or
/// [`FileTooLarge`](DistortError::FileTooLarge).
pub fn read_image_file(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<Vec<u8>, DistortError> {
    let path = path.as_ref();
    let (file, size) = open_file(path)?;
    limits.check_file(path, size)?;

    // The file may have grown since. One byte above the limit is enough to detect that.
    let mut bytes = Vec::with_capacity(size as usize);
    let at_most = limits.max_file_bytes.saturating_add(1);
    file.take(at_most).read_to_end(&mut bytes).map_err(read_error(path))?;
    Ok(bytes)
}

/// Opens a regular file. Returns it with its size in bytes.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), DistortError> {
    // Checked first, because opening a pipe would block.
    let metadata = path.metadata().map_err(read_error(path))?;
    if !metadata.is_file() {
        return Err(DistortError::NotAFile { path: path.into() });
    }
    Ok((File::open(path).map_err(read_error(path))?, metadata.len()))
}

pub(crate) fn read_error(path: &Path) -> impl Fn(io::Error) -> DistortError + '_ {
    |source| match source.kind() {
        ErrorKind::NotFound => DistortError::Missing { path: path.into() },
        _ => DistortError::Unreadable { path: path.into(), source },
    }
}

pub(crate) fn decode_error(path: &Path, bytes: usize, source: ImageError) -> DistortError {
    let path = path.to_path_buf();
    match &source {
        ImageError::Unsupported(_) => DistortError::Unsupported { path, source },
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DistortError::Truncated { path, bytes }
        }
        _ => DistortError::Undecodable { path, source },
    }
}
