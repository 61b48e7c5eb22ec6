//! The settings of the image processor in a checkpoint's files, with the defaults of transformers'
//! `Idefics3ImageProcessorPil` and `Idefics3Processor`.

use std::path::Path;

use bpo_distort::resize::Filter;
use bpo_pairs::Limits;
use serde::Deserialize;
use serde_json::Value;

use super::config::SmolVlmConfig;
use super::splits::{Size, Target};
use crate::json::from_value;
use crate::processor::{
    ImageFile, Levels, ProcessorError, VideoSettings, check_class, check_pixels, check_std,
    check_tile_tokens, first_settings,
};

const LIMITS: Limits = Limits::DEFAULT;

/// transformers' default of `image_seq_len`.
const IMAGE_TOKENS: usize = 169;

/// Checked settings.
#[derive(Debug)]
pub(super) struct Settings {
    /// The size of the first resize, unless it is off.
    pub(super) target: Option<Target>,
    /// The size of the first resize of frames of videos.
    pub(super) frame_target: Option<Target>,
    /// Side of a tile, in pixels.
    pub(super) side: usize,
    /// Whether images are split.
    pub(super) splits: bool,
    /// The filter of every resize.
    pub(super) resample: Filter,
    /// The value of each byte.
    pub(super) levels: Levels,
    /// Image tokens of a tile.
    pub(super) tokens: usize,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Raw {
    size: SizeSetting,
    max_image_size: LongestEdge,
    resample: Filter,
    do_resize: bool,
    do_image_splitting: bool,
    do_rescale: bool,
    do_normalize: bool,
    rescale_factor: f64,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a number, {longest_edge} or {height, width}")]
enum SizeSetting {
    Square(usize),
    Longest(LongestEdge),
    Exact(Exact),
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongestEdge {
    longest_edge: usize,
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
            size: SizeSetting::Longest(LongestEdge { longest_edge: 4 * 364 }),
            max_image_size: LongestEdge { longest_edge: 364 },
            resample: Filter::Lanczos,
            do_resize: true,
            do_image_splitting: true,
            do_rescale: true,
            do_normalize: true,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
        }
    }
}

impl SizeSetting {
    fn target(self) -> Target {
        match self {
            Self::Longest(LongestEdge { longest_edge }) => Target::LongestEdge(longest_edge),
            Self::Square(side) => Target::Exact(Size::square(side)),
            Self::Exact(Exact { height, width }) => Target::Exact(Size { height, width }),
        }
    }
}

impl Raw {
    /// The keys whose values differ.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("size", self.size.target() != other.size.target()),
            ("max_image_size", self.max_image_size != other.max_image_size),
            ("resample", self.resample != other.resample),
            ("do_resize", self.do_resize != other.do_resize),
            ("do_image_splitting", self.do_image_splitting != other.do_image_splitting),
            ("do_rescale", self.do_rescale != other.do_rescale),
            ("do_normalize", self.do_normalize != other.do_normalize),
            ("rescale_factor", self.rescale_factor != other.rescale_factor),
            ("image_mean", self.image_mean != other.image_mean),
            ("image_std", self.image_std != other.image_std),
        ];
        keys.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key).collect()
    }
}

impl Settings {
    /// Reads the `image_processor` of `processor_config.json`, or `preprocessor_config.json` where
    /// there is none, and `image_seq_len` of `processor_config.json`. A warning says where both have
    /// an image processor and differ.
    ///
    /// Tiles need not have the side that `vision_config.image_size` says: the vision tower maps
    /// their patches to its positions.
    ///
    /// # Errors
    /// [`ProcessorError::NoImageProcessor`] if no file has an image processor;
    /// [`ProcessorError::Json`] for a value that cannot be used.
    pub(super) fn from_dir(dir: &Path, config: &SmolVlmConfig) -> Result<Self, ProcessorError> {
        check_class(dir, &["Idefics3ImageProcessor", "SmolVLMImageProcessor"])?;
        let read = |settings: Value, file: &ImageFile| from_value::<Raw>(&settings, &file.path, file.at);
        let (raw, file) = first_settings(dir, read, Raw::differences)?;
        let mut settings = Self::checked(dir, &raw, &file, config)?;
        settings.frame_target = match VideoSettings::longest_edge(dir)? {
            Some(edge) => Some(Target::LongestEdge(edge)),
            None => settings.target,
        };
        Ok(settings)
    }

    fn checked(
        dir: &Path,
        raw: &Raw,
        file: &ImageFile,
        config: &SmolVlmConfig,
    ) -> Result<Self, ProcessorError> {
        let target = raw.do_resize.then(|| raw.size.target());
        match target {
            Some(Target::LongestEdge(edge)) if !(1..=LIMITS.resized_pixels).contains(&edge) => {
                let expected = format!("from 1 to {}", LIMITS.resized_pixels);
                return Err(file.wrong("size.longest_edge", &expected, edge));
            }
            Some(Target::Exact(Size { height, width })) if height == 0 || width == 0 => {
                let found = format!("a height of {height} and a width of {width}");
                return Err(file.wrong("size", "at least one pixel", found));
            }
            Some(Target::Exact(Size { height, width })) => check_pixels((height, width))?,
            _ => {}
        }
        if raw.do_normalize {
            check_std(file, &raw.image_std)?;
        }
        let side = raw.max_image_size.longest_edge;
        let tokens = config.tile_tokens(side).filter(|_| side <= LIMITS.image_side);
        let Some(tokens) = tokens else {
            let unit = config.vision_config.patch_size.saturating_mul(config.scale_factor);
            let expected = format!(
                "the side of a tile in pixels: a multiple of {unit} (patch_size times scale_factor), with a remainder below \
                 patch_size, and at most {}",
                LIMITS.image_side
            );
            return Err(file.wrong("max_image_size.longest_edge", &expected, side));
        };
        check_tile_tokens(dir, "image_seq_len", IMAGE_TOKENS, tokens)?;
        Ok(Self {
            target,
            frame_target: target,
            side,
            splits: raw.do_image_splitting,
            resample: raw.resample,
            levels: Levels::new(
                raw.do_rescale.then_some(raw.rescale_factor),
                raw.do_normalize.then_some((raw.image_mean, raw.image_std)),
            ),
            tokens,
        })
    }
}
