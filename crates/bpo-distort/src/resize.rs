//! Images to another size, as Pillow's `Image.resize` has it: equal to the level.
//!
//! Weights are rational numbers in fixed point, so there is nothing a machine could do differently.

use std::borrow::Cow;

use image::RgbImage;

const CHANNELS: usize = 3;

/// Bits behind the point: a weight times a level, summed, fits into 32 bits with a sign.
const PRECISION: u32 = 32 - 8 - 2;

/// How a level is made of those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// The mean of what falls into the pixel.
    Box,
    /// A triangle, as wide as the pixels of whichever image has the larger ones.
    Bilinear,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        match self {
            Self::Box if distance > -0.5 && distance <= 0.5 => 1.0,
            Self::Bilinear if distance.abs() < 1.0 => 1.0 - distance.abs(),
            _ => 0.0,
        }
    }
}

/// The image at another size; both the image and the size have pixels.
pub(crate) fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let mut levels = Cow::Borrowed(image.as_raw());
    if width != image.width() {
        levels = Cow::Owned(across(&levels, image.width() as usize, &taps(image.width(), width, filter)));
    }
    if height != image.height() {
        levels = Cow::Owned(down(&levels, width as usize * CHANNELS, &taps(image.height(), height, filter)));
    }
    RgbImage::from_raw(width, height, levels.into_owned()).expect("a level for each place")
}

/// What one place of the new image is made of.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: u32, to: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let taps = |place: u32| {
        let center = (f64::from(place) + 0.5) * scale;
        // Cut off towards zero, as C does.
        let first = ((center - support + 0.5) as i64).max(0);
        let end = ((center + support + 0.5) as i64).min(i64::from(from));
        let weight = |at: i64| filter.weight((at as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: f64| (0.5 + weight / total * f64::from(1 << PRECISION)) as i32;
        Taps { first: first as usize, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..to).map(taps).collect()
}

fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn across(levels: &[u8], width: usize, taps: &[Taps]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(levels.len() / width * taps.len());
    for row in levels.chunks_exact(width * CHANNELS) {
        for Taps { first, weights } in taps {
            let mut sums = [HALF; CHANNELS];
            for (pixel, weight) in row[first * CHANNELS..].chunks_exact(CHANNELS).zip(weights) {
                for (sum, level) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*level) * weight;
                }
            }
            resized.extend(sums.map(level));
        }
    }
    resized
}

fn down(levels: &[u8], row_length: usize, taps: &[Taps]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(row_length * taps.len());
    let mut sums = vec![HALF; row_length];
    for Taps { first, weights } in taps {
        sums.fill(HALF);
        for (row, weight) in levels[first * row_length..].chunks_exact(row_length).zip(weights) {
            for (sum, level) in sums.iter_mut().zip(row) {
                *sum += i32::from(*level) * weight;
            }
        }
        resized.extend(sums.iter().map(|sum| level(*sum)));
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = RgbImage::from_fn(7, 5, |x, y| Rgb([(x * 30) as u8, (y * 50) as u8, 9]));
        for filter in [Filter::Box, Filter::Bilinear] {
            assert_eq!(resize(&image, 7, 5, filter), image);
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let image = RgbImage::from_pixel(9, 4, Rgb([255, 0, 131]));
        for (width, height) in [(1, 1), (3, 50), (100, 2), (9, 1)] {
            for filter in [Filter::Box, Filter::Bilinear] {
                let expected = RgbImage::from_pixel(width, height, Rgb([255, 0, 131]));
                assert_eq!(resize(&image, width, height, filter), expected);
            }
        }
    }

    #[test]
    fn halving_takes_means_and_doubling_repeats() {
        let row =
            |levels: &[u8]| RgbImage::from_fn(levels.len() as u32, 1, |x, _| Rgb([levels[x as usize]; 3]));
        assert_eq!(resize(&row(&[10, 20, 100, 51]), 2, 1, Filter::Box), row(&[15, 76]));
        assert_eq!(resize(&row(&[15, 76]), 4, 1, Filter::Box), row(&[15, 15, 76, 76]));
    }
}
