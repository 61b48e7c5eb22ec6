//! What the model sees of a weakened image.

use bpo_distort::{DistortError, Distortion};
use image::RgbImage;

use crate::error::ModelError;
use crate::processor::{ImageProcessor, PixelValues};

/// Prepares an image with a distortion: what works on images comes before the image processor, noise on normalized pixels after
/// it, as the authors have it.
///
/// # Errors
/// If the image cannot be distorted or processed; [`DistortError::NeedsModel`] and [`DistortError::NeedsOther`] for
/// distortions of features and with another image, which models are not asked with yet.
pub fn weakened_pixels(
    processor: &ImageProcessor,
    image: &RgbImage,
    distortion: &Distortion,
    seed: u64,
) -> Result<PixelValues, ModelError> {
    let mut families = distortion.stages().filter_map(Distortion::family);
    if let Some(family) = families.find(|family| family.needs_model()) {
        return Err(DistortError::NeedsModel { family: family.name() }.into());
    }
    let mut pixels = processor.process(&*distortion.on_image(image, seed)?)?;
    distortion.on_pixels(&mut pixels.data, seed)?;
    Ok(pixels)
}
