//! Whether a `config.json` describes a model that can be built here.

use std::path::Path;

use bpo_pairs::Limits;

use super::config::SmolVlmConfig;
use crate::error::ModelError;
use crate::families::check::Check;

impl SmolVlmConfig {
    /// Checks sizes, their relations and the rotary settings.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for the first value that cannot be used, and
    /// [`ModelError::OverLimit`] for the first size above its limit.
    pub(super) fn check(&self, path: &Path) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        let check = Check { path };
        check.vit(&self.vision_config.vit())?;
        check.decoder(&self.text_config, "text_config.")?;
        check.sizes(&[("scale_factor", self.scale_factor, LIMITS.image_side)])?;
        // both are bounded, so the product fits
        let inner = self.vision_config.hidden_size.saturating_mul(self.scale_factor * self.scale_factor);
        check.within("scale_factor (width of the connector's input)", inner, LIMITS.width)
    }
}
