//! What the model reads: token ids, and what it sees of an image.

use bpo_distort::features::{FeatureStage, add_noise, hidden_tokens};
use bpo_distort::{DistortError, Distortion, Input, StageSeed};
#[cfg(feature = "dpo")]
use image::RgbImage;

use crate::error::ModelError;
use crate::processor::{ImageProcessor, PixelValues};

/// A tokenized prompt with what the model sees of its image.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelInput {
    /// Ids, one image token for each image feature; none without an image.
    pub ids: Vec<u32>,
    /// What the model sees.
    pub view: ImageInput,
}

/// What the model sees of an image.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ImageInput {
    /// Normalized pixels; `None` where there is no image.
    pub pixels: Option<PixelValues>,
    /// Gaussian noise on the vision features, before the projector: standard deviations in those of the features.
    pub noise: Vec<(f32, StageSeed)>,
    /// Image features that no token attends to, counted from 0. Positions stay as they are.
    pub hidden: Vec<usize>,
}

impl ModelInput {
    /// A prompt with a view of its image; without an image, [`ImageInput::default`].
    pub fn new(ids: Vec<u32>, view: ImageInput) -> Self {
        Self { ids, view }
    }

    /// Places in the prompt that no token attends to.
    pub(crate) fn hidden_places(&self, image_token: u32) -> Vec<usize> {
        let images = self.ids.iter().enumerate().filter(|(_, id)| **id == image_token);
        let places: Vec<usize> = images.map(|(place, _)| place).collect();
        self.view.hidden.iter().filter_map(|&feature| places.get(feature).copied()).collect()
    }
}

impl ImageInput {
    /// An image that is not weakened.
    pub fn of(pixels: PixelValues) -> Self {
        Self { pixels: Some(pixels), ..Self::default() }
    }

    /// Prepares an image with a distortion: what works on images comes before the image processor, noise on normalized pixels
    /// after it, as the authors have it, and what works on features is left to the model. `image_tokens` is the number of
    /// features of an image.
    ///
    /// # Errors
    /// If the image cannot be distorted or processed; [`DistortError::NeedsOther`] if another image is needed and is not there.
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
                FeatureStage::MaskTokens { share } => hidden.extend(hidden_tokens(image_tokens, share, seed)),
                FeatureStage::NoImage => return Ok(Self::default()),
                // a stage of a later version
                _ => return Err(DistortError::NeedsModel { family: "feature stage" }.into()),
            }
        }
        hidden.sort_unstable();
        hidden.dedup();
        Ok(Self { pixels: Some(pixels(processor, image, distortion, seed)?), noise, hidden })
    }

    /// Adds the noise to the features of the image. `[tokens, width]`, contiguous.
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
/// [`DistortError::NeedsModel`] for a distortion of features, [`DistortError::NeedsOther`] for one that takes another image.
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
