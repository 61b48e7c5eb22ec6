//! The projector of a model of any family.

use super::llava::LlavaProjector;
use super::llava_next::LlavaNextProjector;
use super::smolvlm::SmolVlmProjector;
use crate::input::ImageLayout;
use crate::lora::{Adapters, Linear};
use crate::vlm::{PackedFeatures, module_enum};

/// Maps image features to the language model's width, one row for each image token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Projector {
    /// LLaVA-1.5's.
    Llava(LlavaProjector),
    /// That of LLaVA-NeXT and LLaVA-OneVision.
    LlavaNext(LlavaNextProjector),
    /// Idefics3's connector.
    SmolVlm(SmolVlmProjector),
}

module_enum!(Projector { Llava, LlavaNext, SmolVlm });

impl Projector {
    /// Projects the features of images with the given layouts.
    pub(crate) fn project(
        &self,
        features: &PackedFeatures,
        images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        match self {
            Self::Llava(projector) => projector.project(features, images, adapters),
            Self::LlavaNext(projector) => projector.project(features, images, adapters),
            Self::SmolVlm(projector) => projector.project(features, images, adapters),
        }
    }

    /// The linears of the projector.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let linears = match self {
            Self::Llava(projector) => Vec::from(projector.linears_mut()),
            Self::LlavaNext(projector) => Vec::from(projector.linears_mut()),
            Self::SmolVlm(projector) => Vec::from(projector.linears_mut()),
        };
        linears.into_iter()
    }
}
