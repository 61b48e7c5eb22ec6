//! The families whose images are split into tiles, and how they differ.

use serde_json::{Value, json};

use super::SPEC;
use crate::families::FamilySpec;
use crate::families::llava_onevision::SPEC as ONEVISION;

/// A family whose images are split into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// LLaVA-NeXT.
    Next,
    /// LLaVA-OneVision.
    OneVision,
}

impl Kind {
    pub(super) fn spec(self) -> &'static FamilySpec {
        match self {
            Self::Next => &SPEC,
            Self::OneVision => &ONEVISION,
        }
    }

    /// Default values of `config.json` that differ from those of LLaVA-1.5:
    /// `configuration_llava_next.py` and `configuration_llava_onevision.py`.
    pub(super) fn defaults(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Next => vec![(PINPOINTS, json!(NEXT_RESOLUTIONS))],
            Self::OneVision => vec![
                (PINPOINTS, json!(self.resolutions())),
                (ASPECT, json!("anyres_max_9")),
                ("image_token_index", json!(151_646)),
                ("vision_feature_layer", json!(-1)),
                ("vision_feature_select_strategy", json!("full")),
            ],
        }
    }

    /// The default resolutions of the model and of the image processor, `[height, width]`.
    pub(super) fn resolutions(self) -> Vec<[usize; 2]> {
        match self {
            Self::Next => NEXT_RESOLUTIONS.to_vec(),
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

/// The key of the resolutions.
pub(super) const PINPOINTS: &str = "image_grid_pinpoints";
/// The key of the most tiles whose features are kept.
pub(super) const ASPECT: &str = "vision_aspect_ratio";

const NEXT_RESOLUTIONS: [[usize; 2]; 5] = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]];
