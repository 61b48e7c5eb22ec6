//! Image resizing, equal to Pillow's `Image.resize` in every level.
//!
//! [`resize`] equals `Image.resize((width, height), filter)` of Pillow 13 for RGB images, for all
//! six filters and with Pillow's default `reducing_gap=None`. So it also equals the resize of image
//! processors that use Pillow, such as those of transformers. [`for_each_row`] computes only a crop
//! of the result, with the same levels.
//!
//! ```
//! use bpo_distort::resize::{Filter, resize};
//! use image::{Rgb, RgbImage};
//!
//! let image = RgbImage::from_fn(640, 480, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, 9]));
//! let small = resize(&image, 448, 336, Filter::Bicubic);
//! assert_eq!(small.dimensions(), (448, 336));
//! ```
//!
//! # Exactness
//!
//! Pillow rounds each weight to 22 fractional bits, and rounds to levels after each of its two
//! passes, along rows and along columns. This implementation does the same in integers, so the
//! result is equal on every platform. Faster resizers are not equal: fast_image_resize 6.1 differs
//! from Pillow in one of seven levels of photographs. One level is 0.015 after CLIP's
//! normalization. Tests compare digests with Pillow for all filters, and other vector widths with
//! each other.
//!
//! # Cropping
//!
//! ```
//! use bpo_distort::resize::{Axis, Filter, for_each_row, resize};
//! use image::{Rgb, RgbImage};
//!
//! let image = RgbImage::from_fn(640, 480, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, 9]));
//! let small = resize(&image, 448, 336, Filter::Bicubic);
//!
//! // The central 336 x 336 pixels, without computing the others:
//! let (x, y) = (Axis { to: 448, keep: 56..392 }, Axis::whole(336));
//! let mut row = 0;
//! for_each_row(&image, &x, &y, Filter::Bicubic, |pixels| {
//!     assert!(pixels.iter().zip(56..).all(|(pixel, x)| pixel[..3] == small.get_pixel(x, row).0));
//!     row += 1;
//! });
//! assert_eq!(row, 336);
//! ```
//!
//! Source: `Resample.c` and `Geometry.c` (`ImagingScaleAffine`) of Pillow.

use std::ops::Range;

use image::RgbImage;

use crate::simd::widest;

mod filter;
mod passes;
mod taps;

pub use filter::Filter;
use passes::{Across, Down};
use taps::Taps;

/// Red, green and blue.
const CHANNELS: usize = 3;

/// A pixel: red, green, blue and an unused byte. Sums over pixels of four bytes are faster.
pub type Pixel = [u8; 4];

/// One axis of a resize with a crop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Number of pixels after the resize, before the crop.
    pub to: usize,
    /// The pixels to keep.
    pub keep: Range<usize>,
}

impl Axis {
    /// A resize to `to` pixels without a crop.
    pub fn whole(to: usize) -> Self {
        Self { to, keep: 0..to }
    }
}

/// Resizes an image. The result for an image without pixels is black.
///
/// # Panics
///
/// If an image of this size does not fit into memory.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let mut resized = RgbImage::new(width, height);
    let mut places = resized.as_chunks_mut().0.iter_mut();
    let (x, y) = (Axis::whole(width as usize), Axis::whole(height as usize));
    for_each_row(image, &x, &y, filter, |pixels| {
        for ([red, green, blue, _], place) in pixels.iter().zip(&mut places) {
            *place = [*red, *green, *blue];
        }
    });
    resized
}

/// Resizes an image to `x.to` by `y.to` pixels, and calls `visit` with each row of the crop
/// `x.keep` by `y.keep`.
///
/// An image without pixels has no rows.
///
/// # Panics
///
/// If `keep` exceeds `to`.
pub fn for_each_row(image: &RgbImage, x: &Axis, y: &Axis, filter: Filter, mut visit: impl FnMut(&[Pixel])) {
    assert!(x.keep.end <= x.to && y.keep.end <= y.to, "the crop exceeds the resized image");
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 || x.keep.is_empty() || y.keep.is_empty() {
        return;
    }
    if filter == Filter::Nearest {
        return pick(image, x, y, visit);
    }
    let columns = (x.to != width).then(|| Taps::new(width, x, filter));
    let rows = (y.to != height).then(|| Taps::new(height, y, filter));
    // The first pass computes only what the second pass reads.
    let reach = |taps: &Option<Taps>, axis: &Axis| taps.as_ref().map_or(axis.keep.clone(), Taps::reach);
    let (reach_x, reach_y) = (reach(&columns, x), reach(&rows, y));
    let stride = width * CHANNELS;
    let levels = &image.as_raw()[reach_y.start * stride + reach_x.start * CHANNELS..];

    match &rows {
        Some(rows) if is_down_first([width, x.to], [height, y.to]) => {
            let low = down(levels, stride, rows, reach_x.len() * CHANNELS);
            let pixels = across(&low, reach_x.len() * CHANNELS, rows.len(), columns.as_ref(), x);
            pixels.chunks_exact(x.keep.len()).for_each(visit);
        }
        _ => {
            let pixels = across(levels, stride, reach_y.len(), columns.as_ref(), x);
            let Some(rows) = &rows else {
                return pixels.chunks_exact(x.keep.len()).for_each(visit);
            };
            let (levels, stride) = (pixels.as_flattened(), x.keep.len() * size_of::<Pixel>());
            let mut row = vec![Pixel::default(); x.keep.len()];
            for (first, weights) in rows.iter() {
                let levels = &levels[(first - reach_y.start) * stride..];
                widest(Down { levels, stride, weights, row: row.as_flattened_mut() });
                visit(&row);
            }
        }
    }
}

/// Whether the pass along columns comes first. Pillow 13 chooses the faster order, and the order
/// affects rounding.
fn is_down_first([width, to_width]: [usize; 2], [height, to_height]: [usize; 2]) -> bool {
    height > to_height && (height - to_height) as i128 > (width as i128 - to_width as i128) * 2
}

fn widened([red, green, blue]: &[u8; CHANNELS]) -> Pixel {
    [*red, *green, *blue, 0]
}

/// The pass along rows, or a copy of the kept pixels if the width does not change.
///
/// The first row starts with the first pixel that is needed.
fn across(levels: &[u8], stride: usize, rows: usize, taps: Option<&Taps>, x: &Axis) -> Vec<Pixel> {
    let width = x.keep.len();
    let mut pixels = vec![Pixel::default(); rows * width];
    match taps {
        Some(taps) => widest(Across { levels, stride, taps, pixels: &mut pixels }),
        None => {
            for (from, to) in levels.chunks(stride).zip(pixels.chunks_exact_mut(width)) {
                from.as_chunks().0.iter().zip(to).for_each(|(from, to)| *to = widened(from));
            }
        }
    }
    pixels
}

/// The pass along columns, for rows of `length` levels.
///
/// The first row starts with the first level that is needed.
fn down(levels: &[u8], stride: usize, taps: &Taps, length: usize) -> Vec<u8> {
    let mut low = vec![0; taps.len() * length];
    for ((first, weights), row) in taps.iter().zip(low.chunks_exact_mut(length)) {
        let levels = &levels[(first - taps.reach().start) * stride..];
        widest(Down { levels, stride, weights, row });
    }
    low
}

/// Nearest-neighbour resize.
fn pick(image: &RgbImage, x: &Axis, y: &Axis, mut visit: impl FnMut(&[Pixel])) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let columns = taps::nearest(width, x);
    let mut row = vec![Pixel::default(); columns.len()];
    for y in taps::nearest(height, y) {
        let from = image.as_raw()[y * width * CHANNELS..].as_chunks().0;
        row.iter_mut().zip(&columns).for_each(|(pixel, column)| *pixel = widened(&from[*column]));
        visit(&row);
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const FILTERS: [Filter; 6] =
        [Filter::Nearest, Filter::Lanczos, Filter::Bilinear, Filter::Bicubic, Filter::Box, Filter::Hamming];

    fn image(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 11) as u8, (y * 13) as u8, (x * y) as u8]))
    }

    #[test]
    fn the_same_size_changes_nothing() {
        for filter in FILTERS {
            assert_eq!(resize(&image(7, 5), 7, 5, filter), image(7, 5));
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let flat = |width, height| RgbImage::from_pixel(width, height, Rgb([255, 0, 131]));
        for (width, height) in [(1, 1), (3, 50), (100, 2), (9, 1)] {
            for filter in FILTERS {
                assert_eq!(resize(&flat(9, 4), width, height, filter), flat(width, height), "{filter:?}");
            }
        }
    }

    #[test]
    fn box_filter_averages_and_repeats() {
        let row =
            |levels: &[u8]| RgbImage::from_fn(levels.len() as u32, 1, |x, _| Rgb([levels[x as usize]; 3]));
        assert_eq!(resize(&row(&[10, 20, 100, 51]), 2, 1, Filter::Box), row(&[15, 76]));
        assert_eq!(resize(&row(&[15, 76]), 4, 1, Filter::Box), row(&[15, 15, 76, 76]));
    }

    #[test]
    fn crops_equal_parts_of_the_whole() {
        for (from, to) in [
            ((23, 17), (9, 7)),
            ((23, 17), (23, 5)),
            ((23, 17), (40, 17)),
            ((23, 17), (31, 60)),
            ((9, 50), (12, 8)),
        ] {
            let image = image(from.0, from.1);
            for filter in FILTERS {
                let whole = resize(&image, to.0, to.1, filter);
                let (x, y) = (
                    Axis { to: to.0 as usize, keep: 2..to.0 as usize - 3 },
                    Axis { to: to.1 as usize, keep: 1..to.1 as usize - 2 },
                );
                let mut at = 0;
                for_each_row(&image, &x, &y, filter, |pixels| {
                    at += 1;
                    for (pixel, x) in pixels.iter().zip(2..) {
                        assert_eq!(pixel[..3], whole.get_pixel(x, at).0, "{filter:?} to {to:?}");
                    }
                    assert_eq!(pixels.len(), x.keep.len());
                });
                assert_eq!(at as usize, y.keep.len());
            }
        }
    }

    #[test]
    fn empty_images_and_crops_have_no_rows() {
        let count = |image: &RgbImage, x: Axis, y: Axis| {
            let mut count = 0;
            for_each_row(image, &x, &y, Filter::Bicubic, |_| count += 1);
            count
        };
        assert_eq!(count(&image(3, 3), Axis { to: 9, keep: 4..4 }, Axis::whole(9)), 0);
        assert_eq!(count(&RgbImage::new(0, 3), Axis::whole(9), Axis::whole(9)), 0);
        assert_eq!(count(&image(3, 3), Axis { to: 9, keep: 4..5 }, Axis::whole(9)), 9);
    }
}
