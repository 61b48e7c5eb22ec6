//! Refuses the images of a prompt to a model that takes none.

use image::RgbImage;

use crate::input::{ImageInput, ImageLayout};
use crate::processor::{Preprocess, ProcessorError};

/// The image preprocessor of a language model without images.
#[derive(Debug)]
pub(super) struct NoImages;

impl Preprocess for NoImages {
    fn process(&self, _: &RgbImage) -> Result<ImageInput, ProcessorError> {
        Err(ProcessorError::NoImages)
    }

    fn layout(&self, _: u32, _: u32) -> Result<ImageLayout, ProcessorError> {
        Err(ProcessorError::NoImages)
    }
}
