//! The supported model families. Each is a folder with its configuration, its projector, its image
//! preprocessor and its names. `text` has the language models without images.

pub(crate) mod check;
mod config;
mod detect;
pub(crate) mod internvl;
pub(crate) mod llava;
pub(crate) mod llava_next;
mod pixel_shuffle;
mod projector;
pub(crate) mod qwen_vl;
pub(crate) mod smolvlm;
pub(crate) mod spec;
pub(crate) mod text;

use std::path::Path;

use crate::error::ModelError;
pub(crate) use config::Family;
pub use config::VlmConfig;
use detect::detect;
pub use projector::Projector;
pub use spec::FamilySpec;

/// All supported families.
pub(crate) static FAMILIES: [&FamilySpec; 10] = [
    &llava::LLAVA,
    &llava::VIP_SPEC,
    &llava_next::NEXT,
    &llava_next::ONEVISION,
    &smolvlm::IDEFICS3,
    &smolvlm::SMOLVLM,
    &qwen_vl::QWEN2,
    &qwen_vl::QWEN2_5,
    &qwen_vl::QWEN3,
    &internvl::INTERNVL,
];

/// The supported language models without images.
static LANGUAGE_MODELS: [&FamilySpec; 4] = [&text::LLAMA, &text::MISTRAL, &text::QWEN2, &text::QWEN3];

impl FamilySpec {
    /// The family with a `model_type`.
    pub fn named(model_type: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.model_type == model_type)
    }

    /// The family of a checkpoint directory, by its `config.json`.
    ///
    /// # Errors
    /// [`ModelError::NoConfig`], [`ModelError::Family`], [`ModelError::OriginalLlava`],
    /// [`ModelError::Quantized`] or [`ModelError::Json`].
    pub fn of_checkpoint(dir: &Path) -> Result<&'static Self, ModelError> {
        detect(dir, &FAMILIES)
    }

    /// The family of a directory that is used as a language model: that of a language model without
    /// images, or of a vision-language model.
    ///
    /// # Errors
    /// Those of [`of_checkpoint`](Self::of_checkpoint).
    pub fn of_language_model(dir: &Path) -> Result<&'static Self, ModelError> {
        let families: Vec<_> = LANGUAGE_MODELS.into_iter().chain(FAMILIES).collect();
        detect(dir, &families)
    }

    /// The family that knows most of the names of an adapter's tensors, the first of equals.
    pub(crate) fn of_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> &'static Self {
        let known = |family: &Self| names.clone().filter(|name| family.knows(name)).count();
        let better = |best, family| if known(family) > known(best) { family } else { best };
        FAMILIES.into_iter().fold(FAMILIES[0], better)
    }
}
