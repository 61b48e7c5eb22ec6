//! The image preprocessor: an image is split into square tiles, and a smaller copy of the whole image
//! follows them.
//!
//! It gives the results of transformers' `image_processing_pil_idefics3.py` and of the placeholders
//! in `processing_idefics3.py`. SmolVLM's files are copies of both. All tiles have one size, so
//! nothing is padded. With `do_image_splitting` off, every image becomes one square tile, whatever
//! its shape.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bpo_distort::resize::{Filter, resize};
use image::RgbImage;

use super::settings::Settings;
use super::splits::{Grid, Size, Target, grid, tiled};
use crate::families::smolvlm::SmolVlmConfig;
use crate::input::{ImageInput, ImageLayout};
use crate::processor::{Levels, Preprocess, ProcessorError, TextProcessor, check_pixels};

/// Splits images into tiles, and writes the placeholders of their tiles.
#[derive(Clone, Debug)]
pub(super) struct SmolVlmPreprocessor {
    /// The size of the first resize, unless it is off.
    target: Option<Target>,
    /// The size of the first resize of frames of videos.
    frame_target: Option<Target>,
    /// Side of a tile, in pixels.
    side: usize,
    splits: bool,
    resample: Filter,
    levels: Levels,
    placeholders: Arc<Placeholders>,
}

/// The sizes of an image on its way to tiles.
#[derive(Debug, PartialEq)]
struct Plan {
    /// After the first resize.
    first: Size,
    /// After the second resize, whose sides are multiples of the side of a tile.
    second: Size,
    /// The tiles, unless the image is a single one.
    grid: Option<Grid>,
}

impl SmolVlmPreprocessor {
    /// Reads the settings of a checkpoint directory.
    ///
    /// # Errors
    /// Those of [`Settings::from_dir`]; [`ProcessorError::NoToken`] if the tokenizer does not have
    /// the token around images.
    pub(super) fn from_dir(
        dir: &Path,
        config: &SmolVlmConfig,
        text: &TextProcessor,
    ) -> Result<Self, ProcessorError> {
        let settings = Settings::from_dir(dir, config)?;
        Ok(Self {
            target: settings.target,
            frame_target: settings.frame_target,
            side: settings.side,
            splits: settings.splits,
            resample: settings.resample,
            levels: settings.levels,
            placeholders: Arc::new(Placeholders::new(dir, config, text, settings.tokens)?),
        })
    }

    fn plan(&self, width: u32, height: u32) -> Result<Plan, ProcessorError> {
        if width == 0 || height == 0 {
            return Err(ProcessorError::EmptyImage { width, height });
        }
        let from = Size { height: height as usize, width: width as usize };
        let first = self.target.map_or(from, |target| target.of(from));
        let second = if self.splits { tiled(first, self.side) } else { Size::square(self.side) };
        for size in [first, second] {
            check_pixels((size.height, size.width))?;
        }
        Ok(Plan { first, second, grid: grid(second, self.side) })
    }

    fn resized<'a>(&self, image: &'a RgbImage, to: Size) -> Cow<'a, RgbImage> {
        if (image.height() as usize, image.width() as usize) == (to.height, to.width) {
            return Cow::Borrowed(image);
        }
        // `check_pixels` bounds both sides
        Cow::Owned(resize(image, to.width as u32, to.height as u32, self.resample))
    }
}

impl Preprocess for SmolVlmPreprocessor {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        let plan = self.plan(image.width(), image.height())?;
        // each resize rounds to levels
        let first = self.resized(image, plan.first);
        let second = self.resized(&first, plan.second);
        let side = self.side;
        let mut tiles = Vec::with_capacity(tiles(plan.grid));
        if let Some(Grid { rows, columns }) = plan.grid {
            for row in 0..rows {
                for column in 0..columns {
                    let (y, x) = (row * side, column * side);
                    tiles.push(self.levels.pixels(&second, y..y + side, x..x + side));
                }
            }
        }
        let whole = self.resized(&second, Size::square(side));
        tiles.push(self.levels.pixels(&whole, 0..side, 0..side));
        Ok(ImageInput::new(tiles, self.placeholders.layout(plan.grid)?))
    }

    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError> {
        self.placeholders.layout(self.plan(width, height)?.grid)
    }

    /// A frame becomes one square: `SmolVLMVideoProcessor` in transformers.
    fn of_frames(&self) -> Option<Arc<dyn Preprocess>> {
        Some(Arc::new(Self { target: self.frame_target, splits: false, ..self.clone() }))
    }
}

/// Number of tiles, that of the whole image included.
fn tiles(grid: Option<Grid>) -> usize {
    1 + grid.map_or(0, Grid::tiles)
}

/// The placeholders of images, by their tiles.
#[derive(Debug)]
struct Placeholders {
    text: TextProcessor,
    /// The token around images, `<fake_token_around_image>`.
    around: String,
    /// What marks the copy of the whole image, `<global-img>`. It is a token of some tokenizers, and
    /// plain text for others.
    whole: String,
    /// The image tokens of a tile.
    tokens: String,
    image: u32,
    known: Mutex<HashMap<Option<Grid>, ImageLayout>>,
}

impl Placeholders {
    fn new(
        dir: &Path,
        config: &SmolVlmConfig,
        text: &TextProcessor,
        tokens: usize,
    ) -> Result<Self, ProcessorError> {
        let (special, image) = (text.special(), text.image_token()?);
        let named = |name: &str, default: &str| {
            let named = special.named(name).filter(|_| config.names_tokens());
            named.unwrap_or(default).to_owned()
        };
        let around = named("fake_image_token", "<fake_token_around_image>");
        if text.token_id(&around).is_none() {
            let hint = format!("tokenizer.json has no {around}, which stands around images");
            return Err(ProcessorError::NoToken { dir: dir.to_owned(), token: "image", hint });
        }
        Ok(Self {
            around,
            whole: named("global_image_token", "<global-img>"),
            tokens: image.text.repeat(tokens),
            image: image.id,
            text: text.clone(),
            known: Mutex::default(),
        })
    }

    /// The layout of an image with the given tiles.
    fn layout(&self, grid: Option<Grid>) -> Result<ImageLayout, ProcessorError> {
        // a panic leaves nothing half-written in the map
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = known.get(&grid) {
            return Ok(layout.clone());
        }
        let ids = self.text.encode_plain(&self.written(grid))?;
        let layout = ImageLayout::with_placeholder(self.image, ids, tiles(grid));
        known.insert(grid, layout.clone());
        Ok(layout)
    }

    /// The placeholder as a text: `replace_image_token`.
    fn written(&self, grid: Option<Grid>) -> String {
        let Self { around, whole, tokens, .. } = self;
        let mut written = String::new();
        if let Some(Grid { rows, columns }) = grid {
            for row in 1..=rows {
                for column in 1..=columns {
                    // writing to a string does not fail
                    let _ = write!(written, "{around}<row_{row}_col_{column}>{tokens}");
                }
                written.push('\n');
            }
            written.push('\n');
        }
        written + around + whole + tokens + around
    }
}

#[cfg(test)]
#[path = "preprocess_tests.rs"]
mod tests;
