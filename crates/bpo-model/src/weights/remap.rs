//! One name for each weight, whichever version of transformers wrote the checkpoint.

/// Returns the name of a weight in this crate: the module path in transformers 5 without the
/// leading `model.`.
///
/// ```text
/// published (llava-hf)               transformers 5               here
/// vision_tower.vision_model.encoder  model.vision_tower.encoder   vision_tower.encoder
/// multi_modal_projector              model.multi_modal_projector  multi_modal_projector
/// language_model.model.layers        model.language_model.layers  language_model.layers
/// language_model.lm_head.weight      lm_head.weight               lm_head.weight
/// ```
///
/// ```
/// use bpo_model::canonical;
/// assert_eq!(canonical("language_model.model.norm.weight"), "language_model.norm.weight");
/// assert_eq!(canonical("model.language_model.norm.weight"), "language_model.norm.weight");
/// ```
pub fn canonical(name: &str) -> String {
    let name = match name.strip_prefix("model.") {
        Some(rest) if PARTS.iter().any(|part| rest.starts_with(part)) => rest,
        _ => name,
    };
    for (from, to) in RENAMED {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    name.to_owned()
}

/// The name in the published llava-hf checkpoints of a parameter path.
pub(super) fn published(path: &str) -> String {
    let leaf = LEAVES.iter().find_map(|(here, file)| Some((path.strip_suffix(here)?, file)));
    let name = leaf.map_or_else(|| path.to_owned(), |(stem, file)| format!("{stem}{file}"));
    match RENAMED.iter().find_map(|(published, here)| Some((published, name.strip_prefix(here)?))) {
        Some((published, rest)) => format!("{published}{rest}"),
        None => name,
    }
}

/// Ends of parameter paths, and the ends of names in files: norms and embeddings have other names
/// in burn.
const LEAVES: [(&str, &str); 5] = [
    (".gamma", ".weight"),
    (".beta", ".bias"),
    (".embed_tokens", ".embed_tokens.weight"),
    (".patch_embedding", ".patch_embedding.weight"),
    (".position_embedding", ".position_embedding.weight"),
];

const PARTS: [&str; 3] = ["vision_tower.", "multi_modal_projector.", "language_model."];

const RENAMED: [(&str, &str); 3] = [
    ("vision_tower.vision_model.", "vision_tower."),
    ("language_model.model.", "language_model."),
    ("language_model.lm_head.", "lm_head."),
];

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn both_spellings_give_one_name() {
        for (published, v5) in [
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
            ("vision_tower.vision_model.pre_layrnorm.bias", "model.vision_tower.pre_layrnorm.bias"),
            ("vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
            ("multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"),
        ] {
            assert_eq!(canonical(published), canonical(v5));
            assert_eq!(canonical(&canonical(published)), canonical(published));
        }
    }
}
