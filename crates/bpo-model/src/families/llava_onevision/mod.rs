//! LLaVA-OneVision (Li et al., 2024, arXiv 2408.03326): LLaVA-NeXT with SigLIP and Qwen2, whose
//! features are resized where an image has many tiles. Images of a prompt with several images are
//! not split.

use super::llava_next::{Kind, LlavaNextConfig, SPEC as NEXT};
use super::spec::FamilySpec;

/// LLaVA-OneVision, `LlavaOnevisionForConditionalGeneration` in transformers.
pub(crate) static SPEC: FamilySpec = FamilySpec {
    model_type: "llava_onevision",
    read: |path| LlavaNextConfig::read(path, Kind::OneVision).map(Into::into),
    class: "LlavaOnevisionForConditionalGeneration",
    module: "transformers.models.llava_onevision.modeling_llava_onevision",
    ..NEXT
};
