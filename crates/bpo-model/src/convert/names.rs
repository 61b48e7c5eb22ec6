//! Names of weights in LLaVA's original code, and in the checkpoints of llava-hf.

/// What becomes of a weight of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is written under this name.
    Name(String),
    /// The converted model has no such weight: a table that is computed, or a part of CLIP that is
    /// not the vision tower.
    Dropped,
    /// The name is not one of LLaVA's.
    Unknown,
}

/// The name of the embedding in the converted checkpoint.
pub(super) const EMBEDDING: &str = "language_model.model.embed_tokens.weight";
/// The name of the head in the converted checkpoint.
pub(super) const HEAD: &str = "language_model.lm_head.weight";
/// The prefix of the vision tower's weights in the converted checkpoint.
pub(super) const TOWER: &str = "vision_tower.vision_model.";
/// The prefix of the projector's weights in the original checkpoint.
pub(super) const PROJECTOR: &str = "model.mm_projector.";

/// Whether a weight of the converted checkpoint is of the vision tower.
pub(super) fn is_of_tower(new: &str) -> bool {
    new.starts_with("vision_tower.")
}

/// Returns the name in the original checkpoint of a weight of the converted one. With `has_tower`
/// the original has its own vision tower; otherwise the names of the tower are those of its own
/// checkpoint.
pub(super) fn original(new: &str, has_tower: bool) -> String {
    let tower = if has_tower { "model.vision_tower.vision_tower.vision_model." } else { "vision_model." };
    let prefixes = [
        (TOWER, tower),
        ("vision_tower.", tower),
        ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("language_model.", "model."),
    ];
    let found = prefixes.iter().find_map(|(here, there)| Some(format!("{there}{}", new.strip_prefix(here)?)));
    found.unwrap_or_else(|| new.to_owned())
}

/// Returns the place of a weight of the original checkpoint.
pub(super) fn of_model(name: &str) -> Place {
    if let Some(rest) = name.strip_prefix("model.vision_tower.vision_tower.") {
        return of_tower(rest);
    }
    if let Some(rest) = name.strip_prefix(PROJECTOR) {
        let layer = [("0.", "linear_1"), ("2.", "linear_2")];
        let layer = layer.iter().find_map(|(number, name)| Some((name, rest.strip_prefix(number)?)));
        return match layer {
            Some((layer, rest @ ("weight" | "bias"))) => {
                Place::Name(format!("multi_modal_projector.{layer}.{rest}"))
            }
            _ => Place::Unknown,
        };
    }
    if name.ends_with(".rotary_emb.inv_freq") {
        return Place::Dropped;
    }
    let is_text = ["model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."];
    if is_text.iter().any(|start| name.starts_with(start)) {
        Place::Name(format!("language_model.{name}"))
    } else {
        Place::Unknown
    }
}

/// Returns the place of a weight of the vision tower's checkpoint: CLIP with or without its text
/// model, as transformers 4 or 5 write it.
pub(super) fn of_tower(name: &str) -> Place {
    let of_clip = ["text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias"];
    if of_clip.iter().any(|start| name.starts_with(start)) || name.ends_with(".position_ids") {
        return Place::Dropped;
    }
    let rest = name.strip_prefix("vision_model.").unwrap_or(name);
    let is_vision = ["embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "head."];
    if is_vision.iter().any(|start| rest.starts_with(start)) {
        Place::Name(format!("{TOWER}{rest}"))
    } else {
        Place::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llava_hf() {
        for (original, converted) in [
            ("model.embed_tokens.weight", EMBEDDING),
            ("lm_head.weight", HEAD),
            ("model.layers.0.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
            ("model.norm.weight", "language_model.model.norm.weight"),
            ("model.mm_projector.0.weight", "multi_modal_projector.linear_1.weight"),
            ("model.mm_projector.2.bias", "multi_modal_projector.linear_2.bias"),
            (
                "model.vision_tower.vision_tower.vision_model.encoder.layers.1.mlp.fc1.bias",
                "vision_tower.vision_model.encoder.layers.1.mlp.fc1.bias",
            ),
        ] {
            assert_eq!(of_model(original), Place::Name(converted.to_owned()));
            assert_eq!(super::original(converted, true), original);
        }
        for name in ["model.image_newline", "model.mm_projector.weight", "model.mm_projector.4.weight", "x"] {
            assert_eq!(of_model(name), Place::Unknown, "{name}");
        }
        assert_eq!(of_model("model.layers.3.self_attn.rotary_emb.inv_freq"), Place::Dropped);
        let name = Place::Name("vision_tower.vision_model.embeddings.class_embedding".to_owned());
        for tower in ["vision_model.embeddings.class_embedding", "embeddings.class_embedding"] {
            assert_eq!(of_tower(tower), name);
            let converted = "vision_tower.vision_model.embeddings.class_embedding";
            assert_eq!(super::original(converted, false), "vision_model.embeddings.class_embedding");
        }
        for name in
            ["text_model.final_layer_norm.bias", "logit_scale", "vision_model.embeddings.position_ids"]
        {
            assert_eq!(of_tower(name), Place::Dropped, "{name}");
        }
    }
}
