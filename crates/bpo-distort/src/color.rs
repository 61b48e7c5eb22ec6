//! Conversion of colour types to 8-bit RGB.

use image::{DynamicImage, RgbImage};

/// Converts to RGB like Pillow's `convert("RGB")`: grey is repeated, alpha is dropped without
/// blending, and 16-bit samples are truncated to their high byte (the `image` crate would round).
///
/// 16-bit grey differs from Pillow on purpose: Pillow clips it at 255, which makes such images
/// white.
pub(crate) fn to_rgb8(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let wide = image.into_rgb16();
            let (width, height) = wide.dimensions();
            let levels = wide.into_raw().into_iter().map(|level| (level >> 8) as u8).collect();
            RgbImage::from_raw(width, height, levels).expect("one level per sample of the same image")
        }
        image => image.into_rgb8(),
    }
}

/// Converts inverted CMYK samples (255 minus cyan, magenta, yellow and black) to RGB.
///
/// Computes `max(0, white - cyan * white / 255)` with a rounded division, like `cmyk2rgb` of
/// Pillow's `Convert.c`.
pub(crate) fn inverted_cmyk_to_rgb(samples: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(samples.len() / 4 * 3);
    for &[cyan, magenta, yellow, white] in samples.as_chunks().0 {
        rgb.extend([cyan, magenta, yellow].map(|inverted| {
            let product = u32::from(255 - inverted) * u32::from(white) + 128;
            white.saturating_sub(((product + (product >> 8)) >> 8) as u8)
        }));
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba, RgbaImage};

    fn first(image: impl Into<DynamicImage>) -> [u8; 3] {
        to_rgb8(image.into()).get_pixel(0, 0).0
    }

    #[test]
    fn eight_bit_types() {
        assert_eq!(first(GrayImage::from_pixel(1, 1, Luma([77]))), [77; 3]);
        assert_eq!(first(GrayAlphaImage::from_pixel(1, 1, LumaA([77, 0]))), [77; 3]);
        assert_eq!(first(RgbaImage::from_pixel(1, 1, Rgba([1, 2, 3, 0]))), [1, 2, 3]);
    }

    #[test]
    fn sixteen_bit_types_keep_the_high_byte() {
        // 0x01ff rounds to 2 and 0x7fff to 128; Pillow 13 gives 1 and 127.
        assert_eq!(first(ImageBuffer::from_pixel(1, 1, Rgb([0x01ffu16, 0x7fff, 0xffff]))), [1, 127, 255]);
        assert_eq!(first(ImageBuffer::from_pixel(1, 1, Rgba([0x01ffu16, 0x7fff, 0xffff, 0]))), [1, 127, 255]);
        assert_eq!(first(ImageBuffer::from_pixel(1, 1, LumaA([0x7fffu16, 9]))), [127; 3]);
        assert_eq!(first(ImageBuffer::from_pixel(1, 1, Luma([0x7fffu16]))), [127; 3]);
    }
}
