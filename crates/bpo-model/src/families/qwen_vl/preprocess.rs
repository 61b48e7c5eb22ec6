//! The image preprocessor of Qwen-VL: images keep their shape, and are resized to whole image tokens
//! between a smallest and a largest number of pixels.
//!
//! The results equal those of `Qwen2VLImageProcessorPil` of transformers 5.23
//! (`qwen2_vl/image_processing_pil_qwen2_vl.py`).

use std::path::Path;

use bpo_distort::resize::{Filter, resize};
use image::RgbImage;
use serde::Deserialize;
use serde_json::Value;

use super::config::QwenVlConfig;
use crate::input::{ImageInput, ImageLayout};
use crate::json::from_value;
use crate::processor::{
    ImageFile, Levels, Preprocess, ProcessorError, check_class, check_pixels, check_std, first_settings,
};
use crate::vision::TokenGrid;

/// Longest side of an image, in shorter sides.
const LONGEST: f64 = 200.0;

/// The settings of a checkpoint. Missing keys have the defaults of `Qwen2VLImageProcessor`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Settings {
    size: Option<Size>,
    min_pixels: Option<usize>,
    max_pixels: Option<usize>,
    patch_size: usize,
    temporal_patch_size: usize,
    merge_size: usize,
    resample: Filter,
    do_resize: bool,
    do_rescale: bool,
    do_normalize: bool,
    rescale_factor: f64,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

/// Numbers of pixels. The names are those of other processors' sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, expecting = "expected {shortest_edge, longest_edge}")]
struct Size {
    shortest_edge: Option<usize>,
    longest_edge: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: None,
            min_pixels: None,
            max_pixels: None,
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            resample: Filter::Bicubic,
            do_resize: true,
            do_rescale: true,
            do_normalize: true,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.26862954, 0.26130258, 0.27577711],
        }
    }
}

impl Settings {
    /// Fewest and most pixels. `min_pixels` and `max_pixels` count before those in `size`.
    fn pixels(&self) -> [Option<usize>; 2] {
        let default = Size { shortest_edge: Some(56 * 56), longest_edge: Some(28 * 28 * 1280) };
        let size = self.size.unwrap_or(default);
        [self.min_pixels.or(size.shortest_edge), self.max_pixels.or(size.longest_edge)]
    }

    /// The keys whose values differ.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("size", self.pixels() != other.pixels()),
            ("patch_size", self.patch_size != other.patch_size),
            ("temporal_patch_size", self.temporal_patch_size != other.temporal_patch_size),
            ("merge_size", self.merge_size != other.merge_size),
            ("resample", self.resample != other.resample),
            ("do_resize", self.do_resize != other.do_resize),
            ("do_rescale", self.do_rescale != other.do_rescale),
            ("do_normalize", self.do_normalize != other.do_normalize),
            ("rescale_factor", self.rescale_factor != other.rescale_factor),
            ("image_mean", self.image_mean != other.image_mean),
            ("image_std", self.image_std != other.image_std),
        ];
        keys.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key).collect()
    }
}

/// Prepares images for a Qwen-VL model.
#[derive(Clone, Debug)]
pub(super) struct QwenPreprocessor {
    image_token: u32,
    /// Side of an image token, in pixels.
    side: usize,
    /// Fewest and most pixels of a resized image.
    pixels: [usize; 2],
    resample: Filter,
    levels: Levels,
}

impl QwenPreprocessor {
    /// Reads the `image_processor` of `processor_config.json`, or `preprocessor_config.json` where
    /// there is none. A warning says where both exist and differ.
    ///
    /// # Errors
    /// [`ProcessorError::NoImageProcessor`] if neither is there; [`ProcessorError::Json`] if what is
    /// there cannot be used.
    pub(super) fn from_dir(dir: &Path, config: &QwenVlConfig) -> Result<Self, ProcessorError> {
        // Qwen3-VL's checkpoints name the class of Qwen2-VL
        check_class(dir, &["Qwen2VLImageProcessor"])?;
        let read = |settings: Value, file: &ImageFile| from_value::<Settings>(&settings, &file.path, file.at);
        let (settings, file) = first_settings(dir, read, Settings::differences)?;
        Self::new(&settings, config, &file)
    }

    fn new(settings: &Settings, config: &QwenVlConfig, file: &ImageFile) -> Result<Self, ProcessorError> {
        let vision = &config.vision_config;
        for (key, found, expected) in [
            ("patch_size", settings.patch_size, vision.patch_size),
            ("temporal_patch_size", settings.temporal_patch_size, vision.temporal_patch_size),
            ("merge_size", settings.merge_size, vision.spatial_merge_size),
        ] {
            if found != expected {
                return Err(file.wrong(key, &format!("{expected} as in config.json"), found));
            }
        }
        if !settings.do_resize {
            return Err(file.wrong("do_resize", "true", false));
        }
        let pixels = settings.pixels();
        let [Some(fewest @ 1..), Some(most @ 1..)] = pixels else {
            let found = Value::from(pixels.map(|pixels| pixels.map_or(Value::Null, Value::from)).to_vec());
            return Err(file.wrong("size", "shortest_edge and longest_edge above 0", found));
        };
        if settings.do_normalize {
            check_std(file, &settings.image_std)?;
        }
        Ok(Self {
            image_token: config.image_token_id,
            side: vision.patch_size * vision.spatial_merge_size,
            pixels: [fewest, most],
            resample: settings.resample,
            levels: Levels::new(
                settings.do_rescale.then_some(settings.rescale_factor),
                settings.do_normalize.then_some((settings.image_mean, settings.image_std)),
            ),
        })
    }

    /// The grid of an image of a size.
    fn grid(&self, width: u32, height: u32) -> Result<TokenGrid, ProcessorError> {
        if width == 0 || height == 0 {
            return Err(ProcessorError::EmptyImage { width, height });
        }
        let (long, short) = (width.max(height), width.min(height));
        if f64::from(long) / f64::from(short) > LONGEST {
            return Err(ProcessorError::ImageTooLong { width, height, limit: LONGEST as u32 });
        }
        let [rows, columns] = smart_resize([height, width], self.side, self.pixels);
        check_pixels((rows.saturating_mul(self.side), columns.saturating_mul(self.side)))?;
        Ok(TokenGrid::still(rows, columns))
    }
}

/// Computes the rows and columns of image tokens of a side for an image of a height and a width:
/// `smart_resize` in transformers.
fn smart_resize(size: [u32; 2], side: usize, [fewest, most]: [usize; 2]) -> [usize; 2] {
    let (side, size) = (side as f64, size.map(f64::from));
    let (fewest, most) = (fewest as f64, most as f64);
    let [height, width] = size;
    let rounded = size.map(|len| (len / side).round_ties_even());
    let pixels = rounded[0] * side * rounded[1] * side;
    let tokens = if pixels > most {
        let shrink = (height * width / most).sqrt();
        size.map(|len| (len / shrink / side).floor().max(1.0))
    } else if pixels < fewest {
        let grow = (fewest / (height * width)).sqrt();
        size.map(|len| (len * grow / side).ceil())
    } else {
        rounded
    };
    tokens.map(|tokens| tokens as usize)
}

impl Preprocess for QwenPreprocessor {
    fn process(&self, image: &RgbImage) -> Result<ImageInput, ProcessorError> {
        let grid = self.grid(image.width(), image.height())?;
        let (height, width) = (grid.rows * self.side, grid.columns * self.side);
        // both are bounded by the number of pixels
        let resized = resize(image, width as u32, height as u32, self.resample);
        let tile = self.levels.pixels(&resized, 0..height, 0..width);
        Ok(ImageInput::new(vec![tile], ImageLayout::of_grid(self.image_token, grid)))
    }

    fn layout(&self, width: u32, height: u32) -> Result<ImageLayout, ProcessorError> {
        Ok(ImageLayout::of_grid(self.image_token, self.grid(width, height)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of `smart_resize` in transformers 5.23, in image tokens.
    #[test]
    fn sizes_are_those_of_transformers() {
        for (size, side, pixels, expected) in [
            ([480, 640], 28, [3136, 1_003_520], [17, 23]),
            ([640, 480], 28, [3136, 50_176], [9, 6]),
            // half of a token is rounded to even
            ([42, 70], 28, [3136, 1_003_520], [2, 2]),
            ([98, 98], 28, [3136, 1_003_520], [4, 4]),
            ([126, 126], 28, [784, 1_003_520], [4, 4]),
            ([14, 42], 28, [3136, 1_003_520], [2, 4]),
            ([1, 1], 28, [3136, 1_003_520], [2, 2]),
            ([3000, 4000], 28, [3136, 1_003_520], [30, 41]),
            ([10, 2000], 28, [3136, 50_176], [1, 29]),
            ([5000, 30], 28, [3136, 3136], [25, 1]),
            ([300, 500], 32, [4096, 65_536], [6, 10]),
            ([200, 16], 32, [4096, 65_536], [8, 1]),
        ] {
            assert_eq!(smart_resize(size, side, pixels), expected, "{size:?}");
        }
    }

    proptest! {
        /// No image and no settings lead to a panic, and the layout is that of the prepared image.
        #[test]
        fn any_image_has_its_layout(
            width in 0u32..90, height in 0u32..90, side in 1usize..40, fewest in 1usize..9000, most in 1usize..9000,
        ) {
            let preprocessor = QwenPreprocessor {
                image_token: 7,
                side,
                pixels: [fewest, most],
                resample: Filter::Bicubic,
                levels: Levels::new(None, None),
            };
            let (layout, input) = (preprocessor.layout(width, height), preprocessor.process(&RgbImage::new(width, height)));
            match (layout, input) {
                (Ok(layout), Ok(input)) => {
                    let grid = layout.grid().unwrap();
                    prop_assert_eq!(&input.layout, &layout);
                    prop_assert!(grid.tokens() > 0);
                    prop_assert_eq!(
                        (input.tiles[0].height, input.tiles[0].width),
                        (grid.rows * side, grid.columns * side)
                    );
                }
                (Err(_), Err(_)) => prop_assert!(width == 0 || height == 0),
                _ => prop_assert!(false),
            }
        }
    }
}
