//! Whether a `config.json` describes a model that can be built here.

use std::path::Path;

use bpo_pairs::Limits;

use super::config::LlavaConfig;
use crate::error::ModelError;
use crate::families::check::Check;

impl LlavaConfig {
    /// Checks sizes, their relations and the rotary settings.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for the first value that cannot be used, and
    /// [`ModelError::OverLimit`] for the first size above its limit.
    pub(in crate::families) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let check = Check { path };
        check.vit(&self.vision_config)?;
        check.decoder(&self.text_config, "text_config.")?;
        let layers = self.feature_layers();
        check.within("vision_feature_layer (layers)", layers.len(), Limits::DEFAULT.layers)?;
        if layers.is_empty() || layers.iter().any(|layer| *layer > self.vision_config.num_hidden_layers) {
            let supported = "an index of the vision tower's hidden states";
            return check.refuse("vision_feature_layer", &self.vision_feature_layer, supported);
        }
        if self.image_tokens() == 0 {
            let supported = "full, because an image has one token";
            return check.refuse("vision_feature_select_strategy", "default", supported);
        }
        Ok(())
    }
}
