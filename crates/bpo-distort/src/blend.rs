//! Linear blending of pixels, equal to Pillow's `Image.blend` in every level.

use image::{Rgb, RgbImage};

/// Blends two pixels: `from` for a share of 0, `to` for a share of 1, extrapolated beyond.
///
/// Computes in single precision and truncates, like Pillow.
pub(crate) fn blend(from: Rgb<u8>, to: Rgb<u8>, share: f32) -> Rgb<u8> {
    let mut blended = [0; 3];
    for ((blended, from), to) in blended.iter_mut().zip(from.0).zip(to.0) {
        let (from, to) = (i32::from(from), i32::from(to));
        // The cast saturates at 0 and 255.
        *blended = (from as f32 + share * (to - from) as f32) as u8;
    }
    Rgb(blended)
}

/// Blends each pixel `p` of an image with `from(p)`: `from(p)` for a share of 0, `p` for a share of
/// 1.
pub(crate) fn blend_from(image: &RgbImage, share: f32, from: impl Fn(Rgb<u8>) -> Rgb<u8>) -> RgbImage {
    let mut blended = image.clone();
    blended.pixels_mut().for_each(|pixel| *pixel = blend(from(*pixel), *pixel, share));
    blended
}

/// The luminance of a pixel, equal to Pillow's `convert("L")`: ITU-R 601 in fixed point.
pub(crate) fn grey(Rgb([red, green, blue]): Rgb<u8>) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exact_and_levels_saturate() {
        for (from, to) in [(0, 255), (255, 0), (7, 7), (13, 200)] {
            let at = |share| blend(Rgb([from; 3]), Rgb([to; 3]), share)[0];
            assert_eq!((at(0.0), at(1.0)), (from, to));
        }
        assert_eq!(blend(Rgb([0, 255, 10]), Rgb([200, 55, 11]), 2.0), Rgb([255, 0, 12]));
        assert_eq!(blend(Rgb([0, 0, 0]), Rgb([1, 3, 255]), 0.5), Rgb([0, 1, 127]));
    }

    #[test]
    fn grey_of_grey_is_itself() {
        assert!((0..=255).all(|level| grey(Rgb([level; 3])) == level));
        assert_eq!([[255, 0, 0], [0, 255, 0], [0, 0, 255]].map(|rgb| grey(Rgb(rgb))), [76, 150, 29]);
    }
}
