//! The image preprocessor of LLaVA-NeXT and LLaVA-OneVision: the whole image, and its tiles.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use serde_json::Value;

use super::config::LlavaNextConfig;
use super::kind::PINPOINTS;
use crate::input::{ImageInput, ImageLayout};
use crate::json::{from_value, shown};
use crate::processor::{
    Aspect, ImageProcessor, Preprocess, ProcessorError, TileGrid, Tiling, check_class, image_settings,
};

/// The image processor, and how images are split.
#[derive(Clone, Debug)]
pub(super) struct LlavaNextPreprocessor {
    image: ImageProcessor,
    tiling: Tiling,
    image_token: u32,
    /// Whether images of a prompt with several images are not split.
    splits_only_one: bool,
}

/// The image preprocessor for images that are not split. Images of a prompt with several images are
/// padded to a square with the mean colour: `preprocess` of `LlavaOnevisionImageProcessorPil` in
/// transformers. Frames of videos are not padded: `LlavaOnevisionVideoProcessor`, and
/// `LlavaNextVideoVideoProcessor`, which crops them.
#[derive(Clone, Debug)]
struct WholeImages {
    image: ImageProcessor,
    layout: ImageLayout,
}

impl LlavaNextPreprocessor {
    /// Reads the image processor of a checkpoint directory.
    ///
    /// # Errors
    /// Those of [`ImageProcessor::from_dir`]; [`ProcessorError::Json`] for the image processor of
    /// another family, and if it splits images in another way than the model.
    pub(super) fn from_dir(dir: &Path, config: &LlavaNextConfig) -> Result<Self, ProcessorError> {
        let class = config.kind.image_processor();
        check_class(dir, &[class])?;
        let image = ImageProcessor::of_class(dir, class)?;
        check_resolutions(dir, config)?;
        let (tiling, image_token) = (config.tiling(), config.llava.image_token());
        Ok(Self { image, tiling, image_token, splits_only_one: config.kind.splits_only_one() })
    }
}

impl LlavaNextPreprocessor {
    /// The preprocessor that does not split images.
    fn whole(&self, aspect: Aspect) -> Arc<dyn Preprocess> {
        let layout = ImageLayout::of_tiles(self.image_token, TileGrid::whole(self.tiling.patches));
        Arc::new(WholeImages { image: self.image.clone().with_aspect(aspect), layout })
    }
}

/// Checks that the image processor has the resolutions of the model, because the model computes the
/// place of each tile from its own.
fn check_resolutions(dir: &Path, config: &LlavaNextConfig) -> Result<(), ProcessorError> {
    let Some((file, settings)) = image_settings(dir)?.into_iter().next() else { return Ok(()) };
    let found: Vec<[usize; 2]> = match settings.get(PINPOINTS) {
        Some(value) => from_value(value, &file.path, &file.key(PINPOINTS))?,
        None => config.kind.resolutions(),
    };
    if found == config.image_grid_pinpoints {
        return Ok(());
    }
    let list = |resolutions: &[[usize; 2]]| shown(&Value::from_iter(resolutions.iter().map(|r| r.to_vec())));
    let expected = format!("the resolutions in config.json, {}", list(&config.image_grid_pinpoints));
    Err(file.wrong(PINPOINTS, &expected, list(&found)))
}

impl Preprocess for LlavaNextPreprocessor {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        let grid = self.tiling.grid(image.width(), image.height())?;
        let tiles = self.image.process_tiles(image, &grid, self.tiling.side)?;
        Ok(ImageInput::new(tiles, ImageLayout::of_tiles(self.image_token, grid)))
    }

    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError> {
        Ok(ImageLayout::of_tiles(self.image_token, self.tiling.grid(width, height)?))
    }

    fn of_several(&self) -> Option<Arc<dyn Preprocess>> {
        self.splits_only_one.then(|| self.whole(Aspect::PadToSquare))
    }

    fn of_frames(&self) -> Option<Arc<dyn Preprocess>> {
        Some(self.whole(Aspect::ShortestEdgeCrop))
    }
}

impl Preprocess for WholeImages {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        Ok(ImageInput::new(vec![self.image.process(image)?], self.layout.clone()))
    }

    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError> {
        if width == 0 || height == 0 {
            return Err(ProcessorError::EmptyImage { width, height });
        }
        Ok(self.layout.clone())
    }
}
