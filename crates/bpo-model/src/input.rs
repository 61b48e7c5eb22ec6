//! Inputs of the model: token ids and an image, weakened or not.

use bpo_distort::features::{FeatureStage, add_noise, masked_tokens};
use bpo_distort::{DistortError, Distortion, Input, StageSeed};
#[cfg(feature = "dpo")]
use image::RgbImage;

use crate::error::ModelError;
use crate::processor::{ImageProcessor, PixelValues};

/// A tokenized prompt and its image.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelInput {
    /// Token ids, with one image token for each image feature. No image tokens without an image.
    pub ids: Vec<u32>,
    /// The image.
    pub image: ImageInput,
}

/// The image of a prompt, with what is done to its features.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ImageInput {
    /// Normalized pixels. `None` without an image.
    pub pixels: Option<PixelValues>,
    /// Gaussian noise on the vision features, before the projector: standard deviations, relative
    /// to the standard deviation of the features, and seeds.
    pub noise: Vec<(f32, StageSeed)>,
    /// Indices of image features that no token attends to, from 0. The positions of the other
    /// tokens stay as they are.
    pub hidden: Vec<usize>,
}

impl ModelInput {
    /// Creates an input. Without an image, `image` is [`ImageInput::default`].
    pub fn new(ids: Vec<u32>, image: ImageInput) -> Self {
        Self { ids, image }
    }

    /// Positions in the prompt that no token attends to.
    pub(crate) fn hidden_places(&self, image_token: u32) -> Vec<usize> {
        let images = self.ids.iter().enumerate().filter(|(_, id)| **id == image_token);
        let places: Vec<usize> = images.map(|(place, _)| place).collect();
        self.image.hidden.iter().filter_map(|&feature| places.get(feature).copied()).collect()
    }
}

impl ImageInput {
    /// Creates the input of an image that is not weakened.
    pub fn of(pixels: PixelValues) -> Self {
        Self { pixels: Some(pixels), ..Self::default() }
    }

    /// Prepares an image and applies a distortion. Distortions of images are applied before the
    /// image processor, noise on normalized pixels after it (as in the authors' code), and
    /// distortions of features are left to the model. `image_tokens` is the number of features of
    /// an image.
    ///
    /// # Errors
    /// If the image cannot be distorted or processed; [`DistortError::NeedsOther`] if the
    /// distortion needs another image and there is none.
    pub fn weakened(
        processor: &ImageProcessor,
        image: Input<'_>,
        distortion: &Distortion,
        seed: u64,
        image_tokens: usize,
    ) -> Result<Self, ModelError> {
        let (mut noise, mut hidden) = (Vec::new(), Vec::new());
        for (stage, seed) in distortion.feature_stages(seed)? {
            match stage {
                FeatureStage::Noise { sigma } => noise.push((sigma, seed)),
                FeatureStage::MaskTokens { share } => hidden.extend(masked_tokens(image_tokens, share, seed)),
                FeatureStage::NoImage => return Ok(Self::default()),
                // a stage that is not known here
                _ => return Err(DistortError::NeedsModel { family: "feature stage" }.into()),
            }
        }
        hidden.sort_unstable();
        hidden.dedup();
        Ok(Self { pixels: Some(pixels(processor, image, distortion, seed)?), noise, hidden })
    }

    /// Adds the noise to the features of the image, `[tokens, width]`, contiguous.
    pub(crate) fn add_noise(&self, features: &mut [f32]) {
        for (sigma, seed) in &self.noise {
            add_noise(features, *sigma, *seed);
        }
    }
}

fn pixels(
    processor: &ImageProcessor,
    image: Input<'_>,
    distortion: &Distortion,
    seed: u64,
) -> Result<PixelValues, ModelError> {
    let mut pixels = processor.process(&*distortion.on_image(image, seed)?)?;
    distortion.on_pixels(&mut pixels.data, seed)?;
    Ok(pixels)
}

/// The pixels of an image after a distortion that works on images and pixels only.
///
/// # Errors
/// Those of [`ImageInput::weakened`] and [`check_weakening`].
#[cfg(feature = "dpo")]
pub(crate) fn weakened_pixels(
    processor: &ImageProcessor,
    image: &RgbImage,
    distortion: &Distortion,
    seed: u64,
) -> Result<PixelValues, ModelError> {
    check_weakening(distortion)?;
    pixels(processor, image.into(), distortion, seed)
}

/// Checks that a distortion works on a single image and its pixels only.
///
/// # Errors
/// [`DistortError::NeedsModel`] for a distortion of features, [`DistortError::NeedsOther`] for one
/// that takes another image.
#[cfg(feature = "dpo")]
pub(crate) fn check_weakening(distortion: &Distortion) -> Result<(), ModelError> {
    for family in distortion.stages().filter_map(Distortion::family) {
        if family.needs_model() {
            return Err(DistortError::NeedsModel { family: family.name() }.into());
        }
        if family.needs_other() {
            return Err(DistortError::NeedsOther { family: family.name() }.into());
        }
    }
    Ok(())
}
