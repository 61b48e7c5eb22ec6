//! The families whose images are split into tiles, and how they differ.

use serde_json::{Map, Value, json};

use super::{NEXT, ONEVISION};
use crate::families::FamilySpec;

/// A family whose images are split into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// LLaVA-NeXT.
    Next,
    /// LLaVA-OneVision.
    OneVision,
}

/// The key of the resolutions.
pub(super) const PINPOINTS: &str = "image_grid_pinpoints";
/// The key of the most tiles whose features are kept.
pub(super) const ASPECT: &str = "vision_aspect_ratio";

impl Kind {
    pub(super) fn spec(self) -> &'static FamilySpec {
        match self {
            Self::Next => &NEXT,
            Self::OneVision => &ONEVISION,
        }
    }

    /// The class of the image processor.
    pub(super) fn image_processor(self) -> &'static str {
        match self {
            Self::Next => "LlavaNextImageProcessor",
            Self::OneVision => "LlavaOnevisionImageProcessor",
        }
    }

    /// Adds the keys that a `config.json` leaves out and whose defaults are not those of LLaVA:
    /// `configuration_llava_next.py` and `configuration_llava_onevision.py` in transformers.
    pub(super) fn add_defaults(self, config: &mut Map<String, Value>) {
        // files may have null for the default
        config.retain(|key, value| key != PINPOINTS || !value.is_null());
        config.entry(PINPOINTS).or_insert(json!(self.resolutions()));
        if self == Self::Next {
            return;
        }
        for (key, default) in [
            (ASPECT, json!("anyres_max_9")),
            ("image_token_index", json!(151_646)),
            ("vision_feature_layer", json!(-1)),
            ("vision_feature_select_strategy", json!("full")),
        ] {
            config.entry(key).or_insert(default);
        }
        for (part, kind) in [("vision_config", "siglip_vision_model"), ("text_config", "qwen2")] {
            if let Some(part) = config.get_mut(part).and_then(Value::as_object_mut) {
                part.entry("model_type").or_insert(json!(kind));
            }
        }
    }

    /// The default resolutions of the model and of the image processor, `[height, width]`.
    pub(super) fn resolutions(self) -> Vec<[usize; 2]> {
        match self {
            Self::Next => vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            Self::OneVision => {
                (1..7).flat_map(|rows| (1..7).map(move |columns| [rows, columns].map(|n| n * 384))).collect()
            }
        }
    }

    /// Whether images of a prompt with several images are not split.
    pub(super) fn splits_only_one(self) -> bool {
        self == Self::OneVision
    }
}
