//! LLaVA's image preprocessor: one square tile for each image.

use std::path::Path;

use image::RgbImage;

use super::config::LlavaConfig;
use crate::input::{ImageInput, ImageLayout};
use crate::processor::{ImageProcessor, Preprocess, ProcessorError, check_class};

/// The image processor of CLIP or SigLIP, and the tokens that every image has.
#[derive(Clone, Debug)]
pub(super) struct LlavaPreprocessor {
    image: ImageProcessor,
    layout: ImageLayout,
}

impl LlavaPreprocessor {
    /// Reads the image processor of a checkpoint directory.
    ///
    /// # Errors
    /// [`ProcessorError::Json`] for the image processor of another family; those of
    /// [`ImageProcessor::from_dir`].
    pub(super) fn from_dir(dir: &Path, config: &LlavaConfig) -> Result<Self, ProcessorError> {
        check_class(dir, &["CLIPImageProcessor", "LlavaImageProcessor", "SiglipImageProcessor"])?;
        Ok(Self { image: ImageProcessor::from_dir(dir)?, layout: config.layout() })
    }
}

impl Preprocess for LlavaPreprocessor {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        Ok(ImageInput::new(vec![self.image.process(image)?], self.layout.clone()))
    }

    fn layout(&self, _width: u32, _height: u32) -> Result<ImageLayout, ProcessorError> {
        Ok(self.layout.clone())
    }
}
