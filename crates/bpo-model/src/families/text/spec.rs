//! The names of language models without images.

use super::TextConfig;
use crate::families::spec::{FamilySpec, PartNames, Targets};
use crate::processor::FEW_FRAMES;

/// Llama, `LlamaForCausalLM` in transformers.
pub(crate) static LLAMA: FamilySpec = SPEC;

/// What [`LLAMA`] has, for the others, which differ from it in a part.
const SPEC: FamilySpec = FamilySpec {
    model_type: "llama",
    title: "Llama and models of its architecture, such as HuggingFaceTB/SmolLM2-1.7B-Instruct",
    read: |path| TextConfig::read(path, "llama").map(Into::into),
    kinds: &[],
    class: "LlamaForCausalLM",
    module: "transformers.models.llama.modeling_llama",
    names: &[
        PartNames { path: "language_model", current: "model", published: "model", others: &[] },
        PartNames { path: "lm_head", current: "lm_head", published: "lm_head", others: &[] },
    ],
    projector: &[],
    layers: &["language_model.layers"],
    unadaptable: &["language_model.embed_tokens"],
    targets: Targets {
        all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        attention: r".*\.(q_proj|k_proj|v_proj|o_proj)",
        peft_all_linear: r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    },
    video: FEW_FRAMES,
};

/// Mistral, `MistralForCausalLM` in transformers.
pub(crate) static MISTRAL: FamilySpec = FamilySpec {
    model_type: "mistral",
    title: "Mistral, such as mistralai/Mistral-7B-Instruct-v0.3",
    read: |path| TextConfig::read(path, "mistral").map(Into::into),
    class: "MistralForCausalLM",
    module: "transformers.models.mistral.modeling_mistral",
    ..SPEC
};

/// Qwen2 and Qwen2.5, `Qwen2ForCausalLM` in transformers.
pub(crate) static QWEN2: FamilySpec = FamilySpec {
    model_type: "qwen2",
    title: "Qwen2 and Qwen2.5, such as Qwen/Qwen2.5-7B-Instruct",
    read: |path| TextConfig::read(path, "qwen2").map(Into::into),
    class: "Qwen2ForCausalLM",
    module: "transformers.models.qwen2.modeling_qwen2",
    ..SPEC
};

/// Qwen3, `Qwen3ForCausalLM` in transformers.
pub(crate) static QWEN3: FamilySpec = FamilySpec {
    model_type: "qwen3",
    title: "Qwen3, such as Qwen/Qwen3-4B-Instruct-2507",
    read: |path| TextConfig::read(path, "qwen3").map(Into::into),
    class: "Qwen3ForCausalLM",
    module: "transformers.models.qwen3.modeling_qwen3",
    ..SPEC
};
