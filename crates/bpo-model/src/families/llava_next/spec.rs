//! The names of LLaVA-NeXT and LLaVA-OneVision.

use super::{Kind, LlavaNextConfig};
use crate::families::llava::LLAVA;
use crate::families::spec::{FamilySpec, PartNames};

/// The names of LLaVA, and that of the embedding of the end of a row.
static NAMES: [PartNames; 5] = [
    LLAVA.names[0],
    LLAVA.names[1],
    LLAVA.names[2],
    LLAVA.names[3],
    PartNames {
        path: "multi_modal_projector.image_newline",
        current: "model.image_newline",
        published: "image_newline",
        others: &[],
    },
];

/// LLaVA-NeXT, `LlavaNextForConditionalGeneration` in transformers.
pub(crate) static NEXT: FamilySpec = FamilySpec {
    model_type: "llava_next",
    title: "LLaVA-NeXT or LLaVA-1.6, such as llava-hf/llava-v1.6-mistral-7b-hf",
    read: |path| LlavaNextConfig::read(path, Kind::Next).map(Into::into),
    class: "LlavaNextForConditionalGeneration",
    module: "transformers.models.llava_next.modeling_llava_next",
    names: &NAMES,
    ..LLAVA
};

/// LLaVA-OneVision, `LlavaOnevisionForConditionalGeneration` in transformers.
pub(crate) static ONEVISION: FamilySpec = FamilySpec {
    model_type: "llava_onevision",
    title: "LLaVA-OneVision, such as llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    read: |path| LlavaNextConfig::read(path, Kind::OneVision).map(Into::into),
    kinds: &[
        ("vision_config.model_type", &["siglip_vision_model", "clip_vision_model"]),
        ("text_config.model_type", &["qwen2", "llama", "mistral"]),
    ],
    class: "LlavaOnevisionForConditionalGeneration",
    module: "transformers.models.llava_onevision.modeling_llava_onevision",
    names: &NAMES,
    ..LLAVA
};
