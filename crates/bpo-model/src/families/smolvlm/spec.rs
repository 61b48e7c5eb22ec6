//! The names of Idefics3 and SmolVLM.

use super::config::{SmolVlmConfig, SmolVlmKind};
use crate::families::spec::{FamilySpec, PartNames, Targets};
use crate::processor::FEW_FRAMES;

/// Idefics3 and SmolVLM, `Idefics3ForConditionalGeneration` in transformers.
pub(crate) static IDEFICS3: FamilySpec = FamilySpec {
    model_type: "idefics3",
    title: "Idefics3 and SmolVLM",
    read: |path| SmolVlmConfig::read(path, SmolVlmKind::Idefics3).map(Into::into),
    class: "Idefics3ForConditionalGeneration",
    module: "transformers.models.idefics3.modeling_idefics3",
    ..SMOLVLM_NAMES
};

/// SmolVLM2, `SmolVLMForConditionalGeneration` in transformers.
pub(crate) static SMOLVLM: FamilySpec = FamilySpec {
    model_type: "smolvlm",
    title: "SmolVLM2",
    read: |path| SmolVlmConfig::read(path, SmolVlmKind::SmolVlm).map(Into::into),
    class: "SmolVLMForConditionalGeneration",
    module: "transformers.models.smolvlm.modeling_smolvlm",
    ..SMOLVLM_NAMES
};

/// What both have in common.
const SMOLVLM_NAMES: FamilySpec = FamilySpec {
    model_type: "",
    title: "",
    read: |path| SmolVlmConfig::read(path, SmolVlmKind::SmolVlm).map(Into::into),
    // transformers does not look at the kind of the vision tower
    kinds: &[("text_config.model_type", &["llama", "mistral", "qwen2"])],
    class: "",
    module: "",
    names: &[
        PartNames {
            path: "vision_tower",
            current: "model.vision_model",
            published: "model.vision_model",
            others: &[],
        },
        PartNames {
            path: "multi_modal_projector",
            current: "model.connector",
            published: "model.connector",
            others: &[],
        },
        PartNames {
            path: "language_model",
            current: "model.text_model",
            published: "model.text_model",
            others: &[],
        },
        PartNames { path: "lm_head", current: "lm_head", published: "lm_head", others: &[] },
    ],
    projector: &["multi_modal_projector.modality_projection.proj"],
    layers: &["language_model.layers", "vision_tower.encoder.layers"],
    unadaptable: &[
        "language_model.embed_tokens",
        "vision_tower.embeddings.patch_embedding",
        "vision_tower.embeddings.position_embedding",
    ],
    targets: Targets {
        all_linear: r".*text_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        attention: r".*text_model.*\.(q_proj|k_proj|v_proj|o_proj)",
        peft_all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|out_proj|fc1|fc2|proj)",
    },
    video: FEW_FRAMES,
};
