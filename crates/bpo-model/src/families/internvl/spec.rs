//! The names of InternVL.

use super::InternVlConfig;
use crate::families::spec::{FamilySpec, PartNames, Targets};
use crate::processor::FEW_FRAMES;

/// InternVL, `InternVLForConditionalGeneration` in transformers.
pub(crate) static INTERNVL: FamilySpec = FamilySpec {
    model_type: "internvl",
    title: "InternVL in the format of transformers, such as OpenGVLab/InternVL3-1B-hf",
    read: |path| InternVlConfig::read(path).map(Into::into),
    kinds: &[
        ("vision_config.model_type", &["internvl_vision"]),
        ("text_config.model_type", &["qwen2", "qwen3", "llama"]),
    ],
    class: "InternVLForConditionalGeneration",
    module: "transformers.models.internvl.modeling_internvl",
    names: &[
        PartNames {
            path: "vision_tower",
            current: "model.vision_tower",
            published: "vision_tower",
            others: &[],
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
    projector: &[
        "multi_modal_projector.layer_norm",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
    ],
    layers: &["language_model.layers", "vision_tower.encoder.layer"],
    unadaptable: &["language_model.embed_tokens", "vision_tower.embeddings.patch_embeddings.projection"],
    targets: Targets {
        all_linear: r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        attention: r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)",
        peft_all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|projection_layer|fc1|fc2|linear_1|linear_2)",
    },
    video: FEW_FRAMES,
};
