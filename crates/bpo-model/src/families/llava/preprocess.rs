//! LLaVA's image preprocessor: one square tile for each image.

use std::path::Path;

use image::RgbImage;
use serde_json::Value;

use super::config::LlavaConfig;
use crate::input::{ImageInput, ImageLayout};
use crate::json::JsonError;
use crate::processor::{ImageProcessor, Preprocess, ProcessorError, image_settings};

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
        check_type(dir)?;
        Ok(Self { image: ImageProcessor::from_dir(dir)?, layout: config.layout() })
    }
}

/// Refuses image processors that would prepare images in another way.
fn check_type(dir: &Path) -> Result<(), ProcessorError> {
    const KEY: &str = "image_processor_type";
    const KNOWN: [&str; 3] = ["CLIPImageProcessor", "LlavaImageProcessor", "SiglipImageProcessor"];
    let Some((path, key, settings)) = image_settings(dir)?.into_iter().next() else { return Ok(()) };
    let Some(found) = settings.get(KEY).and_then(Value::as_str) else { return Ok(()) };
    // by the library that computes it
    let name = ["Fast", "Pil"].iter().find_map(|end| found.strip_suffix(end)).unwrap_or(found);
    if KNOWN.contains(&name) {
        return Ok(());
    }
    let key = if key.is_empty() { KEY.to_owned() } else { format!("{key}.{KEY}") };
    Err(JsonError::Value { path, key, expected: KNOWN.join(", "), found: found.to_owned() }.into())
}

impl Preprocess for LlavaPreprocessor {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        Ok(ImageInput::new(vec![self.image.process(image)?], self.layout.clone()))
    }

    fn layout(&self, _width: u32, _height: u32) -> Result<ImageLayout, ProcessorError> {
        Ok(self.layout.clone())
    }
}
