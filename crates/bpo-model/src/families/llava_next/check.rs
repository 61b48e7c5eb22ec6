//! Whether images can be split into tiles as a `config.json` says.

use std::path::Path;

use bpo_pairs::Limits;

use super::config::LlavaNextConfig;
use super::kind::{ASPECT, Kind, PINPOINTS};
use crate::error::ModelError;
use crate::families::check::Check;

const LIMITS: Limits = Limits::DEFAULT;

impl LlavaNextConfig {
    /// Checks the resolutions, and that each patch of a tile gives one feature.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] and [`ModelError::OverLimit`].
    pub(super) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let check = Check { path };
        let (vision, features) = (&self.llava.vision_config, self.llava.image_tokens());
        if features != vision.patches() {
            let found = format!("one that gives {features} features for a tile");
            let supported = format!("one feature for each of its {} patches", vision.patches());
            return check.refuse("vision_feature_select_strategy", found, &supported);
        }
        let resolutions = &self.image_grid_pinpoints;
        if resolutions.is_empty() {
            return check.refuse(PINPOINTS, "empty", "one or more resolutions");
        }
        check.within(PINPOINTS, resolutions.len(), LIMITS.ids)?;
        let side = vision.image_size;
        for [height, width] in resolutions {
            check.within(PINPOINTS, height.saturating_mul(*width), LIMITS.resized_pixels)?;
            if [height, width].into_iter().any(|pixels| *pixels == 0 || !pixels.is_multiple_of(side)) {
                let supported = format!("multiples of vision_config.image_size, which is {side}");
                return check.refuse(PINPOINTS, format!("[{height}, {width}]"), &supported);
            }
        }
        Ok(())
    }
}

impl Kind {
    /// The number in `vision_aspect_ratio`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] and [`ModelError::OverLimit`].
    pub(super) fn max_tiles(self, ratio: Option<&str>, path: &Path) -> Result<Option<usize>, ModelError> {
        // transformers reads the key in LLaVA-OneVision only
        let Some(ratio) = ratio.filter(|_| self == Self::OneVision) else { return Ok(None) };
        let check = Check { path };
        let number = ratio.strip_prefix("anyres_max_").and_then(|number| number.parse().ok());
        match number.filter(|number| *number > 0) {
            Some(number) => check.within(ASPECT, number, LIMITS.width).map(|()| Some(number)),
            None => {
                check.refuse(ASPECT, ratio, "anyres_max_ and a number, as in anyres_max_9").map(|()| None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::families::Family;
    use crate::vision::TowerTokens;

    /// Reads a small configuration with other values at some of its keys.
    fn read(kind: Kind, changes: &[(&str, Value)]) -> Result<LlavaNextConfig, ModelError> {
        let part = json!({"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2});
        let mut config = json!({"vision_config": part, "text_config": part, PINPOINTS: [[60, 30]]});
        config["vision_config"]["image_size"] = json!(30);
        config["vision_config"]["patch_size"] = json!(7);
        for (key, value) in changes {
            config[*key] = value.clone();
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        LlavaNextConfig::read(&path, kind)
    }

    #[test]
    fn missing_keys_have_the_defaults_of_their_family() {
        let [next, onevision] = [Kind::Next, Kind::OneVision].map(|kind| read(kind, &[]).unwrap());
        assert_eq!(
            (next.image_token(), next.max_tiles, next.tower_sizes().tokens),
            (Some(32_000), None, TowerTokens::PerTile(17))
        );
        let found = (onevision.image_token(), onevision.max_tiles, onevision.tower_sizes().tokens);
        assert_eq!(found, (Some(151_646), Some(9), TowerTokens::PerTile(16)));
        assert_eq!(next.llava.feature_layers(), [11]);
        assert_eq!(onevision.llava.feature_layers(), [12]);
        // the default resolutions are those of another side
        for kind in [Kind::Next, Kind::OneVision] {
            let error = read(kind, &[(PINPOINTS, Value::Null)]).unwrap_err().to_string();
            assert!(error.contains(PINPOINTS) && error.contains("which is 30"), "{error}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_name_their_key() {
        for (kind, key, value) in [
            (Kind::Next, PINPOINTS, json!([])),
            (Kind::Next, PINPOINTS, json!([[30, 0]])),
            (Kind::Next, PINPOINTS, json!([[30, 45]])),
            (Kind::Next, PINPOINTS, json!([[u64::MAX, 30]])),
            (Kind::Next, PINPOINTS, json!([[30, 30, 30]])),
            (Kind::Next, "vision_feature_select_strategy", json!("full")),
            (Kind::OneVision, "vision_feature_select_strategy", json!("default")),
            (Kind::OneVision, ASPECT, json!("pad")),
            (Kind::OneVision, ASPECT, json!("anyres_max_0")),
            (Kind::OneVision, ASPECT, json!("anyres_max_99999999999")),
        ] {
            let error = read(kind, &[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{key}: {error}");
        }
        // LLaVA-NeXT does not have the key
        assert!(read(Kind::Next, &[(ASPECT, json!("pad"))]).is_ok());
    }
}
