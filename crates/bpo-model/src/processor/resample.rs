//! Pillow's `Image.resize` for RGB, to the bit.
//!
//! Not one of the SIMD resizers: fast_image_resize 6.1 gives other bytes than Pillow at one place in seven of our
//! photographs, and a grey level is 0.015 after CLIP's normalization. Pillow keeps 22 fractional bits of each weight, and
//! rounds to 8 bits after the horizontal and again after the vertical pass. The same is done here, for the part of the
//! result that a crop will keep only.
//!
//! The horizontal pass always comes first. Pillow 13 begins with the vertical one where the height shrinks far more than
//! the width; at no size tried did it do so for a resize that keeps the aspect ratio, as CLIP's does.
//!
//! Source: `Resample.c` and `Geometry.c` (`ImagingScaleAffine`) of Pillow.

use std::ops::Range;

use image::RgbImage;
use serde::Deserialize;

/// Fractional bits of a filter weight (`PRECISION_BITS` in Pillow).
const PRECISION: u32 = 32 - 8 - 2;
/// Bytes of an RGB pixel.
const CHANNELS: usize = 3;

/// A resampling filter, read and written as Pillow's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub enum Resample {
    /// The nearest pixel (0).
    Nearest,
    /// Lanczos with three lobes (1).
    Lanczos,
    /// Linear interpolation (2).
    Bilinear,
    /// Cubic convolution with a = -0.5 (3).
    Bicubic,
    /// The mean of the pixels covered (4).
    Box,
    /// A Hamming window (5).
    Hamming,
}

impl TryFrom<u8> for Resample {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        Ok(match code {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return Err(format!("no resampling filter has the number {code}; Pillow's are 0 to 5")),
        })
    }
}

impl Resample {
    /// Half the width of the filter, in source pixels when nothing is shrunk.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at a distance of `x`.
    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest | Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => match x.abs() {
                0.0 => 1.0,
                x if x >= 1.0 => 0.0,
                x => sinc(x) * (0.54 + 0.46 * (x * std::f64::consts::PI).cos()),
            },
            Self::Bicubic => {
                const A: f64 = -0.5;
                match x.abs() {
                    x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                    _ => 0.0,
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// One direction of a resize: from `from` pixels to `to`, of which those in `keep` are wanted.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Pixels before.
    pub from: usize,
    /// Pixels after, had nothing been cropped.
    pub to: usize,
    /// The wanted part of the result.
    pub keep: Range<usize>,
}

/// The weights by which one output pixel sums source pixels `start..start + weights.len()`.
struct Tap {
    start: usize,
    weights: Vec<i32>,
}

impl Axis {
    fn is_unscaled(&self) -> bool {
        self.from == self.to
    }

    /// Fixed-point weights for every kept pixel (`precompute_coeffs`, `normalize_coeffs_8bpc`).
    fn taps(&self, filter: Resample) -> Vec<Tap> {
        let scale = self.from as f64 / self.to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let tap = |out: usize| {
            let center = (out as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(self.from);
            let raw: Vec<f64> =
                (start..end).map(|i| filter.weight((i as f64 - center + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |w: f64| {
                let w = if sum == 0.0 { w } else { w / sum } * f64::from(1u32 << PRECISION);
                (w + 0.5f64.copysign(w)) as i32
            };
            Tap { start, weights: raw.into_iter().map(fixed).collect() }
        };
        self.keep.clone().map(tap).collect()
    }

    /// The source pixel of every kept pixel. Pillow adds the step up, so the rounding of the sum is part of the result.
    fn nearest(&self) -> Vec<usize> {
        let step = self.from as f64 / self.to as f64;
        let mut at = step * 0.5;
        let mut all = Vec::with_capacity(self.keep.len());
        for out in 0..self.keep.end {
            if out >= self.keep.start {
                all.push((at as usize).min(self.from - 1));
            }
            at += step;
        }
        all
    }
}

/// What lies in `x.keep` and `y.keep` after `image` is resized to `x.to` by `y.to` pixels.
///
/// The result is `[y.keep.len(), x.keep.len(), 3]`, rows first.
///
/// # Panics
/// If `x.from` and `y.from` are not the image's size, or a `keep` exceeds its `to`.
pub(super) fn resize(image: &RgbImage, x: &Axis, y: &Axis, filter: Resample) -> Vec<u8> {
    assert_eq!((x.from, y.from), (image.width() as usize, image.height() as usize), "the size of the image");
    assert!(x.keep.end <= x.to && y.keep.end <= y.to, "only what is resized can be kept");
    let source = image.as_raw();
    if filter == Resample::Nearest {
        return pick(source, x, y);
    }
    let rows = if y.is_unscaled() { Vec::new() } else { y.taps(filter) };
    // Only the source rows that some kept output row reads go through the horizontal pass.
    let needed = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => first.start..last.start + last.weights.len(),
        _ => y.keep.clone(),
    };
    let narrow = resize_rows(source, x, needed.clone(), filter);
    if y.is_unscaled() { narrow } else { resize_columns(&narrow, &rows, needed.start, x.keep.len()) }
}

fn pick(source: &[u8], x: &Axis, y: &Axis) -> Vec<u8> {
    let columns = x.nearest();
    let mut out = Vec::with_capacity(columns.len() * y.keep.len() * CHANNELS);
    for row in y.nearest() {
        for column in &columns {
            let at = (row * x.from + column) * CHANNELS;
            out.extend_from_slice(&source[at..at + CHANNELS]);
        }
    }
    out
}

fn resize_rows(source: &[u8], x: &Axis, rows: Range<usize>, filter: Resample) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * x.keep.len() * CHANNELS);
    let taps = if x.is_unscaled() { Vec::new() } else { x.taps(filter) };
    for row in source.chunks_exact(x.from * CHANNELS).skip(rows.start).take(rows.len()) {
        if x.is_unscaled() {
            out.extend_from_slice(&row[x.keep.start * CHANNELS..x.keep.end * CHANNELS]);
            continue;
        }
        for tap in &taps {
            let mut sum = [1i32 << (PRECISION - 1); CHANNELS];
            let pixels = row[tap.start * CHANNELS..].chunks_exact(CHANNELS);
            for (pixel, weight) in pixels.zip(&tap.weights) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sum.map(to_byte));
        }
    }
    out
}

/// `narrow` begins at source row `first` and is `width` pixels wide.
fn resize_columns(narrow: &[u8], taps: &[Tap], first: usize, width: usize) -> Vec<u8> {
    let stride = width * CHANNELS;
    let mut out = Vec::with_capacity(taps.len() * stride);
    let mut sums = vec![0i32; stride];
    for tap in taps {
        sums.fill(1 << (PRECISION - 1));
        let rows = narrow[(tap.start - first) * stride..].chunks_exact(stride);
        for (row, weight) in rows.zip(&tap.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        out.extend(sums.iter().copied().map(to_byte));
    }
    out
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(from: usize, to: usize) -> Axis {
        Axis { from, to, keep: 0..to }
    }

    #[test]
    fn the_numbers_are_pillows() {
        let parsed: Vec<Resample> = serde_json::from_str("[0, 1, 2, 3, 4, 5]").unwrap();
        use Resample::*;
        assert_eq!(parsed, [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming]);
        assert!(serde_json::from_str::<Resample>("6").is_err());
    }

    #[test]
    fn a_kept_part_is_a_crop_of_the_whole() {
        let image =
            RgbImage::from_fn(23, 17, |x, y| image::Rgb([(x * 11) as u8, (y * 13) as u8, (x * y) as u8]));
        for filter in [Resample::Nearest, Resample::Bilinear, Resample::Bicubic, Resample::Lanczos] {
            for (w, h) in [(9, 7), (23, 5), (40, 17), (31, 60)] {
                let full = resize(&image, &whole(23, w), &whole(17, h), filter);
                let (x, y) =
                    (Axis { from: 23, to: w, keep: 2..w - 3 }, Axis { from: 17, to: h, keep: 1..h - 2 });
                let part = resize(&image, &x, &y, filter);
                let cropped: Vec<u8> = y
                    .keep
                    .clone()
                    .flat_map(|row| full[(row * w + 2) * 3..(row * w + w - 3) * 3].to_vec())
                    .collect();
                assert_eq!(part, cropped, "{filter:?} to {w}x{h}");
            }
        }
    }

    #[test]
    fn the_same_size_is_a_copy_and_a_flat_image_stays_flat() {
        let image = RgbImage::from_fn(5, 4, |x, y| image::Rgb([(x * 50) as u8, (y * 60) as u8, 7]));
        assert_eq!(resize(&image, &whole(5, 5), &whole(4, 4), Resample::Lanczos), *image.as_raw());
        let flat = RgbImage::from_pixel(1, 9, image::Rgb([255, 3, 128]));
        let grown = resize(&flat, &whole(1, 6), &whole(9, 50), Resample::Bicubic);
        assert!(grown.chunks(3).all(|p| p == [255, 3, 128]));
    }
}
