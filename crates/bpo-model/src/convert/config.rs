//! `config.json` of LLaVA's original code.

use std::path::{Path, PathBuf};

use bpo_pairs::{Untrusted, UntrustedPath};
use serde_json::{Map, Value, json};

use super::tokenizer::Tokens;
use crate::error::ModelError;
use crate::json::read_json;

/// Keys of the original `config.json` that do not belong to the language model.
const NOT_OF_TEXT: [&str; 12] = [
    "_name_or_path",
    "architectures",
    "auto_map",
    "freeze_mm_mlp_adapter",
    "image_aspect_ratio",
    "image_crop_resolution",
    "image_grid_pinpoints",
    "image_split_resolution",
    "model_type",
    "transformers_version",
    "use_mm_proj",
    "vision_config",
];

/// Keys of the original `config.json` whose values are texts.
const TEXTS: [&str; 5] =
    ["mm_vision_tower", "mm_projector_type", "image_aspect_ratio", "mm_vision_select_feature", "model_type"];

/// The configuration of an original checkpoint and of its vision tower.
pub(super) struct Original {
    path: PathBuf,
    config: Map<String, Value>,
    vision: Map<String, Value>,
    /// Whether the tower's `config.json` has the tower in `vision_config`.
    pub(super) tower_is_nested: bool,
    /// The `model_type` of the language model.
    text_type: &'static str,
    /// Settings of the tower's image processor.
    pub(super) images: Map<String, Value>,
}

impl Original {
    /// Reads and checks the configurations.
    pub(super) fn read(dir: &Path, vision_tower: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        if !path.exists() {
            return Err(ModelError::NoConfig { dir: dir.into() });
        }
        let config: Map<String, Value> = read_json(&path)?;
        let mut tower: Map<String, Value> = read_json(&vision_tower.join("config.json"))?;
        let tower_is_nested = tower.get("vision_config").is_some_and(Value::is_object);
        let tower_name = tower.get("_name_or_path").and_then(Value::as_str).map(str::to_owned);
        // CLIP with its text model has the tower's configuration inside
        let vision = match tower.remove("vision_config") {
            Some(Value::Object(mut inner)) => {
                inner.entry("model_type").or_insert_with(|| vision_type(&tower).into());
                inner
            }
            _ => tower,
        };
        let images = read_json(&vision_tower.join("preprocessor_config.json"))?;
        let mut original = Self { path, config, vision, tower_is_nested, text_type: "llama", images };
        original.text_type = original.check()?;
        original.check_tower(vision_tower, tower_name.as_deref())?;
        Ok(original)
    }

    /// Checks that the converted format has everything that the checkpoint uses. Returns the
    /// `model_type` of the language model.
    fn check(&self) -> Result<&'static str, ModelError> {
        if ["mm_vision_tower", "mm_projector_type"].iter().all(|key| !self.config.contains_key(*key)) {
            return self.refuse("mm_vision_tower", "missing", "a checkpoint of LLaVA's original code");
        }
        for key in TEXTS {
            if let Some(found) = self.config.get(key).filter(|value| !value.is_null() && !value.is_string()) {
                return self.refuse(key, &found.to_string(), "a text");
            }
        }
        let projector = self.text("mm_projector_type").unwrap_or("linear");
        if projector != "mlp2x_gelu" {
            return self.refuse("mm_projector_type", projector, "mlp2x_gelu");
        }
        let aspect = self.text("image_aspect_ratio").unwrap_or("square");
        if !["square", "pad"].contains(&aspect) {
            let supported = "square, pad (others are those of LLaVA-NeXT: use its llava-hf checkpoint)";
            return self.refuse("image_aspect_ratio", aspect, supported);
        }
        let feature = self.text("mm_vision_select_feature").unwrap_or("patch");
        if !["patch", "cls_patch"].contains(&feature) {
            return self.refuse("mm_vision_select_feature", feature, "patch, cls_patch");
        }
        for key in ["mm_use_im_start_end", "use_s2", "s2", "mm_resampler_type"] {
            match self.config.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(found) => return self.refuse(key, &found.to_string(), "not set"),
            }
        }
        match self.text("model_type").unwrap_or("llava_llama") {
            "llava" | "llava_llama" | "llama" => Ok("llama"),
            "llava_mistral" | "mistral" => Ok("mistral"),
            "llava_qwen" | "qwen2" => Ok("qwen2"),
            other => self.refuse("model_type", other, "llava_llama, llava_mistral, llava_qwen"),
        }
    }

    /// Checks that the tower is the one that the checkpoint names, by its width and by what its name
    /// says of its sizes.
    fn check_tower(&self, tower: &Path, name: Option<&str>) -> Result<(), ModelError> {
        let config = self.path.display();
        let mut expected = Vec::new();
        if let Some(width) = self.config.get("mm_hidden_size").and_then(Value::as_u64) {
            expected.push(("hidden_size", width, format!("mm_hidden_size in {config}")));
        }
        let Some(wanted) = self.text("mm_vision_tower") else { return Ok(()) };
        for (key, size) in sizes_in(wanted) {
            expected.push((key, size, format!("mm_vision_tower in {config} is {wanted}")));
        }
        for (key, size, reason) in expected {
            let found = self.vision.get(key).and_then(Value::as_u64);
            if let Some(found) = found.filter(|found| *found != size) {
                return Err(ModelError::Unsupported {
                    path: tower.join("config.json"),
                    key: if self.tower_is_nested { format!("vision_config.{key}") } else { key.to_owned() },
                    found: found.to_string(),
                    supported: format!("{size} ({reason}). Give that tower with --vision-tower"),
                });
            }
        }
        let is_named = |name: &str| name.contains(last_part(wanted));
        if !is_named(&tower.to_string_lossy()) && !name.is_some_and(is_named) {
            let (tower, wanted) = (UntrustedPath(tower), Untrusted(wanted));
            tracing::warn!(
                "{tower}: neither the directory nor its config.json says that this is {wanted}, the vision tower \
                 that the checkpoint names"
            );
        }
        Ok(())
    }

    fn refuse<T>(&self, key: &str, found: &str, supported: &str) -> Result<T, ModelError> {
        let (key, found, supported) = (key.to_owned(), found.to_owned(), supported.to_owned());
        Err(ModelError::Unsupported { path: self.path.clone(), key, found, supported })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.config.get(key).and_then(Value::as_str)
    }

    /// Whether the original code pads images to a square.
    pub(super) fn pads(&self) -> bool {
        self.text("image_aspect_ratio") == Some("pad")
    }

    /// Whether the tokenizer keeps its padding token, as in transformers' script.
    pub(super) fn keeps_padding(&self) -> bool {
        self.text_type == "qwen2"
    }

    /// Whether the conversations of the original code are those of Vicuna.
    pub(super) fn is_vicuna(&self) -> bool {
        self.text_type == "llama"
    }

    /// The setting `vision_feature_select_strategy`. SigLIP has no class token that could be
    /// dropped.
    pub(super) fn select_strategy(&self) -> &'static str {
        let keeps_class = self.text("mm_vision_select_feature") == Some("cls_patch");
        if keeps_class || !self.has_class_token() { "full" } else { "default" }
    }

    fn has_class_token(&self) -> bool {
        vision_type(&self.vision) != "siglip_vision_model"
    }

    /// The number of features of an image without a class token, if the tower's sizes are given.
    pub(super) fn patches(&self) -> Option<u64> {
        let size = |key| self.vision.get(key).and_then(Value::as_u64);
        let side = size("image_size")?.checked_div(size("patch_size")?)?;
        side.checked_mul(side)
    }

    /// The settings of `processor_config.json`.
    pub(super) fn processor(&self) -> Value {
        let mut settings = json!({
            "image_token": "<image>",
            "num_additional_image_tokens": u32::from(self.has_class_token()),
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": self.select_strategy(),
        });
        if let Some(patch) = self.vision.get("patch_size") {
            settings["patch_size"] = patch.clone();
        }
        settings
    }

    /// The `config.json` of the converted checkpoint. `rows` are the rows of its embedding.
    pub(super) fn converted(&self, tokens: &Tokens, rows: usize) -> Value {
        let of_text = |key: &str| {
            let is_of_images =
                ["mm_", "tune_", "unfreeze_", "tokenizer_"].iter().any(|start| key.starts_with(start));
            !is_of_images && !NOT_OF_TEXT.contains(&key)
        };
        let mut text: Map<String, Value> = self
            .config
            .iter()
            .filter(|(key, _)| of_text(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        text.insert("model_type".to_owned(), self.text_type.into());
        text.insert("vocab_size".to_owned(), rows.into());
        text.insert("pad_token_id".to_owned(), tokens.pad.into());
        let mut vision = self.vision.clone();
        vision.insert("model_type".to_owned(), vision_type(&self.vision).into());
        let tied = self.config.get("tie_word_embeddings").cloned().unwrap_or(Value::Bool(false));
        let layer = self.config.get("mm_vision_select_layer").filter(|layer| !layer.is_null());
        let layer = layer.cloned().unwrap_or_else(|| json!(-2));
        let mut config = json!({
            "architectures": ["LlavaForConditionalGeneration"],
            "image_token_index": tokens.image,
            "model_type": "llava",
            "multimodal_projector_bias": true,
            "pad_token_id": tokens.pad,
            "projector_hidden_act": "gelu",
            "text_config": text,
            "tie_word_embeddings": tied,
            "vision_config": vision,
            "vision_feature_layer": layer,
            "vision_feature_select_strategy": self.select_strategy(),
        });
        for key in ["torch_dtype", "dtype"] {
            if let Some(dtype) = self.config.get(key) {
                config[key] = dtype.clone();
            }
        }
        if let Some(patches) = self.patches() {
            let class = u64::from(self.has_class_token() && self.select_strategy() == "full");
            config["image_seq_length"] = (patches + class).into();
        }
        config
    }
}

/// The sizes in the name of a vision tower: `openai/clip-vit-large-patch14-336` has patches of 14
/// and images of 336. OpenAI's names without a size are those of images of 224.
fn sizes_in(name: &str) -> Vec<(&'static str, u64)> {
    let is_openai = name.starts_with("openai/clip-vit-");
    let parts: Vec<&str> = last_part(name).split('-').collect();
    let patch = |part: &&str| part.strip_prefix("patch").and_then(|size| size.parse().ok());
    let Some((at, patch)) = parts.iter().enumerate().find_map(|(at, part)| Some((at, patch(part)?))) else {
        return Vec::new();
    };
    let image = parts.get(at + 1).and_then(|size| size.parse().ok());
    let image = image.or(is_openai.then_some(224));
    [("patch_size", patch)].into_iter().chain(image.map(|size| ("image_size", size))).collect()
}

/// The last component of a name or path.
fn last_part(name: &str) -> &str {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or(name)
}

/// The `model_type` of a vision tower, by its own configuration or that of the model around it.
fn vision_type(config: &Map<String, Value>) -> &'static str {
    match config.get("model_type").and_then(Value::as_str) {
        Some(kind) if kind.starts_with("siglip") => "siglip_vision_model",
        _ => "clip_vision_model",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_towers_have_sizes() {
        let (patch, image) = ("patch_size", "image_size");
        for (name, expected) in [
            ("openai/clip-vit-large-patch14-336", &[(patch, 14), (image, 336)][..]),
            ("openai/clip-vit-large-patch14", &[(patch, 14), (image, 224)]),
            ("google/siglip-so400m-patch14-384", &[(patch, 14), (image, 384)]),
            ("openai/clip-vit-large-patch14-336/", &[(patch, 14), (image, 336)]),
            ("clip-vit-large-patch14", &[(patch, 14)]),
            ("org/my-patch14-336-tuned-2", &[(patch, 14), (image, 336)]),
            ("org/my-patch14-tuned-2", &[(patch, 14)]),
            ("org/my-336-tower", &[]),
            ("", &[]),
        ] {
            assert_eq!(sizes_in(name), expected, "{name}");
        }
    }
}
