//! The parameters that AdamW's weight decay applies to.

/// Returns whether weight decay applies to the parameter at a path. `container` is the type of its
/// module, as burn names it.
///
/// As in `Trainer.get_decay_parameter_names` of transformers, biases and the parameters of norms do
/// not decay; adapters do. burn names the parameters of norms `gamma` and `beta`, so the type of
/// the module is needed, too.
pub(crate) fn decays(path: &str, container: &str) -> bool {
    if container.ends_with("Norm") {
        return false;
    }
    let path = path.to_lowercase();
    let of_norm = |part: &str| part == "norm" || part.ends_with("_norm");
    !(["bias", "layernorm", "rmsnorm"].iter().any(|word| path.contains(word)) || path.split('.').any(of_norm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_and_norms_do_not_decay() {
        let linear = "Struct:Linear";
        for (path, container, expected) in [
            ("layers.0.self_attn.q_proj.weight", linear, true),
            ("layers.0.self_attn.q_proj.weight.lora.a", linear, true),
            ("embed_tokens.weight", "Struct:Embedding", true),
            ("class_embedding", "Struct:ClipVision", true),
            ("normalizer.weight", linear, true),
            ("layers.0.self_attn.q_proj.bias", linear, false),
            ("layers.0.first.gamma", "Struct:RmsNorm", false),
            ("layers.0.first.beta", "Struct:LayerNorm", false),
            ("layers.0.input_layernorm.weight", "Struct:Own", false),
            ("norm.weight", "Struct:Own", false),
            ("self_attn.q_norm.weight", "Struct:Own", false),
        ] {
            assert_eq!(decays(path, container), expected, "{path}");
        }
    }
}
