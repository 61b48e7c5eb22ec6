//! The names of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

use super::config::{QwenGeneration, QwenVlConfig};
use crate::families::spec::{FamilySpec, PartNames, Targets};
use crate::processor::VideoSettings;

/// The limits of transformers' `Qwen2VLVideoProcessor` and `Qwen3VLVideoProcessor`, and the rate of
/// the latter.
const VIDEO: VideoSettings = VideoSettings { fps: 2.0, min_frames: 4, max_frames: 768 };
const LAYERS: &[&str] = &["language_model.layers", "vision_tower.blocks"];
const UNADAPTABLE: &[&str] =
    &["language_model.embed_tokens", "vision_tower.patch_embed.proj", "vision_tower.pos_embed"];
const PROJECTOR: &[&str] =
    &["multi_modal_projector.norm", "multi_modal_projector.linear_fc1", "multi_modal_projector.linear_fc2"];
const ALL_LINEAR: &str = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)";
const ATTENTION: &str = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)";

/// The names of Qwen2-VL and Qwen2.5-VL. transformers 5 writes the published ones as well.
const NAMES_2: &[PartNames] = &[
    PartNames { path: "vision_tower", current: "model.visual", published: "visual", others: &[] },
    PartNames {
        path: "multi_modal_projector",
        current: "model.visual.merger",
        published: "visual.merger",
        others: &[],
    },
    PartNames {
        path: "multi_modal_projector.norm",
        current: "model.visual.merger.ln_q",
        published: "visual.merger.ln_q",
        others: &[],
    },
    PartNames {
        path: "multi_modal_projector.linear_fc1",
        current: "model.visual.merger.mlp.0",
        published: "visual.merger.mlp.0",
        others: &[],
    },
    PartNames {
        path: "multi_modal_projector.linear_fc2",
        current: "model.visual.merger.mlp.2",
        published: "visual.merger.mlp.2",
        others: &[],
    },
    PartNames { path: "language_model", current: "model.language_model", published: "model", others: &[] },
    PartNames { path: "lm_head", current: "lm_head", published: "lm_head", others: &[] },
];

const TARGETS_2: Targets = Targets {
    all_linear: ALL_LINEAR,
    attention: ATTENTION,
    peft_all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|qkv|attn\.proj|fc1|fc2|mlp\.0|mlp\.2)",
};

/// Qwen2-VL, `Qwen2VLForConditionalGeneration` in transformers.
pub(crate) static QWEN2: FamilySpec = FamilySpec {
    model_type: "qwen2_vl",
    title: "Qwen2-VL, such as Qwen/Qwen2-VL-2B-Instruct",
    read: |path| QwenVlConfig::read(path, QwenGeneration::Qwen2).map(Into::into),
    kinds: &[
        ("vision_config.model_type", &["qwen2_vl_vision", "qwen2_vl"]),
        ("text_config.model_type", &["qwen2_vl_text", "qwen2_vl"]),
    ],
    class: "Qwen2VLForConditionalGeneration",
    module: "transformers.models.qwen2_vl.modeling_qwen2_vl",
    names: NAMES_2,
    projector: PROJECTOR,
    layers: LAYERS,
    unadaptable: UNADAPTABLE,
    targets: TARGETS_2,
    video: VIDEO,
};

/// Qwen2.5-VL, `Qwen2_5_VLForConditionalGeneration` in transformers.
pub(crate) static QWEN2_5: FamilySpec = FamilySpec {
    model_type: "qwen2_5_vl",
    title: "Qwen2.5-VL, such as Qwen/Qwen2.5-VL-3B-Instruct",
    read: |path| QwenVlConfig::read(path, QwenGeneration::Qwen2_5).map(Into::into),
    kinds: &[
        ("vision_config.model_type", &["qwen2_5_vl_vision", "qwen2_5_vl"]),
        ("text_config.model_type", &["qwen2_5_vl_text", "qwen2_5_vl"]),
    ],
    class: "Qwen2_5_VLForConditionalGeneration",
    module: "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    names: NAMES_2,
    projector: PROJECTOR,
    layers: LAYERS,
    unadaptable: UNADAPTABLE,
    targets: TARGETS_2,
    video: VIDEO,
};

/// Qwen3-VL, `Qwen3VLForConditionalGeneration` in transformers.
pub(crate) static QWEN3: FamilySpec = FamilySpec {
    model_type: "qwen3_vl",
    title: "Qwen3-VL, such as Qwen/Qwen3-VL-2B-Instruct",
    read: |path| QwenVlConfig::read(path, QwenGeneration::Qwen3).map(Into::into),
    kinds: &[
        ("vision_config.model_type", &["qwen3_vl_vision", "qwen3_vl"]),
        ("text_config.model_type", &["qwen3_vl_text"]),
    ],
    class: "Qwen3VLForConditionalGeneration",
    module: "transformers.models.qwen3_vl.modeling_qwen3_vl",
    names: &[
        PartNames {
            path: "vision_tower",
            current: "model.visual",
            published: "model.visual",
            others: &["visual"],
        },
        PartNames {
            path: "multi_modal_projector",
            current: "model.visual.merger",
            published: "model.visual.merger",
            others: &["visual.merger"],
        },
        PartNames {
            path: "multi_modal_projector.deepstack_merger_list",
            current: "model.visual.deepstack_merger_list",
            published: "model.visual.deepstack_merger_list",
            others: &["visual.deepstack_merger_list"],
        },
        PartNames {
            path: "language_model",
            current: "model.language_model",
            published: "model.language_model",
            others: &[],
        },
        PartNames { path: "lm_head", current: "lm_head", published: "lm_head", others: &[] },
    ],
    projector: PROJECTOR,
    layers: LAYERS,
    unadaptable: UNADAPTABLE,
    targets: Targets {
        all_linear: ALL_LINEAR,
        attention: ATTENTION,
        peft_all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|qkv|attn\.proj|linear_fc1|linear_fc2)",
    },
    video: VIDEO,
};
