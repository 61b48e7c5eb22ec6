//! `config.json` of Qwen-VL checkpoints, with the defaults of transformers
//! (`configuration_qwen2_vl.py`, `configuration_qwen2_5_vl.py` and `configuration_qwen3_vl.py`).

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::merger::QwenMerger;
use super::positions::positions;
use super::preprocess::QwenPreprocessor;
use super::spec;
use crate::checkpoint::WeightLoader;
use crate::decoder::{DecoderConfig, Positions, RopeParameters};
use crate::error::ModelError;
use crate::families::{Family, FamilySpec, Projector};
use crate::input::{ImageInput, ImageLayout};
use crate::json::{from_value, read_json};
use crate::layers::Activation;
use crate::processor::{Preprocess, ProcessorError, TextProcessor};
use crate::vision::{QwenVision, QwenVisionConfig, TowerSizes, TowerTokens, VisionTower, WindowConfig};

/// A generation of Qwen-VL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QwenGeneration {
    /// Qwen2-VL.
    Qwen2,
    /// Qwen2.5-VL: attention in windows.
    Qwen2_5,
    /// Qwen3-VL: a table of positions, features of several depths, and Qwen3 as language model.
    Qwen3,
}

/// The configuration of a model. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QwenVlConfig {
    /// The generation, by `model_type`.
    pub generation: QwenGeneration,
    /// The image encoder and its merger.
    pub vision_config: QwenVisionConfig,
    /// The language model. Published files of Qwen2-VL and Qwen2.5-VL have its keys at their top
    /// level.
    pub text_config: DecoderConfig,
    /// Token id of an image feature.
    pub image_token_id: u32,
    /// Whether the embedding is the head.
    pub tie_word_embeddings: bool,
}

/// The keys of the whole model.
#[derive(Deserialize)]
struct Top {
    #[serde(default)]
    image_token_id: Option<u32>,
    #[serde(default)]
    tie_word_embeddings: Option<bool>,
}

/// The keys of the vision tower, of all generations.
#[derive(Deserialize)]
pub(super) struct VisionKeys {
    depth: usize,
    hidden_size: usize,
    /// Qwen2-VL: width of the tower; `hidden_size` is that of the language model.
    embed_dim: Option<usize>,
    mlp_ratio: Option<f64>,
    intermediate_size: Option<usize>,
    num_heads: usize,
    pub(super) in_channels: usize,
    patch_size: usize,
    spatial_merge_size: usize,
    temporal_patch_size: usize,
    hidden_act: Activation,
    out_hidden_size: Option<usize>,
    window_size: Option<usize>,
    fullatt_block_indexes: Option<Vec<usize>>,
    pub(super) num_position_embeddings: Option<usize>,
    deepstack_visual_indexes: Option<Vec<usize>>,
    pub(super) rope_parameters: Option<RopeParameters>,
}

impl QwenGeneration {
    /// The defaults of the vision tower.
    fn vision(self) -> Value {
        match self {
            Self::Qwen2 => json!({
                "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "hidden_act": "quick_gelu", "mlp_ratio": 4,
                "num_heads": 16, "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            }),
            Self::Qwen2_5 => json!({
                "depth": 32, "hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420, "num_heads": 16,
                "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
                "window_size": 112, "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31],
            }),
            Self::Qwen3 => json!({
                "depth": 27, "hidden_size": 1152, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 4304,
                "num_heads": 16, "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2,
                "temporal_patch_size": 2, "out_hidden_size": 3584, "num_position_embeddings": 2304,
                "deepstack_visual_indexes": [8, 16, 24],
            }),
        }
    }

    /// The defaults of the language model.
    fn text(self) -> Value {
        match self {
            Self::Qwen2 | Self::Qwen2_5 => json!({
                "vocab_size": 152_064, "hidden_size": 8192, "intermediate_size": 29_568, "num_hidden_layers": 80,
                "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 32_768,
                "rms_norm_eps": 1e-5, "bos_token_id": 151_643, "max_window_layers": 80,
            }),
            Self::Qwen3 => json!({
                "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
                "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
                "max_position_embeddings": 128_000, "rms_norm_eps": 1e-6,
            }),
        }
    }

    /// The kind of language model, as a `model_type` of its own.
    fn decoder(self) -> &'static str {
        match self {
            Self::Qwen2 | Self::Qwen2_5 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The defaults of rotary positions: the base, and the frequencies of each axis.
    fn rope(self) -> (f64, [usize; 3]) {
        match self {
            Self::Qwen2 | Self::Qwen2_5 => (1e6, [16, 24, 24]),
            Self::Qwen3 => (5e5, [24, 20, 20]),
        }
    }
}

impl QwenVlConfig {
    /// Reads a `config.json` of a generation and checks that the model is supported.
    pub(super) fn read(path: &Path, generation: QwenGeneration) -> Result<Self, ModelError> {
        const VISION: &str = "vision_config";
        const TEXT: &str = "text_config";
        let all: Map<String, Value> = read_json(path)?;
        let top: Top = from_value(&Value::Object(all.clone()), path, "")?;
        let present = |key: &str| all.get(key).filter(|value| !value.is_null());
        // the language model's keys may be at the top level
        let (own, at) = match present(TEXT) {
            Some(nested) => (from_value::<Map<_, _>>(nested, path, TEXT)?, TEXT),
            None if generation == QwenGeneration::Qwen3 => (Map::new(), TEXT),
            None => (all.clone(), ""),
        };
        let mut text = with_defaults(own.clone().into(), generation.text());
        // null is not the default of these: as many heads as queries have, and no window
        for key in ["num_key_value_heads", "sliding_window"] {
            if own.get(key).is_some_and(Value::is_null) {
                text[key] = Value::Null;
            }
        }
        text["model_type"] = generation.decoder().into();
        let text: DecoderConfig = from_value(&text, path, at)?;
        let vision: Map<String, Value> = match present(VISION) {
            Some(nested) => from_value(nested, path, VISION)?,
            None => Map::new(),
        };
        let keys: VisionKeys = from_value(&with_defaults(vision.into(), generation.vision()), path, VISION)?;
        let tie_word_embeddings = top.tie_word_embeddings.unwrap_or(false) || text.tie_word_embeddings;
        let config = Self {
            generation,
            vision_config: keys.tower(generation),
            text_config: completed(text, generation),
            image_token_id: top.image_token_id.unwrap_or(151_655),
            tie_word_embeddings,
        };
        config.check(path, &keys, if at.is_empty() { "" } else { "text_config." })?;
        Ok(config)
    }
}

/// Fills keys that are missing or null.
fn with_defaults(own: Value, defaults: Value) -> Value {
    let (Value::Object(own), Value::Object(mut all)) = (own, defaults) else { return Value::Null };
    all.extend(own.into_iter().filter(|(_, value)| !value.is_null()));
    Value::Object(all)
}

/// Sets what follows from the generation.
fn completed(mut text: DecoderConfig, generation: QwenGeneration) -> DecoderConfig {
    let (theta, sections) = generation.rope();
    let is_third = generation == QwenGeneration::Qwen3;
    let mut rope = text.rope_scaling.take().or(text.rope_parameters.take()).unwrap_or_default();
    rope.rope_theta = rope.rope_theta.or(text.rope_theta).or(Some(theta));
    rope.mrope_section = rope.mrope_section.or(Some(sections.into()));
    rope.mrope_interleaved = Some(is_third);
    text.rope_parameters = Some(rope);
    if !is_third {
        // not a key of these
        text.head_dim = None;
    }
    text
}

impl VisionKeys {
    /// The tower that the keys describe.
    fn tower(&self, generation: QwenGeneration) -> QwenVisionConfig {
        let hidden_size =
            self.embed_dim.filter(|_| generation == QwenGeneration::Qwen2).unwrap_or(self.hidden_size);
        let inner = match generation {
            QwenGeneration::Qwen2 => (hidden_size as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize,
            _ => self.intermediate_size.unwrap_or(0),
        };
        let out = match generation {
            QwenGeneration::Qwen2 => self.hidden_size,
            _ => self.out_hidden_size.unwrap_or(0),
        };
        let windows = (generation == QwenGeneration::Qwen2_5).then(|| WindowConfig {
            side: self
                .window_size
                .and_then(|size| size.checked_div(self.spatial_merge_size)?.checked_div(self.patch_size))
                .unwrap_or(0),
            full_layers: self.fullatt_block_indexes.clone().unwrap_or_default(),
        });
        let is_third = generation == QwenGeneration::Qwen3;
        QwenVisionConfig {
            depth: self.depth,
            hidden_size,
            intermediate_size: inner,
            num_heads: self.num_heads,
            patch_size: self.patch_size,
            temporal_patch_size: self.temporal_patch_size,
            spatial_merge_size: self.spatial_merge_size,
            out_hidden_size: out,
            hidden_act: self.hidden_act,
            rope_theta: self.rope_parameters.as_ref().and_then(|rope| rope.rope_theta).unwrap_or(10_000.0),
            gated: generation == QwenGeneration::Qwen2_5,
            windows,
            position_side: self.num_position_embeddings.filter(|_| is_third).map(usize::isqrt),
            deepstack_layers: self.deepstack_visual_indexes.clone().filter(|_| is_third).unwrap_or_default(),
        }
    }
}

impl From<QwenVlConfig> for crate::families::VlmConfig {
    fn from(config: QwenVlConfig) -> Self {
        Self::QwenVl(config)
    }
}

impl Family for QwenVlConfig {
    fn spec(&self) -> &'static FamilySpec {
        match self.generation {
            QwenGeneration::Qwen2 => &spec::QWEN2,
            QwenGeneration::Qwen2_5 => &spec::QWEN2_5,
            QwenGeneration::Qwen3 => &spec::QWEN3,
        }
    }

    fn decoder(&self) -> &DecoderConfig {
        &self.text_config
    }

    fn image_token(&self) -> Option<u32> {
        Some(self.image_token_id)
    }

    fn is_tied(&self) -> bool {
        self.tie_word_embeddings
    }

    fn vision_tower(&self, weights: &mut WeightLoader) -> Option<VisionTower> {
        Some(VisionTower::Qwen(QwenVision::load(weights, &self.vision_config)))
    }

    fn projector(&self, weights: &mut WeightLoader) -> Option<Projector> {
        Some(Projector::Qwen(QwenMerger::load(weights, self)))
    }

    fn preprocessor(&self, dir: &Path, _text: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError> {
        Ok(Arc::new(QwenPreprocessor::from_dir(dir, self)?))
    }

    fn check_image(&self, image: &ImageInput) -> Result<(), ModelError> {
        let vision = &self.vision_config;
        let grid = image.layout.grid().ok_or(ModelError::NoGrid)?;
        let side = vision.patch_size * vision.spatial_merge_size;
        let expected = [3, grid.rows * side, grid.columns * side];
        for tile in &image.tiles {
            let found = [tile.channels, tile.height, tile.width];
            if found != expected || tile.data.len() != found.iter().product::<usize>() {
                return Err(ModelError::ImageSize { expected, found });
            }
        }
        // a still image fills all frames of its patches
        let (found, frames) = (image.tiles.len(), grid.time * vision.temporal_patch_size);
        if found != frames && (found, grid.time) != (1, 1) {
            return Err(ModelError::ImageTiles { expected: frames, found });
        }
        let (expected, found) = (grid.tokens(), image.tokens());
        if found == expected { Ok(()) } else { Err(ModelError::ImageTokens { expected, found }) }
    }

    fn positions(&self, ids: &[u32], images: &[&ImageLayout]) -> Positions {
        positions(ids, self.image_token_id, images)
    }

    fn tower_sizes(&self) -> TowerSizes {
        let vision = &self.vision_config;
        TowerSizes {
            hidden: vision.hidden_size,
            intermediate: vision.intermediate_size,
            heads: vision.num_heads,
            layers: vision.depth,
            tokens: TowerTokens::PerImageToken(vision.merged()),
            features: vision.feature_width(),
        }
    }
}
