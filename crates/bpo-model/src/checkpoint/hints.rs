//! Hints on the model that unknown weights belong to.

/// Parts of names of weights, and the models that have them.
const HINTS: [(&[&str], &str); 10] = [
    (
        &["q_proj.bias", "k_proj.bias", "v_proj.bias"],
        "biases of q_proj, k_proj and v_proj are those of a Qwen2 language model (text_config.model_type qwen2)",
    ),
    (&["q_norm.", "k_norm."], "norms of queries and keys are those of a Qwen3 or Gemma 3 language model"),
    (
        &["pre_feedforward_layernorm.", "post_feedforward_layernorm."],
        "norms around the feed-forward layers are those of a Gemma 2 or Gemma 3 language model",
    ),
    (
        &["image_newline", "image_newline_embed"],
        "image_newline is a weight of LLaVA-NeXT (LLaVA-1.6) or LLaVA-OneVision",
    ),
    (&[".experts.", ".block_sparse_moe."], "experts are those of a mixture-of-experts language model"),
    (&["mtp.", ".mtp_", ".nextn.", "mtp_"], "they are heads for predicting several tokens"),
    (
        &[
            ".absmax",
            ".quant_map",
            ".quant_state",
            ".SCB",
            ".qweight",
            ".qzeros",
            ".scales",
            ".g_idx",
            ".weight_scale",
        ],
        "they belong to quantized weights: use the checkpoint that this one was quantized from",
    ),
    (&["mm_projector", "vision_resampler"], "the names are those of LLaVA's original code"),
    (&["lora_A", "lora_B", ".base_layer."], "they belong to an adapter: use the base model as the model"),
    (
        &["vision_tower.encoder.layers.", "vision_tower.head.", "vision_tower.embeddings."],
        "the vision tower is of another kind than vision_config.model_type says",
    ),
];

/// Sentences about the models that weights of these names belong to.
pub(crate) fn families(names: &[String]) -> Vec<String> {
    let fits = |parts: &[&str]| names.iter().any(|name| parts.iter().any(|part| name.contains(part)));
    let mut sentences: Vec<_> =
        HINTS.iter().filter(|(parts, _)| fits(parts)).map(|(_, text)| (*text).to_owned()).collect();
    let layer = |name: &String| name.starts_with("language_model.layers.");
    if sentences.is_empty() && names.iter().any(layer) {
        sentences.push("text_config.num_hidden_layers may be too small".to_owned());
    }
    if !names.is_empty() {
        sentences.push("without them the model would compute something else".to_owned());
    }
    sentences
}
