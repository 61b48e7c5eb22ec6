//! JPEG files as libjpeg-turbo, and so Pillow, decodes them: equal to the bit.
//!
//! The standard leaves a decoder some freedom, and other decoders differ by some grey levels, most in the colours
//! of 4:2:0 files. That alone moved the log-probability of an answer by up to half a nat.

use std::path::Path;

use image::error::{DecodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{ImageError, ImageFormat, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use crate::{DistortError, Limits, color};

/// More scans than any encoder writes; each costs a pass over the whole image, so without a bound a small file
/// takes minutes. 500 is what libjpeg-turbo's own fuzzers allow.
const MAX_SCANS: usize = 500;

/// Decodes to RGB as stored, and says how the image is to be turned.
///
/// Grey is repeated. Four components are taken as Adobe's inverted CMYK, as Pillow does.
pub(crate) fn decode(
    bytes: &[u8],
    path: &Path,
    limits: &Limits,
) -> Result<(RgbImage, Orientation), DistortError> {
    let fail = |error| decode_error(error, path, bytes.len());
    let scans = DecodeLimits { max_scans: MAX_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, scans).map_err(fail)?;

    let header = decoder.header();
    let (width, height) = (u32::from(header.width), u32::from(header.height));
    let is_cmyk = header.components.len() == 4;
    if header.precision != 8 {
        return Err(fail(JpegError::Unsupported(format!("{} bits a sample", header.precision))));
    }
    limits.check_size(path, (width, height))?;

    let orientation = decoder.exif_orientation().and_then(Orientation::from_exif);
    decoder.set_output_format(if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let mut pixels = decoder.decode_image().map_err(fail)?.into_vec();
    if is_cmyk {
        pixels = color::inverted_cmyk_to_rgb(&pixels);
    }
    let image = RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| fail(JpegError::CorruptData("pixels do not fit the size".into())))?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

fn decode_error(error: JpegError, path: &Path, bytes: usize) -> DistortError {
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
