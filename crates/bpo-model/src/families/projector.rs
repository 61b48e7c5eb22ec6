//! The projector of a model of any family.

use super::internvl::InternVlProjector;
use super::llava::LlavaProjector;
use super::llava_next::LlavaNextProjector;
use super::qwen_vl::QwenMerger;
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
    /// Qwen-VL's.
    Qwen(QwenMerger),
    /// Idefics3's connector.
    SmolVlm(SmolVlmProjector),
    /// InternVL's.
    InternVl(InternVlProjector),
}

module_enum!(Projector { Llava, LlavaNext, Qwen, SmolVlm, InternVl });

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
            Self::Qwen(merger) => merger.project(features, images, adapters),
            Self::SmolVlm(projector) => projector.project(features, images, adapters),
            Self::InternVl(projector) => projector.project(features, images, adapters),
        }
    }

    /// The linears of the projector.
    pub(crate) fn linears_mut(&mut self) -> Box<dyn Iterator<Item = &mut Linear> + '_> {
        match self {
            Self::Llava(projector) => Box::new(projector.linears_mut().into_iter()),
            Self::LlavaNext(projector) => Box::new(projector.linears_mut().into_iter()),
            Self::Qwen(merger) => Box::new(merger.linears_mut()),
            Self::SmolVlm(projector) => Box::new(projector.linears_mut().into_iter()),
            Self::InternVl(projector) => Box::new(projector.linears_mut().into_iter()),
        }
    }
}
