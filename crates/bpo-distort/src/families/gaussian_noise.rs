use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `gaussian-noise:sigma=0.2`: Gaussian noise on each level, with sigma relative to the range of
/// levels.
///
/// Computes `level + 255 sigma eps` with `eps ~ N(0, 1)`, rounded and clamped. Unlike diffusion
/// noise, it keeps the contrast of the image. The severity levels are those of ImageNet-C ([arXiv
/// 1903.12261](https://arxiv.org/abs/1903.12261)).
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let grey = RgbImage::from_pixel(100, 100, Rgb([128; 3]));
/// let noised = "gaussian-noise:sigma=0.1".parse::<Distortion>()?.apply(&grey, 7)?;
/// let squares = noised.iter().map(|&level| (f64::from(level) - 128.0).powi(2));
/// let variance = squares.sum::<f64>() / 30_000.0;
/// assert!((variance.sqrt() - 25.5).abs() < 0.5);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianNoise {
    /// Standard deviation, relative to the range from black to white; from 0 (no noise) to 10.
    pub sigma: Amount<f32>,
}

const fn at(sigma: f32) -> Distortion {
    Distortion::GaussianNoise(GaussianNoise { sigma: Amount::Exactly(sigma) })
}

pub(super) static FAMILY: Family = Family {
    name: "gaussian-noise",
    about: "Gaussian noise on RGB, sigma relative to the range of levels",
    parameters: &[Parameter::number("sigma", 0.0, 10.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.08), at(0.12), at(0.18), at(0.26), at(0.38)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for GaussianNoise {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.sigma]
    }

    fn run(&self, input: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        let scale = 255.0 * f64::from(self.sigma.exact());
        let mut noised = input.image.clone();
        seed.normals().for_each_value(&mut noised, |level, noise| {
            *level = (f64::from(*level) + scale * noise).round() as u8
        });
        Ok(noised)
    }
}
