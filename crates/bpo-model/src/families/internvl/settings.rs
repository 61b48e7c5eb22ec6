//! The settings of the image processor in a checkpoint's files, with the defaults of transformers'
//! `GotOcr2ImageProcessorPil` and `InternVLProcessor`.

use std::path::Path;

use bpo_distort::resize::Filter;
use bpo_pairs::Limits;
use serde::Deserialize;
use serde_json::Value;

use super::config::InternVlConfig;
use super::grid::Grids;
use crate::json::from_value;
use crate::processor::{
    ImageFile, Levels, ProcessorError, check_class, check_std, check_tile_tokens, first_settings,
};

/// transformers' default of `image_seq_length`.
const IMAGE_TOKENS: usize = 256;

/// Checked settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The grids that an image may be split into.
    pub(super) grids: Grids,
    /// Most tiles of an image, that of the whole image included.
    pub(super) max_tiles: usize,
    /// Side of a tile, in pixels.
    pub(super) side: usize,
    /// The filter of every resize.
    pub(super) resample: Filter,
    /// The value of each byte.
    pub(super) levels: Levels,
}

/// The keys that are read. `InternVLProcessor` splits images whatever `crop_to_patches` says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Raw {
    size: Size,
    resample: Filter,
    do_resize: bool,
    do_rescale: bool,
    do_normalize: bool,
    rescale_factor: f64,
    image_mean: [f64; 3],
    image_std: [f64; 3],
    min_patches: usize,
    max_patches: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a number or {height, width}")]
enum Size {
    Square(usize),
    Exact(Exact),
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    height: usize,
    width: usize,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            size: Size::Square(384),
            resample: Filter::Bicubic,
            do_resize: true,
            do_rescale: true,
            do_normalize: true,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.26862954, 0.26130258, 0.27577711],
            min_patches: 1,
            max_patches: 12,
        }
    }
}

impl Size {
    fn height_and_width(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side; 2],
            Self::Exact(Exact { height, width }) => [height, width],
        }
    }
}

impl Raw {
    /// The keys whose values differ.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("size", self.size.height_and_width() != other.size.height_and_width()),
            ("resample", self.resample != other.resample),
            ("do_resize", self.do_resize != other.do_resize),
            ("do_rescale", self.do_rescale != other.do_rescale),
            ("do_normalize", self.do_normalize != other.do_normalize),
            ("rescale_factor", self.rescale_factor != other.rescale_factor),
            ("image_mean", self.image_mean != other.image_mean),
            ("image_std", self.image_std != other.image_std),
            ("min_patches", self.min_patches != other.min_patches),
            ("max_patches", self.max_patches != other.max_patches),
        ];
        keys.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key).collect()
    }
}

impl Settings {
    /// Reads the `image_processor` of `processor_config.json`, or `preprocessor_config.json` where
    /// there is none, and `image_seq_length` of `processor_config.json`. A warning says where both
    /// have an image processor and differ.
    ///
    /// # Errors
    /// [`ProcessorError::NoImageProcessor`] if no file has an image processor;
    /// [`ProcessorError::Json`] for a value that cannot be used.
    pub(super) fn from_dir(dir: &Path, config: &InternVlConfig) -> Result<Self, ProcessorError> {
        check_class(dir, &["GotOcr2ImageProcessor"])?;
        let read = |settings: Value, file: &ImageFile| from_value::<Raw>(&settings, &file.path, file.at);
        let (raw, file) = first_settings(dir, read, Raw::differences)?;
        check_tile_tokens(dir, "image_seq_length", IMAGE_TOKENS, config.tile_tokens())?;
        Self::checked(&raw, &file, config)
    }

    fn checked(raw: &Raw, file: &ImageFile, config: &InternVlConfig) -> Result<Self, ProcessorError> {
        let [height, width] = raw.size.height_and_width();
        if [height, width] != config.vision_config.image_size {
            let [rows, columns] = config.vision_config.image_size;
            let expected = format!("the vision tower's height of {rows} and width of {columns}");
            return Err(file.wrong(
                "size",
                &expected,
                format!("a height of {height} and a width of {width}"),
            ));
        }
        // transformers resizes images that it splits in any case
        if !raw.do_resize && raw.max_patches <= 1 {
            return Err(file.wrong("do_resize", "true, because images are not split", raw.do_resize));
        }
        // each tile is an input of the vision tower, as an image is
        if raw.max_patches > Limits::DEFAULT.images {
            let expected = format!("at most {}", Limits::DEFAULT.images);
            return Err(file.wrong("max_patches", &expected, raw.max_patches));
        }
        if raw.do_normalize {
            check_std(file, &raw.image_std)?;
        }
        Ok(Self {
            grids: Grids::new(raw.min_patches, raw.max_patches, height),
            max_tiles: raw.max_patches + 1,
            side: height,
            resample: raw.resample,
            levels: Levels::new(
                raw.do_rescale.then_some(raw.rescale_factor),
                raw.do_normalize.then_some((raw.image_mean, raw.image_std)),
            ),
        })
    }
}
