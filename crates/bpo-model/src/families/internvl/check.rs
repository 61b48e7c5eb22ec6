//! Whether a `config.json` describes a model that can be built here.

use std::path::Path;

use bpo_pairs::Limits;

use super::config::InternVlConfig;
use crate::error::ModelError;
use crate::families::check::Check;
use crate::families::llava::{FeatureLayer, FeatureSelect};
use crate::vision::{VitConfig, VitKind};

impl InternVlConfig {
    /// Checks sizes, their relations, the choice of image features and the rotary settings.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for the first value that cannot be used, and
    /// [`ModelError::OverLimit`] for the first size above its limit.
    pub(super) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let check = Check { path };
        let vision = &self.vision_config;
        for (key, [height, width]) in
            [("vision_config.image_size", vision.image_size), ("vision_config.patch_size", vision.patch_size)]
        {
            if height != width {
                return check.refuse(key, format!("[{height}, {width}]"), "a square");
            }
        }
        check.vit(&self.vit())?;
        check.decoder(&self.text_config, "text_config.")?;
        if self.vision_feature_layer != FeatureLayer::One(-1) {
            return check.refuse("vision_feature_layer", &self.vision_feature_layer, "-1, the last layer");
        }
        if self.vision_feature_select_strategy != FeatureSelect::Default {
            let supported = "default, because the patches are a square only without the class token";
            return check.refuse("vision_feature_select_strategy", "full", supported);
        }
        const RATIO: &str = "downsample_ratio";
        let (inverse, side) = (1.0 / self.downsample_ratio, vision.side());
        // not a number fails each comparison
        if !(inverse >= 1.0 && inverse <= side as f64 && inverse.fract() == 0.0) {
            let supported = format!("1 divided by a whole number from 1 to {side}, the patches along a side");
            return check.refuse(RATIO, self.downsample_ratio, &supported);
        }
        let square = self.square();
        if !side.is_multiple_of(square) {
            let found = format!("{}, for squares of {square} patches along a side", self.downsample_ratio);
            let supported = format!("squares that fill the {side} patches along a side of a tile");
            return check.refuse(RATIO, found, &supported);
        }
        // all are bounded, so the product fits
        let inner = vision.hidden_size.saturating_mul(square * square);
        check.within("downsample_ratio (width of the projector's input)", inner, Limits::DEFAULT.width)
    }

    /// The sizes of the vision transformer.
    fn vit(&self) -> VitConfig {
        let vision = &self.vision_config;
        VitConfig {
            hidden_size: vision.hidden_size,
            intermediate_size: vision.intermediate_size,
            num_hidden_layers: vision.num_hidden_layers,
            num_attention_heads: vision.num_attention_heads,
            num_channels: vision.num_channels,
            image_size: vision.image_size[0],
            patch_size: vision.patch_size[0],
            ..VitConfig::of_kind(VitKind::Clip)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decoder::DecoderKind;
    use crate::families::Family;

    /// Reads a small configuration with another value at a key of the whole or of the vision tower.
    fn read(key: &str, value: Value) -> Result<InternVlConfig, ModelError> {
        let part = json!({"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2});
        let mut config = json!({"vision_config": part, "text_config": part});
        config["vision_config"]["image_size"] = json!([42, 42]);
        config["vision_config"]["patch_size"] = json!(7);
        match key.strip_prefix("vision_config.") {
            Some(key) => config["vision_config"][key] = value,
            None => config[key] = value,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        InternVlConfig::read(&path)
    }

    #[test]
    fn missing_keys_have_the_defaults_of_transformers() {
        let config = read("unknown", Value::from(1)).unwrap();
        assert_eq!((config.image_token(), config.square(), config.tile_tokens()), (Some(151_667), 2, 9));
        assert_eq!(config.text_config.model_type, DecoderKind::Qwen2);
        assert!(config.is_tied());
        let vision = &config.vision_config;
        assert_eq!((vision.patch_size, vision.num_hidden_layers, vision.tokens()), ([7, 7], 24, 37));
    }

    #[test]
    fn values_that_cannot_be_used_name_their_key() {
        for (key, value) in [
            ("vision_config.image_size", json!([42, 56])),
            ("vision_config.image_size", json!(0)),
            ("vision_config.patch_size", json!([7, 14])),
            ("vision_config.patch_size", json!([7, 7, 7])),
            ("vision_config.hidden_size", json!(9)),
            ("vision_config.norm_type", json!("batch_norm")),
            ("vision_feature_layer", json!(-2)),
            ("vision_feature_layer", json!([-1])),
            ("vision_feature_select_strategy", json!("full")),
            ("downsample_ratio", json!(0)),
            ("downsample_ratio", json!(-0.5)),
            ("downsample_ratio", json!(2.0)),
            ("downsample_ratio", json!(0.3)),
            ("downsample_ratio", json!(0.25)),
            ("downsample_ratio", json!(1e-300)),
        ] {
            let error = read(key, value).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{key}: {error}");
        }
        assert_eq!(read("downsample_ratio", json!(1.0)).unwrap().tile_tokens(), 36);
    }
}
