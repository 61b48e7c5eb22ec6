//! The parts of a model, by the paths of their parameters.

/// The vision tower.
pub(crate) const VISION_TOWER: &str = "vision_tower";
/// The projector.
pub(crate) const PROJECTOR: &str = "multi_modal_projector";
/// The language model without its head.
pub(crate) const DECODER: &str = "language_model";
/// The head.
pub(crate) const HEAD: &str = "lm_head";

/// A part of a model, whichever family it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPart {
    /// The vision tower.
    VisionTower,
    /// The projector from image features to the language model's width.
    Projector,
    /// The language model with its embedding and head.
    LanguageModel,
}

impl ModelPart {
    /// The part that a parameter of [`Vlm`](crate::Vlm) belongs to, by its path. Copies that are
    /// trained beside adapters belong to no part.
    pub fn of_path(path: &str) -> Option<Self> {
        match path.split('.').next()? {
            VISION_TOWER => Some(Self::VisionTower),
            PROJECTOR => Some(Self::Projector),
            DECODER | HEAD => Some(Self::LanguageModel),
            _ => None,
        }
    }
}
