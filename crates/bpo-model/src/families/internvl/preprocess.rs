//! The image preprocessor: an image is split into square tiles, and a smaller copy of the whole image
//! follows several of them.
//!
//! It gives the results of transformers' `image_processing_pil_got_ocr2.py` with the placeholders of
//! `processing_internvl.py`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bpo_distort::resize::resize;
use image::RgbImage;

use super::config::InternVlConfig;
use super::grid::Grid;
use super::settings::Settings;
use crate::input::{ImageInput, ImageLayout};
use crate::processor::{Preprocess, ProcessorError, TextProcessor, check_pixels};

/// Splits images into tiles, and writes the placeholders of their tiles.
#[derive(Clone, Debug)]
pub(super) struct InternVlPreprocessor {
    settings: Settings,
    placeholders: Arc<Placeholders>,
}

impl InternVlPreprocessor {
    /// Reads the settings of a checkpoint directory.
    ///
    /// # Errors
    /// Those of [`Settings::from_dir`]; [`ProcessorError::NoToken`] if the tokenizer does not have
    /// the tokens around images.
    pub(super) fn from_dir(
        dir: &Path,
        config: &InternVlConfig,
        text: &TextProcessor,
    ) -> Result<Self, ProcessorError> {
        let settings = Settings::from_dir(dir, config)?;
        let placeholders = Placeholders::new(dir, config, text, settings.max_tiles)?;
        Ok(Self { settings, placeholders: Arc::new(placeholders) })
    }

    /// The grid of an image of a size in pixels.
    fn grid(&self, width: u32, height: u32) -> Result<Grid, ProcessorError> {
        if width == 0 || height == 0 {
            return Err(ProcessorError::EmptyImage { width, height });
        }
        let grid = self.settings.grids.nearest(width, height);
        check_pixels((grid.rows * self.settings.side, grid.columns * self.settings.side))?;
        Ok(grid)
    }
}

impl Preprocess for InternVlPreprocessor {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        let grid = self.grid(image.width(), image.height())?;
        let Settings { side, resample, levels, .. } = &self.settings;
        // `check_pixels` bounds both sides
        let resized = |rows: usize, columns: usize| {
            resize(image, (columns * side) as u32, (rows * side) as u32, *resample)
        };
        let mut tiles = Vec::with_capacity(grid.tiles());
        let canvas = resized(grid.rows, grid.columns);
        for row in 0..grid.rows {
            for column in 0..grid.columns {
                let (y, x) = (row * side, column * side);
                tiles.push(levels.pixels(&canvas, y..y + side, x..x + side));
            }
        }
        if tiles.len() < grid.tiles() {
            tiles.push(levels.pixels(&resized(1, 1), 0..*side, 0..*side));
        }
        Ok(ImageInput::new(tiles, self.placeholders.layout(grid.tiles())))
    }

    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError> {
        Ok(self.placeholders.layout(self.grid(width, height)?.tiles()))
    }

    /// A frame becomes one tile: `InternVLVideoProcessor` in transformers.
    fn of_frames(&self) -> Option<Arc<dyn Preprocess>> {
        let settings = Settings { grids: self.settings.grids.whole(), ..self.settings.clone() };
        Some(Arc::new(Self { settings, ..self.clone() }))
    }
}

/// The placeholders of images, by their number of tiles.
#[derive(Debug)]
struct Placeholders {
    /// Stands before the image tokens.
    start: u32,
    image: u32,
    /// Stands behind the image tokens.
    end: u32,
    /// Image tokens of a tile.
    tokens: usize,
    /// The layouts of images with this many tiles. They are made when they are asked for.
    known: Box<[OnceLock<ImageLayout>]>,
}

impl Placeholders {
    fn new(
        dir: &Path,
        config: &InternVlConfig,
        text: &TextProcessor,
        max_tiles: usize,
    ) -> Result<Self, ProcessorError> {
        let id = |name: &str, default: &str| {
            let token = text.special().named(name).unwrap_or(default);
            text.token_id(token).ok_or_else(|| {
                let hint = format!("tokenizer.json has no {token}, which stands around images");
                ProcessorError::NoToken { dir: dir.to_owned(), token: "image", hint }
            })
        };
        Ok(Self {
            start: id("start_image_token", "<img>")?,
            image: text.image_token()?.id,
            end: id("end_image_token", "</img>")?,
            tokens: config.tile_tokens(),
            known: std::iter::repeat_with(OnceLock::new).take(max_tiles + 1).collect(),
        })
    }

    /// The layout of an image with at most `max_tiles` tiles: `replace_image_token`.
    fn layout(&self, tiles: usize) -> ImageLayout {
        let written = || {
            let mut ids = vec![self.image; tiles * self.tokens + 2];
            (ids[0], ids[tiles * self.tokens + 1]) = (self.start, self.end);
            ImageLayout::with_placeholder(self.image, ids, tiles)
        };
        self.known.get(tiles).map_or_else(written, |known| known.get_or_init(written).clone())
    }
}

#[cfg(test)]
#[path = "preprocess_tests.rs"]
mod tests;
