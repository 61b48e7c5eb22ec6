//! Whether images can be split into tiles as a `config.json` says.

use std::path::Path;

use bpo_pairs::Limits;

use super::config::LlavaNextConfig;
use super::kind::{ASPECT, Kind, PINPOINTS};
use crate::error::ModelError;

const LIMITS: Limits = Limits::DEFAULT;

impl LlavaNextConfig {
    /// Checks the resolutions, and that each patch of a tile gives one feature.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] and [`ModelError::OverLimit`].
    pub(super) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let refuse = |key: &str, found: String, supported: String| {
            Err(ModelError::Unsupported { path: path.into(), key: key.into(), found, supported })
        };
        let vision = &self.llava.vision_config;
        let patches = vision.image_size / vision.patch_size;
        if self.llava.image_tokens() != patches * patches {
            let key = "vision_feature_select_strategy";
            let found = format!("one that gives {} features for a tile", self.llava.image_tokens());
            let supported = format!("one feature for each of its {} patches", patches * patches);
            return refuse(key, found, supported);
        }
        let pinpoints = &self.image_grid_pinpoints;
        if pinpoints.is_empty() {
            return refuse(PINPOINTS, "empty".to_owned(), "one or more resolutions".to_owned());
        }
        within(path, PINPOINTS, pinpoints.len(), LIMITS.ids)?;
        let side = vision.image_size;
        for [height, width] in pinpoints {
            within(path, PINPOINTS, height.saturating_mul(*width), LIMITS.resized_pixels)?;
            if [height, width].into_iter().any(|pixels| *pixels == 0 || !pixels.is_multiple_of(side)) {
                let supported = format!("multiples of vision_config.image_size, which is {side}");
                return refuse(PINPOINTS, format!("[{height}, {width}]"), supported);
            }
        }
        Ok(())
    }
}

impl Kind {
    /// The number in `vision_aspect_ratio`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`].
    pub(super) fn max_tiles(self, ratio: Option<&str>, path: &Path) -> Result<Option<usize>, ModelError> {
        // transformers reads the key in LLaVA-OneVision only
        let Some(ratio) = ratio.filter(|_| self == Self::OneVision) else { return Ok(None) };
        let number = ratio.strip_prefix("anyres_max_").and_then(|number| number.parse::<usize>().ok());
        let Some(number) = number.filter(|number| *number > 0) else {
            let (path, key, found) = (path.into(), ASPECT.to_owned(), ratio.to_owned());
            let supported = "anyres_max_ and a number, as in anyres_max_9".to_owned();
            return Err(ModelError::Unsupported { path, key, found, supported });
        };
        within(path, ASPECT, number, LIMITS.width)?;
        Ok(Some(number))
    }
}

fn within(path: &Path, key: &str, found: usize, limit: usize) -> Result<(), ModelError> {
    if found <= limit {
        return Ok(());
    }
    let (path, key) = (path.into(), key.to_owned());
    Err(ModelError::OverLimit { path, key, found: found as u64, limit: limit as u64 })
}
