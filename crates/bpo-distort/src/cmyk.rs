//! CMYK TIFF files. The `image` crate rounds their conversion to RGB differently from Pillow.

use image::error::{
    DecodingError, ImageFormatHint, LimitError, LimitErrorKind, UnsupportedError, UnsupportedErrorKind,
};
use image::{DynamicImage, ExtendedColorType, ImageError, ImageFormat, RgbImage};
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use crate::color::inverted_cmyk_to_rgb;
use crate::load::allocation;
use crate::timed::Timed;

/// Decodes a TIFF file if its colour type is CMYK. 16-bit samples are truncated to their high byte,
/// like in Pillow.
pub(crate) fn decode(
    file: Timed<'_>,
    color: ExtendedColorType,
    (width, height): (u32, u32),
) -> Option<Result<DynamicImage, ImageError>> {
    let is_cmyk = matches!(color, ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16);
    is_cmyk.then(|| {
        let pixels = u64::from(width) * u64::from(height);
        let samples =
            samples(file, allocation(pixels).max_alloc.unwrap_or(u64::MAX)).map_err(to_image_error)?;
        // For separate planes, this is the first plane only.
        let levels = inverted_cmyk_to_rgb(&samples);
        let image = RgbImage::from_raw(width, height, levels);
        let planes = || unsupported("CMYK in separate planes".into());
        image.map(DynamicImage::from).ok_or_else(planes)
    })
}

/// The inverted samples: 255 minus cyan, magenta, yellow and black.
fn samples(file: Timed<'_>, max_alloc: u64) -> Result<Vec<u8>, TiffError> {
    let mut limits = Limits::default();
    let bytes = usize::try_from(max_alloc).unwrap_or(usize::MAX);
    (limits.decoding_buffer_size, limits.intermediate_buffer_size, limits.ifd_value_size) =
        (bytes, bytes, bytes);
    Ok(match Decoder::new(file)?.with_limits(limits).read_image()? {
        DecodingResult::U8(levels) => levels.into_iter().map(|level| 255 - level).collect(),
        DecodingResult::U16(levels) => levels.into_iter().map(|level| 255 - (level >> 8) as u8).collect(),
        _ => Vec::new(),
    })
}

fn unsupported(feature: String) -> ImageError {
    let kind = UnsupportedErrorKind::GenericFeature(feature);
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(ImageFormat::Tiff.into(), kind))
}

fn to_image_error(error: TiffError) -> ImageError {
    match error {
        TiffError::IoError(error) => ImageError::IoError(error),
        TiffError::UnsupportedError(error) => unsupported(error.to_string()),
        TiffError::LimitsExceeded => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        error => ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(ImageFormat::Tiff), error)),
    }
}
