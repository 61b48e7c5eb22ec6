//! `config.json` of a checkpoint whose images are split into tiles, with the defaults of
//! transformers.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::kind::Kind;
use super::model::LlavaNextProjector;
use super::preprocess::LlavaNextPreprocessor;
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::families::check::{check_placeholder, check_tiles};
use crate::families::llava::LlavaConfig;
use crate::families::{Family, FamilySpec, Projector};
use crate::input::ImageInput;
use crate::json::{from_value, read_json};
use crate::processor::{Preprocess, ProcessorError, TextProcessor, Tiling};
use crate::vision::{TowerSizes, VisionTower};

/// The configuration of LLaVA-NeXT or LLaVA-OneVision. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LlavaNextConfig {
    /// What the model has in common with LLaVA-1.5.
    pub llava: LlavaConfig,
    /// Resolutions that an image may be resized to, `[height, width]` in pixels. Both are multiples
    /// of the side of the vision tower's images.
    pub image_grid_pinpoints: Vec<[usize; 2]>,
    /// The number in `vision_aspect_ratio`, which is `anyres_max_9` for 9: features of more tiles
    /// are resized to about the features of this many. `None` for LLaVA-NeXT.
    pub max_tiles: Option<usize>,
    pub(super) kind: Kind,
}

/// Keys that LLaVA-1.5 does not have.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Keys {
    image_grid_pinpoints: Vec<[usize; 2]>,
    vision_aspect_ratio: Option<String>,
}

impl LlavaNextConfig {
    /// Reads a `config.json` of a family and checks that the model is supported.
    pub(crate) fn read(path: &Path, kind: Kind) -> Result<Self, ModelError> {
        let mut json: Map<String, Value> = read_json(path)?;
        kind.add_defaults(&mut json);
        let json = json.into();
        let llava: LlavaConfig = from_value(&json, path, "")?;
        llava.check(path)?;
        let keys: Keys = from_value(&json, path, "")?;
        let max_tiles = kind.max_tiles(keys.vision_aspect_ratio.as_deref(), path)?;
        let config = Self { llava, image_grid_pinpoints: keys.image_grid_pinpoints, max_tiles, kind };
        config.check(path)?;
        Ok(config)
    }

    /// How images are split.
    pub(super) fn tiling(&self) -> Tiling {
        let vision = &self.llava.vision_config;
        Tiling {
            resolutions: self.image_grid_pinpoints.clone(),
            side: vision.image_size,
            patches: vision.image_size / vision.patch_size,
            max_tiles: self.max_tiles,
        }
    }
}

impl Family for LlavaNextConfig {
    fn spec(&self) -> &'static FamilySpec {
        self.kind.spec()
    }

    fn decoder(&self) -> &DecoderConfig {
        self.llava.decoder()
    }

    fn image_token(&self) -> Option<u32> {
        Some(self.llava.image_token())
    }

    fn is_tied(&self) -> bool {
        self.llava.is_tied()
    }

    fn vision_tower(&self, weights: &mut WeightLoader) -> Option<VisionTower> {
        self.llava.vision_tower(weights)
    }

    fn projector(&self, weights: &mut WeightLoader) -> Option<Projector> {
        Some(Projector::LlavaNext(LlavaNextProjector::load(weights, &self.llava)))
    }

    fn preprocessor(&self, dir: &Path, _: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError> {
        Ok(Arc::new(LlavaNextPreprocessor::from_dir(dir, self)?))
    }

    fn check_image(&self, image: &ImageInput) -> Result<(), ModelError> {
        let vision = &self.llava.vision_config;
        let size = [vision.num_channels, vision.image_size, vision.image_size];
        check_tiles(image, image.layout.tiles(), size)?;
        let patches = vision.image_size / vision.patch_size;
        let grid = image.layout.tile_grid().filter(|grid| grid.patches == patches);
        check_placeholder(image, grid.map_or(0, |grid| grid.tokens()))
    }

    fn runs(&self, path: &str) -> bool {
        self.llava.runs(path)
    }

    fn is_unused(&self, path: &str) -> bool {
        self.llava.is_unused(path)
    }

    fn tower_sizes(&self) -> TowerSizes {
        self.llava.tower_sizes()
    }
}
