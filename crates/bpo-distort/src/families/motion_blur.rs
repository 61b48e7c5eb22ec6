use std::collections::BTreeMap;

use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

const CHANNELS: usize = 3;

/// Weights below this are rounding errors.
const NOTHING: f64 = 1e-9;

/// `motion-blur:length=15,angle=30`: the mean along a line through each pixel, as from a moving
/// camera.
///
/// The line is `length` pixels long and rotated by `angle` degrees counter-clockwise; 0 is
/// horizontal. It has one point per pixel of its length. A point between pixels is interpolated
/// from the four around it. Pixels beyond the border repeat the border. Without an angle, one is
/// drawn for each item. The severity levels are this project's: ImageNet-C gives the width of a
/// Gaussian along the line, not its length.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let mut point = RgbImage::new(9, 9);
/// point.put_pixel(4, 4, Rgb([250; 3]));
/// let blurred = "motion-blur:length=5,angle=0".parse::<Distortion>()?.apply(&point, 7)?;
/// let row: Vec<u8> = (0..9).map(|x| blurred.get_pixel(x, 4)[0]).collect();
/// assert_eq!(row, [0, 0, 50, 50, 50, 50, 50, 0, 0]);
/// assert!((0..9).all(|x| blurred.get_pixel(x, 3)[0] == 0));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MotionBlur {
    /// Length of the line in pixels, from 1 (the same image) to 1024. The cost grows with the
    /// length.
    pub length: Amount<f32>,
    /// Direction in degrees, from -360 to 360; drawn from 0 to 180 by default.
    pub angle: Amount<f32>,
}

const fn at(length: f32) -> Distortion {
    Distortion::MotionBlur(MotionBlur { length: Amount::Exactly(length), angle: Amount::Between(0.0, 180.0) })
}

pub(super) static FAMILY: Family = Family {
    name: "motion-blur",
    about: "the mean along a line, given by its length in pixels and its angle in degrees",
    parameters: &[
        Parameter::number("length", 1.0, 1024.0),
        Parameter::number("angle", -360.0, 360.0).or("0..180"),
    ],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(5.0), at(9.0), at(15.0), at(21.0), at(31.0)]),
    weakest: at(1.0),
    has_identity: true,
};

impl Stage for MotionBlur {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.length, &mut self.angle]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Ok(convolve(input.image, &line(self.length.exact(), self.angle.exact())))
    }
}

/// The weight of the pixel at a horizontal and vertical offset.
struct Tap {
    across: isize,
    down: isize,
    weight: f32,
}

fn line(length: f32, angle: f32) -> Vec<Tap> {
    let radians = f64::from(angle) * (std::f64::consts::PI / 180.0);
    let (right, up) = (libm::cos(radians), libm::sin(radians));
    let length = f64::from(length);
    let points = length.ceil() as u32;
    let gaps = f64::from(points.max(2) - 1);

    // Sorted, so that the order of sums is fixed.
    let mut weights = BTreeMap::<(isize, isize), f64>::new();
    for point in 0..points {
        let along = (length - 1.0) * (f64::from(point) / gaps - 0.5);
        let along = if points == 1 { 0.0 } else { along };
        let (x, y) = (along * right, -along * up);
        let (left, top) = (x.floor(), y.floor());
        for (row, of_row) in [(top, 1.0 - (y - top)), (top + 1.0, y - top)] {
            for (column, of_column) in [(left, 1.0 - (x - left)), (left + 1.0, x - left)] {
                *weights.entry((row as isize, column as isize)).or_default() += of_row * of_column;
            }
        }
    }
    weights.retain(|_, weight| *weight > NOTHING);
    let total: f64 = weights.values().sum();
    let tap = |((down, across), weight)| Tap { across, down, weight: (weight / total) as f32 };
    weights.into_iter().map(tap).collect()
}

fn convolve(image: &RgbImage, taps: &[Tap]) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let row_length = width * CHANNELS;
    let mut levels = Vec::with_capacity(image.as_raw().len());
    let mut sums = vec![0.0f32; row_length];
    for y in 0..height {
        sums.fill(0.0);
        for tap in taps {
            let from = y.saturating_add_signed(tap.down).min(height - 1) * row_length;
            add_shifted(&mut sums, &image.as_raw()[from..from + row_length], tap);
        }
        levels.extend(sums.iter().map(|sum| sum.round() as u8));
    }
    RgbImage::from_raw(image.width(), image.height(), levels).expect("the number of levels is unchanged")
}

/// Adds a shifted and weighted row. Pixels beyond its ends repeat the ends.
fn add_shifted(sums: &mut [f32], row: &[u8], tap: &Tap) {
    let width = row.len() / CHANNELS;
    let shift = tap.across.unsigned_abs().min(width);
    let (sums, _) = sums.as_chunks_mut::<CHANNELS>();
    let (row, _) = row.as_chunks::<CHANNELS>();
    let add = |sum: &mut [f32; CHANNELS], pixel: &[u8; CHANNELS]| {
        sum.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += tap.weight * f32::from(*level));
    };
    if tap.across >= 0 {
        let (inside, beyond) = sums.split_at_mut(width - shift);
        inside.iter_mut().zip(&row[shift..]).for_each(|(sum, pixel)| add(sum, pixel));
        beyond.iter_mut().for_each(|sum| add(sum, &row[width - 1]));
    } else {
        let (beyond, inside) = sums.split_at_mut(shift);
        beyond.iter_mut().for_each(|sum| add(sum, &row[0]));
        inside.iter_mut().zip(row).for_each(|(sum, pixel)| add(sum, pixel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn point() -> RgbImage {
        let mut image = RgbImage::new(11, 11);
        image.put_pixel(5, 5, Rgb([240; 3]));
        image
    }

    fn lit(image: &RgbImage) -> Vec<(u32, u32)> {
        image.enumerate_pixels().filter(|(_, _, pixel)| pixel[0] > 20).map(|(x, y, _)| (x, y)).collect()
    }

    #[test]
    fn a_line_has_the_direction_of_the_angle() {
        let at = |angle| lit(&convolve(&point(), &line(5.0, angle)));
        assert_eq!(at(90.0), [(5, 3), (5, 4), (5, 5), (5, 6), (5, 7)]);
        assert_eq!(at(0.0), at(180.0));
        // Up to the right.
        assert!(at(45.0).contains(&(6, 4)) && at(45.0).contains(&(4, 6)) && !at(45.0).contains(&(4, 4)));
    }

    #[test]
    fn flat_images_stay_flat() {
        for (width, height) in [(1, 1), (1, 40), (40, 1), (7, 5)] {
            let image = RgbImage::from_pixel(width, height, Rgb([255, 0, 131]));
            for (length, angle) in [(1.0, 77.0), (1.5, 10.0), (2.0, 45.0), (1024.0, -33.0)] {
                assert_eq!(convolve(&image, &line(length, angle)), image, "{length} at {angle}");
            }
        }
    }
}
