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
