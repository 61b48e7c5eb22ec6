//! Image files to RGB, with limits and an error per way a file can be bad.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use serde::{Deserialize, Serialize};

use crate::plain::plain;
use crate::timed::{Deadline, Timed};
use crate::{DistortError, cmyk, color, jpeg, orientation};

/// What an image file may take. The defaults are ours; they fit photographs and stop decompression bombs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// The longest side in pixels; 16,384 by default.
    pub max_side: u32,
    /// Width times height; 100,000,000 by default. It bounds the bytes, too: an image has three a pixel, so 300 MB, and a
    /// decoder may take up to sixteen a pixel and 64 MiB on the way, so about 1.7 GB.
    pub max_pixels: u64,
    /// Bytes of the file; 256 MiB by default.
    pub max_file_bytes: u64,
    /// Scans of a JPEG file; 32 by default. libjpeg writes 10, and 18 for four components; we know of no encoder that comes
    /// near 32 unless it is told to.
    ///
    /// Each costs a pass over the whole image, so without a bound a small file takes minutes. With the defaults the slowest
    /// files that we have made took 6 s of a processor, and 26 s where they are arithmetically coded.
    pub max_scans: u32,
    /// Milliseconds that decoding may take; 60,000 by default.
    ///
    /// The clock is looked at whenever a decoder takes more of the file. JPEG files are taken in one go: their time is
    /// bounded by `max_scans` and `max_pixels`.
    pub max_millis: u64,
}

impl Default for Limits {
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

impl Limits {
    /// Sets the longest side in pixels.
    pub fn with_max_side(mut self, max_side: u32) -> Self {
        self.max_side = max_side;
        self
    }

    /// Sets the number of pixels.
    pub fn with_max_pixels(mut self, max_pixels: u64) -> Self {
        self.max_pixels = max_pixels;
        self
    }

    /// Sets the size of the file in bytes.
    pub fn with_max_file_bytes(mut self, max_file_bytes: u64) -> Self {
        self.max_file_bytes = max_file_bytes;
        self
    }

    /// Sets the number of scans of a JPEG file.
    pub fn with_max_scans(mut self, max_scans: u32) -> Self {
        self.max_scans = max_scans;
        self
    }

    /// Sets the time for decoding in milliseconds.
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

/// Reads an image file as 8-bit RGB, upright.
///
/// The format is told from the content, not from the file's extension. Dimensions are checked before anything
/// is decoded. The orientation in EXIF metadata, or else in XMP, is applied as transformers' `load_image` does with Pillow. Colours are converted as Pillow's
/// `convert("RGB")` does: alpha is dropped, palettes are looked up, grey is repeated, 16-bit samples give their high
/// byte (of grey, too, which Pillow clips). Colour profiles are not looked at. Of an animation the first frame is taken.
/// JPEG files give the very levels that Pillow gives.
///
/// What lies beyond the size that the header states is left: rows of a PNG that it has no place for, whatever they unpack to;
/// metadata that are not needed, as colour profiles and texts; whatever follows a JPEG's last block, an end marker that is
/// cut off as well. Such a file is read as the image that its header states.
///
/// # Errors
///
/// [`DistortError::Missing`], [`NotAFile`](DistortError::NotAFile), [`Unreadable`](DistortError::Unreadable)
/// or [`FileTooLarge`](DistortError::FileTooLarge), and those of [`decode_rgb`]. Each has the path.
pub fn load_rgb(path: impl AsRef<Path>, limits: &Limits) -> Result<RgbImage, DistortError> {
    let path = path.as_ref();
    let bytes = read_file(path, limits)?;
    decode_rgb(&bytes, path, limits)
}

/// Decodes the bytes of an image file as [`load_rgb`] does; `name` stands for the path in errors.
///
/// # Errors
///
/// [`DistortError::EmptyFile`], [`FileTooLarge`](DistortError::FileTooLarge),
/// [`NotAnImage`](DistortError::NotAnImage), [`Unsupported`](DistortError::Unsupported),
/// [`NoPixels`](DistortError::NoPixels), [`SideTooLong`](DistortError::SideTooLong),
/// [`TooManyPixels`](DistortError::TooManyPixels), [`TooManyScans`](DistortError::TooManyScans),
/// [`TooSlow`](DistortError::TooSlow), [`Truncated`](DistortError::Truncated) or
/// [`Undecodable`](DistortError::Undecodable).
pub fn decode_rgb(bytes: &[u8], name: impl AsRef<Path>, limits: &Limits) -> Result<RgbImage, DistortError> {
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

/// The format of a file, from its first bytes.
pub(crate) fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    // `image` does not know the mark of BigTIFF, but its decoder does
    let is_big_tiff = bytes.starts_with(b"II\x2b\0") || bytes.starts_with(b"MM\0\x2b");
    image::guess_format(bytes).ok().or(is_big_tiff.then_some(ImageFormat::Tiff))
}

fn decode_other(
    bytes: &[u8],
    path: &Path,
    format: ImageFormat,
    limits: &Limits,
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

/// The orientation from the metadata. Metadata that cannot be read turn nothing.
fn orientation_of(decoder: &mut impl ImageDecoder, bytes: &[u8], format: ImageFormat) -> Orientation {
    match format {
        ImageFormat::Png => orientation::of_png(bytes),
        ImageFormat::Tiff => orientation::of_tiff(bytes),
        ImageFormat::WebP => {
            let exif = decoder.exif_metadata().ok().flatten();
            let xmp = decoder.xmp_metadata().ok().flatten();
            orientation::of(exif.as_deref(), xmp.as_deref())
        }
        _ => Orientation::NoTransforms,
    }
}

/// What a decoder may allocate: the pixels in the widest colour type, and room for tables and metadata.
pub(crate) fn allocation(pixels: u64) -> image::Limits {
    const WIDEST_PIXEL: u64 = 16;
    const METADATA: u64 = 64 << 20;
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(pixels * WIDEST_PIXEL + METADATA);
    limits
}

pub(crate) fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, DistortError> {
    let (file, size) = open_file(path)?;
    limits.check_file(path, size)?;

    // The file may have grown since; one byte above the limit is enough to tell.
    let mut bytes = Vec::with_capacity(size as usize);
    let at_most = limits.max_file_bytes.saturating_add(1);
    file.take(at_most).read_to_end(&mut bytes).map_err(read_error(path))?;
    Ok(bytes)
}

/// Opens a file, and tells its size in bytes.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), DistortError> {
    // Before opening, which would wait for ever on a pipe.
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
