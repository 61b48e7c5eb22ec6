//! The names of LLaVA.

use super::LlavaConfig;
use crate::families::spec::{FamilySpec, PartNames, Targets};
use crate::processor::FEW_FRAMES;

/// LLaVA, `LlavaForConditionalGeneration` in transformers.
pub(crate) static LLAVA: FamilySpec = SPEC;

/// What [`LLAVA`] has, for families that differ from it in a part.
pub(super) const SPEC: FamilySpec = FamilySpec {
    model_type: "llava",
    title: "LLaVA-1.5 and models of its class, such as llava-hf/llava-1.5-7b-hf",
    read: |path| LlavaConfig::read(path).map(Into::into),
    kinds: &[
        ("vision_config.model_type", &["clip_vision_model", "siglip_vision_model"]),
        ("text_config.model_type", &["llama", "mistral", "qwen2"]),
    ],
    class: "LlavaForConditionalGeneration",
    module: "transformers.models.llava.modeling_llava",
    names: &[
        PartNames {
            path: "vision_tower",
            current: "model.vision_tower",
            published: "vision_tower.vision_model",
            others: &["model.vision_tower.vision_model"],
        },
        PartNames {
            path: "multi_modal_projector",
            current: "model.multi_modal_projector",
            published: "multi_modal_projector",
            others: &[],
        },
        PartNames {
            path: "language_model",
            current: "model.language_model",
            published: "language_model.model",
            others: &[],
        },
        PartNames { path: "lm_head", current: "lm_head", published: "language_model.lm_head", others: &[] },
    ],
    projector: &["multi_modal_projector.linear_1", "multi_modal_projector.linear_2"],
    layers: &["language_model.layers", "vision_tower.encoder.layers"],
    unadaptable: &[
        "language_model.embed_tokens",
        "vision_tower.embeddings.patch_embedding",
        "vision_tower.embeddings.position_embedding",
    ],
    targets: Targets {
        all_linear: r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        attention: r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)",
        peft_all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|out_proj|fc1|fc2|linear_1|linear_2)",
    },
    video: FEW_FRAMES,
};
