//! From images to the input of the vision tower of any family.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use super::{ProcessorError, TextProcessor};
use crate::families::VlmConfig;
use crate::input::{ImageInput, ImageLayout};

/// Prepares images for the vision tower of a checkpoint, as its family does it. A clone is cheap.
#[derive(Clone, Debug)]
pub struct ImagePreprocessor(Arc<dyn Preprocess>);

/// The image preprocessor of a family.
pub(crate) trait Preprocess: Debug + Send + Sync {
    /// Prepares an image.
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError>;

    /// The layout of an image of a size, which is that of the prepared image.
    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError>;

    /// The preprocessor for the images of a prompt with several images, where it is another one.
    fn of_several(&self) -> Option<Arc<dyn Preprocess>> {
        None
    }

    /// The preprocessor for the frames of videos, where it is another one.
    fn of_frames(&self) -> Option<Arc<dyn Preprocess>> {
        None
    }
}

impl ImagePreprocessor {
    /// Reads the settings of a checkpoint directory, for the model of `config`. Placeholders of
    /// images have the tokens of `text`.
    ///
    /// # Errors
    /// Those of [`ImageProcessor::from_dir`](super::ImageProcessor::from_dir).
    pub fn from_dir(
        dir: impl AsRef<Path>,
        config: &VlmConfig,
        text: &TextProcessor,
    ) -> Result<Self, ProcessorError> {
        config.family().preprocessor(dir.as_ref(), text).map(Self)
    }

    /// The preprocessor for the images of a prompt with this many images. Some families prepare
    /// them in another way than a single image.
    #[must_use]
    pub fn of_prompt(&self, images: usize) -> Self {
        let several = if images > 1 { self.0.of_several() } else { None };
        several.map_or_else(|| self.clone(), Self)
    }

    /// The preprocessor for the frames of videos. Families that split images into tiles do not
    /// split frames.
    #[must_use]
    pub fn of_frames(&self) -> Self {
        self.0.of_frames().map_or_else(|| self.clone(), Self)
    }

    /// Prepares an image.
    ///
    /// # Errors
    /// [`ProcessorError::EmptyImage`], [`ProcessorError::ImageTooLarge`],
    /// [`ProcessorError::NoResolution`] or [`ProcessorError::ImageTooLong`].
    pub fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        self.0.process(image)
    }

    /// The layout of an image of a size in pixels, without its pixels. It equals that of the
    /// [prepared](Self::process) image.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    pub fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError> {
        self.0.layout(width, height)
    }
}
