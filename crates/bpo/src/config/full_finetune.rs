//! `[full_finetune]`: the weights themselves are trained.

#[cfg(feature = "model")]
use bpo_model::ModelPart;
use serde::{Deserialize, Serialize};

/// `[full_finetune]`: where it is there, the weights of the model are trained and there are no adapters. It says which parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FullFinetuneSection {
    /// The language model with its embedding and head. Default: true.
    pub language_model: bool,
    /// The projector. Default: true.
    pub projector: bool,
    /// The vision tower, as far as it runs. Default: false (LLaVA's authors never train it).
    pub vision_tower: bool,
}

impl Default for FullFinetuneSection {
    fn default() -> Self {
        Self { language_model: true, projector: true, vision_tower: false }
    }
}

impl FullFinetuneSection {
    /// Whether a parameter of [`Vlm`](bpo_model::Vlm) is trained, by its path in the module.
    #[cfg(feature = "model")]
    pub fn trains(&self, path: &str) -> bool {
        match ModelPart::of_path(path) {
            Some(ModelPart::LanguageModel) => self.language_model,
            Some(ModelPart::Projector) => self.projector,
            Some(ModelPart::VisionTower) => self.vision_tower,
            None => false,
        }
    }

    /// Whether anything is trained.
    pub fn is_any(&self) -> bool {
        self.language_model || self.projector || self.vision_tower
    }
}
