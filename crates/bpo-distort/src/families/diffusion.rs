//! Diffusion noise: the schedule of VCD ([arXiv 2311.16922](https://arxiv.org/abs/2311.16922)),
//! used by BPO ([arXiv 2403.08730](https://arxiv.org/abs/2403.08730)) to weaken images.
//!
//! ```text
//! x_t    = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,    eps ~ N(0, 1)
//! abar_t = (1 - beta_0) (1 - beta_1) ... (1 - beta_t)
//! beta_i = sigmoid(-6 + 12 i / 999) (0.5e-2 - 1e-5) + 1e-5
//! ```
//!
//! The authors add the noise to pixels that the model's preprocessing has normalized:
//! [`noise_pixels`], or
//! [`replay_noise`] with given noise. [`noise_rgb`] adds it to RGB images.

use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// The number of steps of the schedule. A step is an index below this.
pub const STEPS: u16 = 1000;

/// The default step of the released BPO script.
pub const DEFAULT_STEP: u16 = 900;

const BETA_MIN: f64 = 1e-5;
const BETA_MAX: f64 = 0.5e-2;

/// `diffusion-noise:step=900`: the noise of VCD and BPO at a step of its schedule.
///
/// Step 0 adds noise of 0.6 levels; step 999 is almost pure noise. The severity levels are this
/// project's.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let grey = RgbImage::from_pixel(64, 64, Rgb([128; 3]));
/// let spread = |step: u16| -> Result<u64, bpo_distort::DistortError> {
///     let noised = Distortion::diffusion_noise(step)?.apply(&grey, 7)?;
///     Ok(noised.iter().map(|level| u64::from(level.abs_diff(128))).sum())
/// };
/// assert!(spread(100)? < spread(500)? && spread(500)? < spread(999)?);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiffusionNoise {
    /// The step, from 0 to 999.
    pub step: Amount<u16>,
}

const fn at(step: u16) -> Distortion {
    Distortion::DiffusionNoise(DiffusionNoise { step: Amount::Exactly(step) })
}

pub(super) static FAMILY: Family = Family {
    name: "diffusion-noise",
    about: "the noise of VCD and BPO, on RGB or on normalized pixels",
    parameters: &[Parameter::whole("step", 0, STEPS as i32 - 1)],
    part: Part::Pixels,
    needs_other: false,
    levels: Some([at(100), at(300), at(500), at(700), at(900)]),
    weakest: at(0),
    has_identity: false,
};

impl Stage for DiffusionNoise {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.step]
    }

    fn run(&self, input: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        noise_rgb(input.image, self.step.exact(), seed)
    }
}

/// The factors of image and noise at a step. Their squares sum to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// `sqrt(abar_t)`, the factor of the clean image.
    pub image: f64,
    /// `sqrt(1 - abar_t)`, the factor of the noise.
    pub noise: f64,
}

impl Coefficients {
    /// Adds given noise with these coefficients to normalized pixels in place, to reproduce another
    /// run exactly.
    ///
    /// Torch computes the schedule in single precision, so its coefficients differ by up to 1e-6
    /// from those of [`coefficients`].
    ///
    /// # Shapes
    ///
    /// - pixels, noise: `[channels, height, width]`, contiguous and in the same order
    ///
    /// # Errors
    ///
    /// Returns [`DistortError::NoiseLength`] if the slices differ in length. Then the pixels are
    /// unchanged.
    pub fn replay(self, pixels: &mut [f32], noise: &[f32]) -> Result<(), DistortError> {
        if pixels.len() != noise.len() {
            return Err(DistortError::NoiseLength { expected: pixels.len(), found: noise.len() });
        }
        let mix = Mix::from(self);
        for (pixel, &noise) in pixels.iter_mut().zip(noise) {
            *pixel = mix.blend(*pixel, noise);
        }
        Ok(())
    }
}

/// The coefficients of the schedule at a step from 0 (almost clean) to 999 (almost pure noise).
///
/// # Errors
///
/// Returns [`DistortError::InvalidValue`] if `step` is not below [`STEPS`].
pub fn coefficients(step: u16) -> Result<Coefficients, DistortError> {
    Distortion::diffusion_noise(step)?;
    let abar: f64 = (0..=step).map(|i| 1.0 - beta(i)).product();
    Ok(Coefficients { image: abar.sqrt(), noise: (1.0 - abar).sqrt() })
}

/// Adds noise to normalized pixels in place, with standard-normal deviates drawn from `seed` in the
/// order of the slice.
///
/// # Shapes
///
/// - pixels: `[channels, height, width]`, contiguous; one image
///
/// # Errors
///
/// Returns [`DistortError::InvalidValue`] if `step` is not below [`STEPS`].
pub fn noise_pixels(pixels: &mut [f32], step: u16, seed: StageSeed) -> Result<(), DistortError> {
    let mix = Mix::from(coefficients(step)?);
    seed.normals().for_each_value(pixels, |pixel, noise| *pixel = mix.blend(*pixel, noise as f32));
    Ok(())
}

/// Adds given noise to normalized pixels in place, to reproduce another run.
///
/// [`Coefficients::replay`] also takes the coefficients of that run.
///
/// # Shapes
///
/// - pixels, noise: `[channels, height, width]`, contiguous and in the same order
///
/// # Errors
///
/// Returns [`DistortError::InvalidValue`] if `step` is not below [`STEPS`],
/// [`DistortError::NoiseLength`] if the slices differ in length. Then the pixels are unchanged.
pub fn replay_noise(pixels: &mut [f32], noise: &[f32], step: u16) -> Result<(), DistortError> {
    coefficients(step)?.replay(pixels, noise)
}

/// Adds noise to an RGB image: levels are scaled to `[-1, 1]`, noise is added, and the result is
/// clamped and rounded.
///
/// The result is similar to [`noise_pixels`] but not equal: the clamp weakens noise in the
/// brightest and darkest regions, and a model's normalization has another range.
///
/// # Errors
///
/// Returns [`DistortError::InvalidValue`] if `step` is not below [`STEPS`].
pub fn noise_rgb(image: &RgbImage, step: u16, seed: StageSeed) -> Result<RgbImage, DistortError> {
    let Coefficients { image: keep, noise: add } = coefficients(step)?;
    let mut noised = image.clone();
    seed.normals().for_each_value(&mut noised, |level, noise| {
        let clean = f64::from(*level) / 127.5 - 1.0;
        let value = (keep * clean + add * noise).clamp(-1.0, 1.0);
        *level = ((value + 1.0) * 127.5).round() as u8;
    });
    Ok(noised)
}

fn beta(index: u16) -> f64 {
    let position = -6.0 + 12.0 * f64::from(index) / f64::from(STEPS - 1);
    let sigmoid = 1.0 / (1.0 + libm::exp(-position));
    sigmoid * (BETA_MAX - BETA_MIN) + BETA_MIN
}

/// The coefficients in single precision, as torch multiplies by a scalar.
#[derive(Clone, Copy)]
struct Mix {
    image: f32,
    noise: f32,
}

impl From<Coefficients> for Mix {
    fn from(Coefficients { image, noise }: Coefficients) -> Self {
        Self { image: image as f32, noise: noise as f32 }
    }
}

impl Mix {
    fn blend(self, pixel: f32, noise: f32) -> f32 {
        self.image * pixel + self.noise * noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_blends_pixels_and_noise() {
        let Coefficients { image, noise } = coefficients(500).unwrap();
        let mut pixels = [1.0, 0.0, -2.0];
        replay_noise(&mut pixels, &[0.0, 1.0, 3.0], 500).unwrap();
        let expected = [image, noise, -2.0 * image + 3.0 * noise];
        for (found, expected) in pixels.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn replay_with_noise_of_another_length_is_an_error() {
        let mut pixels = [0.5; 6];
        let error = replay_noise(&mut pixels, &[1.0; 5], 500).unwrap_err();
        assert!(matches!(error, DistortError::NoiseLength { expected: 6, found: 5 }), "{error}");
        assert_eq!(pixels, [0.5; 6]);
    }

    #[test]
    fn steps_end_at_999() {
        assert!(coefficients(STEPS - 1).is_ok());
        let error = coefficients(STEPS).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("diffusion-noise: step=\"1000\" is invalid; expected an integer from 0 to 999")
        );
    }

    #[test]
    fn seeded_noise_has_the_variance_of_the_schedule() {
        let mut pixels = vec![0.0; 60_000];
        noise_pixels(&mut pixels, 900, StageSeed::new(3, 0)).unwrap();
        let variance = pixels.iter().map(|&p| f64::from(p).powi(2)).sum::<f64>() / pixels.len() as f64;
        let expected = coefficients(900).unwrap().noise.powi(2);
        assert!((variance - expected).abs() < 0.03, "{variance} is not near {expected}");
    }
}
