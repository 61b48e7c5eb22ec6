//! What to do to an image, as data.

use std::borrow::Cow;

use image::RgbImage;

use crate::blur::{check_sigma, gaussian_blur};
use crate::diffusion::{check_step, noise_pixels, noise_rgb};
use crate::{DistortError, StageSeed};

/// A way to weaken an image.
///
/// It has a compact text form, read by [`FromStr`](std::str::FromStr), written by
/// [`Display`](std::fmt::Display) and used by serde: `family:parameter=value`, with several stages joined by
/// `+` in the order in which they are applied:
///
/// ```text
/// diffusion-noise:step=500
/// blur:sigma=4+diffusion-noise:step=900
/// ```
///
/// # Images and normalized pixels
///
/// The authors of BPO add diffusion noise to pixels that the model's preprocessing has normalized. A model
/// therefore applies a distortion in two parts: [`on_image`](Self::on_image) before its preprocessing,
/// [`on_pixels`](Self::on_pixels) after it. Diffusion noise at the end of a sequence belongs to the second
/// part and everything before it to the first, so noise that another kind of distortion follows runs on RGB,
/// at its place in the order. [`apply`](Self::apply) does all of it on RGB, for image files.
///
/// # Seeds
///
/// A stage draws from a stream given by the item's seed and the stage's index in the flattened sequence (see
/// [`StageSeed`]), so the parts agree with each other and stages are independent.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Distortion {
    /// Noise at a step of VCD's diffusion schedule, see [`diffusion`](crate::diffusion).
    DiffusionNoise {
        /// From 0, almost clean, to 999, almost pure noise.
        step: u16,
    },
    /// Gaussian blur, see [`blur`](crate::blur).
    Blur {
        /// Standard deviation in pixels, above 0.
        sigma: f32,
    },
    /// Several distortions, one after the other.
    Sequence(Vec<Distortion>),
}

impl Distortion {
    /// Diffusion noise at `step`.
    ///
    /// # Errors
    ///
    /// [`DistortError::StepOutOfRange`] if `step` is above 999.
    pub fn diffusion_noise(step: u16) -> Result<Self, DistortError> {
        check_step(step)?;
        Ok(Self::DiffusionNoise { step })
    }

    /// Gaussian blur with a standard deviation of `sigma` pixels.
    ///
    /// # Errors
    ///
    /// [`DistortError::SigmaOutOfRange`] unless `0 < sigma <=` [`MAX_SIGMA`](crate::blur::MAX_SIGMA).
    pub fn blur(sigma: f32) -> Result<Self, DistortError> {
        check_sigma(sigma)?;
        Ok(Self::Blur { sigma })
    }

    /// The stages one after the other, with nested sequences flattened; a single stage stays itself.
    ///
    /// # Errors
    ///
    /// [`DistortError::EmptySequence`] without stages, and what [`validate`](Self::validate) says of each.
    pub fn sequence(stages: impl IntoIterator<Item = Distortion>) -> Result<Self, DistortError> {
        let nested = Self::Sequence(stages.into_iter().collect());
        nested.validate()?;
        let mut stages: Vec<Self> = nested.stages().cloned().collect();
        Ok(if stages.len() == 1 { stages.remove(0) } else { Self::Sequence(stages) })
    }

    /// Checks every parameter; a value built by a constructor or read from text always passes.
    ///
    /// # Errors
    ///
    /// The first parameter out of range, or a sequence without stages.
    pub fn validate(&self) -> Result<(), DistortError> {
        match self {
            Self::DiffusionNoise { step } => check_step(*step),
            Self::Blur { sigma } => check_sigma(*sigma),
            Self::Sequence(stages) if stages.is_empty() => Err(DistortError::EmptySequence),
            Self::Sequence(stages) => stages.iter().try_for_each(Self::validate),
        }
    }

    /// Weakens an image; every stage runs on RGB.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) says.
    pub fn apply(&self, image: &RgbImage, seed: u64) -> Result<RgbImage, DistortError> {
        let count = self.stages().count();
        self.run_stages(image, count, seed).map(Cow::into_owned)
    }

    /// The part that comes before a model's preprocessing; borrows the image if there is none.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) says, also of the stages that `on_pixels` will run.
    pub fn on_image<'a>(&self, image: &'a RgbImage, seed: u64) -> Result<Cow<'a, RgbImage>, DistortError> {
        self.run_stages(image, self.first_pixel_stage(), seed)
    }

    /// The part that comes after a model's preprocessing: diffusion noise on normalized pixels, in place.
    /// Does nothing if there is none.
    ///
    /// # Shapes
    ///
    /// - pixels: `[channels, height, width]`, contiguous; one image, with the seed that `on_image` got
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) says.
    pub fn on_pixels(&self, pixels: &mut [f32], seed: u64) -> Result<(), DistortError> {
        self.validate()?;
        for (index, stage) in self.stages().enumerate().skip(self.first_pixel_stage()) {
            if let Self::DiffusionNoise { step } = stage {
                noise_pixels(pixels, *step, StageSeed::new(seed, index))?;
            }
        }
        Ok(())
    }

    /// The stages of the flattened sequence in order; a distortion that is no sequence is its own only stage.
    pub fn stages(&self) -> impl Iterator<Item = &Distortion> {
        // Depth first, with the next stage on top.
        let mut pending = vec![self];
        std::iter::from_fn(move || {
            loop {
                match pending.pop()? {
                    Self::Sequence(stages) => pending.extend(stages.iter().rev()),
                    stage => return Some(stage),
                }
            }
        })
    }

    /// Index where the diffusion noise that ends the sequence begins; the number of stages if none does.
    fn first_pixel_stage(&self) -> usize {
        let last_on_image = self.stages().enumerate().filter(|(_, stage)| !stage.runs_on_pixels()).last();
        last_on_image.map_or(0, |(index, _)| index + 1)
    }

    fn runs_on_pixels(&self) -> bool {
        matches!(self, Self::DiffusionNoise { .. })
    }

    fn run_stages<'a>(
        &self,
        image: &'a RgbImage,
        count: usize,
        seed: u64,
    ) -> Result<Cow<'a, RgbImage>, DistortError> {
        self.validate()?;
        let mut current = Cow::Borrowed(image);
        for (index, stage) in self.stages().take(count).enumerate() {
            current = Cow::Owned(stage.run(&current, StageSeed::new(seed, index))?);
        }
        Ok(current)
    }

    fn run(&self, image: &RgbImage, seed: StageSeed) -> Result<RgbImage, DistortError> {
        match self {
            Self::DiffusionNoise { step } => noise_rgb(image, *step, seed),
            Self::Blur { sigma } => gaussian_blur(image, *sigma),
            Self::Sequence(_) => unreachable!("stages() yields no sequences"),
        }
    }
}
