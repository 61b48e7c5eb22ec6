use image::RgbImage;

use crate::distortion::has_pixels;
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// The largest sigma of [`Blur`] in pixels. The cost grows with sigma.
pub const MAX_BLUR_SIGMA: f32 = 1024.0;

/// Radius of the kernel in standard deviations, as in SciPy's `gaussian_filter`.
const TRUNCATE: f64 = 4.0;

const CHANNELS: usize = 3;

/// `blur:sigma=4`: Gaussian blur, sigma in pixels.
///
/// The severity levels are those of ImageNet-C ([arXiv
/// 1903.12261](https://arxiv.org/abs/1903.12261)), which were chosen for images of 224 x 224
/// pixels. Sigma 0 returns the same image. The cost grows with sigma.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let stripes = RgbImage::from_fn(32, 32, |x, _| Rgb([(x % 2 * 255) as u8; 3]));
/// let blurred = "blur:sigma=2".parse::<Distortion>()?.apply(&stripes, 7)?;
/// assert!(blurred.get_pixel(15, 16)[0].abs_diff(blurred.get_pixel(16, 16)[0]) <= 1);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blur {
    /// Standard deviation in pixels, from 0 to [`MAX_BLUR_SIGMA`].
    pub sigma: Amount<f32>,
}

const fn at(sigma: f32) -> Distortion {
    Distortion::Blur(Blur { sigma: Amount::Exactly(sigma) })
}

pub(super) static FAMILY: Family = Family {
    name: "blur",
    about: "Gaussian blur, sigma in pixels",
    parameters: &[Parameter::number("sigma", 0.0, MAX_BLUR_SIGMA)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(1.0), at(2.0), at(3.0), at(4.0), at(6.0)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for Blur {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.sigma]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        gaussian_blur(input.image, self.sigma.exact())
    }
}

/// Blurs an image with a Gaussian of standard deviation `sigma` pixels.
///
/// Convolves each channel along both axes with a normalized kernel of radius four sigma. Pixels
/// beyond the border repeat the border. Values are rounded once, at the end.
///
/// # Errors
///
/// Returns [`DistortError::InvalidValue`] unless `0 <= sigma <=` [`MAX_BLUR_SIGMA`].
pub fn gaussian_blur(image: &RgbImage, sigma: f32) -> Result<RgbImage, DistortError> {
    Distortion::blur(sigma)?;
    let (width, height) = image.dimensions();
    if sigma == 0.0 || !has_pixels(image) {
        return Ok(image.clone());
    }
    let kernel = half_kernel(sigma);
    let row_length = width as usize * CHANNELS;
    let across = blur_rows(image.as_raw(), row_length, &kernel);
    let levels = blur_columns(&across, row_length, &kernel);
    Ok(RgbImage::from_raw(width, height, levels).expect("the number of levels is unchanged"))
}

/// Convolves each row. The kernel is symmetric, so both sides share their weights.
fn blur_rows(levels: &[u8], row_length: usize, kernel: &[f32]) -> Vec<f32> {
    let last = row_length / CHANNELS - 1;
    let mut sums = Vec::with_capacity(levels.len());
    for row in levels.chunks_exact(row_length) {
        for x in 0..=last {
            for channel in 0..CHANNELS {
                let level = |x: usize| f32::from(row[x * CHANNELS + channel]);
                let mut sum = kernel[0] * level(x);
                for (distance, weight) in kernel.iter().enumerate().skip(1) {
                    sum += weight * (level(x.saturating_sub(distance)) + level((x + distance).min(last)));
                }
                sums.push(sum);
            }
        }
    }
    sums
}

/// Convolves each column, one row of sums at a time, and rounds.
fn blur_columns(values: &[f32], row_length: usize, kernel: &[f32]) -> Vec<u8> {
    let last = values.len() / row_length - 1;
    let row = |y: usize| &values[y * row_length..(y + 1) * row_length];
    let mut levels = Vec::with_capacity(values.len());
    let mut sums = vec![0.0; row_length];
    for y in 0..=last {
        for (sum, value) in sums.iter_mut().zip(row(y)) {
            *sum = kernel[0] * value;
        }
        for (distance, weight) in kernel.iter().enumerate().skip(1) {
            let (above, below) = (row(y.saturating_sub(distance)), row((y + distance).min(last)));
            for ((sum, above), below) in sums.iter_mut().zip(above).zip(below) {
                *sum += weight * (above + below);
            }
        }
        levels.extend(sums.iter().map(|sum| sum.round() as u8));
    }
    levels
}

/// The weights at distances 0, 1, 2, ...; the two-sided kernel sums to 1.
fn half_kernel(sigma: f32) -> Vec<f32> {
    let sigma = f64::from(sigma);
    let radius = (TRUNCATE * sigma).ceil() as usize;
    // `powi` may differ in the last bit between platforms.
    let weight = |distance: usize| {
        let offset = distance as f64 / sigma;
        libm::exp(-0.5 * offset * offset)
    };
    let weights: Vec<f64> = (0..=radius).map(weight).collect();
    let total = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
    weights.iter().map(|weight| (weight / total) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_flat_image_stays_flat() {
        let image = RgbImage::from_pixel(9, 7, Rgb([255, 0, 131]));
        assert_eq!(gaussian_blur(&image, 3.0).unwrap(), image);
    }

    #[test]
    fn a_point_becomes_a_gaussian() {
        let mut image = RgbImage::new(41, 41);
        image.put_pixel(20, 20, Rgb([255, 255, 255]));
        let blurred = gaussian_blur(&image, 1.0).unwrap();
        let density = |dx: f64, dy: f64| 255.0 / std::f64::consts::TAU * (-(dx * dx + dy * dy) / 2.0).exp();
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (2, 1), (3, 3)] {
            let found = f64::from(blurred.get_pixel(20 + dx, 20 + dy)[0]);
            let expected = density(f64::from(dx), f64::from(dy));
            assert!((found - expected).abs() <= 1.0, "({dx}, {dy}): {found} is not near {expected}");
        }
    }

    #[test]
    fn channels_do_not_mix() {
        let image = RgbImage::from_fn(16, 16, |x, y| Rgb([(x * 16) as u8, 0, (y * 16) as u8]));
        let blurred = gaussian_blur(&image, 2.0).unwrap();
        assert!(blurred.pixels().all(|pixel| pixel[1] == 0));
        assert!(blurred.get_pixel(12, 8)[0] > blurred.get_pixel(4, 8)[0]);
        assert_eq!(blurred.get_pixel(3, 8)[2], blurred.get_pixel(12, 8)[2]);
    }

    #[test]
    fn small_and_empty_images() {
        for (width, height) in [(1, 1), (1, 5), (5, 1), (0, 0), (0, 4), (4, 0)] {
            let image = RgbImage::from_pixel(width, height, Rgb([9, 9, 9]));
            assert_eq!(gaussian_blur(&image, 50.0).unwrap(), image);
        }
    }

    #[test]
    fn sigma_out_of_range_is_an_error() {
        let image = RgbImage::new(2, 2);
        for sigma in [-1e-9, -1.0, f32::NAN, f32::INFINITY, 1025.0] {
            let error = gaussian_blur(&image, sigma).unwrap_err();
            assert!(matches!(error, DistortError::InvalidValue { .. }), "{sigma}: {error}");
        }
    }
}
