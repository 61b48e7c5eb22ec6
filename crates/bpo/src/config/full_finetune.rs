//! `[full_finetune]`: training of the model's weights.

#[cfg(feature = "model")]
use bpo_model::ModelPart;
use serde::{Deserialize, Serialize};

/// `[full_finetune]`: trains the model's weights instead of adapters. The section says which parts
/// are trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FullFinetuneSection {
    /// Whether to train the language model with its embedding and head. Default: true.
    pub language_model: bool,
    /// Whether to train the projector. Default: true.
    pub projector: bool,
    /// Whether to train the vision tower, up to the layer whose features are used. Default: false
    /// (the authors never train it).
    pub vision_tower: bool,
}

impl Default for FullFinetuneSection {
    fn default() -> Self {
        Self { language_model: true, projector: true, vision_tower: false }
    }
}

impl FullFinetuneSection {
    /// Returns whether the parameter of [`Vlm`](bpo_model::Vlm) with this module path is
    /// trained.
    #[cfg(feature = "model")]
    pub fn trains(&self, path: &str) -> bool {
        match ModelPart::of_path(path) {
            Some(ModelPart::LanguageModel) => self.language_model,
            Some(ModelPart::Projector) => self.projector,
            Some(ModelPart::VisionTower) => self.vision_tower,
            None => false,
        }
    }

    /// Returns whether any part is trained.
    pub fn is_any(&self) -> bool {
        self.language_model || self.projector || self.vision_tower
    }
}
