//! JPEG decoding and encoding, equal to libjpeg-turbo (and so to Pillow) in every bit.
//!
//! The standard leaves decoders some freedom. Other decoders differ by some levels, mostly in the
//! colours of 4:2:0 files, which changes the log-prob of an answer by up to half a nat.

use std::path::Path;

use image::error::{DecodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{ImageError, ImageFormat, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, Encoder, JpegError, PixelFormat, Subsampling};

use crate::{DistortError, ImageLimits, color, orientation};

/// Decodes a JPEG file to RGB, not yet rotated, with the orientation from its metadata.
///
/// Grey is repeated. Four components are read as Adobe's inverted CMYK, like in Pillow.
pub(crate) fn decode(
    bytes: &[u8],
    path: &Path,
    limits: &ImageLimits,
) -> Result<(RgbImage, Orientation), DistortError> {
    let fail = |error| decode_error(error, path, bytes.len());
    let (mut decoder, (width, height)) = open(bytes, path, limits)?;
    let is_cmyk = decoder.header().components.len() == 4;
    decoder.set_output_format(if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let mut pixels = decoder.decode_image().map_err(fail)?.into_vec();
    if is_cmyk {
        pixels = color::inverted_cmyk_to_rgb(&pixels);
    }
    let image = RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| fail(JpegError::CorruptData("the number of pixels does not match the size".into())))?;
    Ok((image, orientation::of_jpeg(bytes)))
}

/// Reads the header of a JPEG file and checks the limits. Returns a decoder with width and height.
pub(crate) fn open<'a>(
    bytes: &'a [u8],
    path: &Path,
    limits: &ImageLimits,
) -> Result<(Decoder<'a>, (u32, u32)), DistortError> {
    let fail = |error| decode_error(error, path, bytes.len());
    let scans = DecodeLimits { max_scans: limits.max_scans as usize, ..DecodeLimits::default() };
    let decoder = Decoder::new_with_limits(bytes, scans).map_err(|error| match error {
        JpegError::LimitExceeded { limit, .. } if limit == u64::from(limits.max_scans) => {
            DistortError::TooManyScans { path: path.into(), limit: limits.max_scans }
        }
        error => fail(error),
    })?;

    let header = decoder.header();
    let (width, height) = (u32::from(header.width), u32::from(header.height));
    if header.precision != 8 {
        return Err(fail(JpegError::Unsupported(format!("{} bits per sample", header.precision))));
    }
    limits.check_size(path, (width, height))?;
    Ok((decoder, (width, height)))
}

pub(crate) fn decode_error(error: JpegError, path: &Path, bytes: usize) -> DistortError {
    let path = path.to_path_buf();
    let format = || ImageFormatHint::Exact(ImageFormat::Jpeg);
    match error {
        JpegError::UnexpectedEof => DistortError::Truncated { path, bytes },
        JpegError::Unsupported(feature) => {
            let kind = UnsupportedErrorKind::GenericFeature(feature);
            let source = UnsupportedError::from_format_and_kind(format(), kind);
            DistortError::Unsupported { path, source: ImageError::Unsupported(source) }
        }
        error => {
            let source = ImageError::Decoding(DecodingError::new(format(), error));
            DistortError::Undecodable { path, source }
        }
    }
}

/// Encodes an image as JPEG with Pillow's settings: libjpeg's tables for the `quality` from 1 to
/// 100, and 4:2:0.
///
/// # Errors
///
/// Returns [`DistortError::Recompress`] if the image is too large for JPEG or has no pixels.
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, DistortError> {
    let (width, height) = image.dimensions();
    Encoder::new(image.as_raw(), width as usize, height as usize, PixelFormat::Rgb)
        .quality(quality)
        .subsampling(Subsampling::S420)
        .force_baseline(true)
        .encode()
        .map_err(|error| recompress_error(image, error))
}

/// Encodes an image with [`encode_jpeg`] and decodes it again.
pub(crate) fn recompress(image: &RgbImage, quality: u8) -> Result<RgbImage, DistortError> {
    let (width, height) = image.dimensions();
    let fail = |error| recompress_error(image, error);
    let stored = encode_jpeg(image, quality)?;
    let mut decoder = Decoder::new(&stored).map_err(fail)?;
    decoder.set_output_format(PixelFormat::Rgb);
    let levels = decoder.decode_image().map_err(fail)?.into_vec();
    RgbImage::from_raw(width, height, levels)
        .ok_or_else(|| fail(JpegError::CorruptData("the number of pixels does not match the size".into())))
}

fn recompress_error(image: &RgbImage, error: JpegError) -> DistortError {
    let (width, height) = image.dimensions();
    let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
    let source = ImageError::Decoding(DecodingError::new(format, error));
    DistortError::Recompress { width, height, source }
}
