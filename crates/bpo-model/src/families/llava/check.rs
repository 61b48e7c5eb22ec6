//! Whether a `config.json` describes a model that can be built here.

use std::path::Path;

use super::config::LlavaConfig;
use crate::error::ModelError;
use crate::families::check::Check;
use bpo_pairs::Limits;

impl LlavaConfig {
    /// Checks sizes, their relations and the rotary settings.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for the first value that cannot be used, and
    /// [`ModelError::OverLimit`] for the first size above its limit.
    pub(super) fn check(&self, path: &Path) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        let (check, vision) = (Check { path }, &self.vision_config);
        check.sizes(&[
            ("vision_config.hidden_size", vision.hidden_size, LIMITS.width),
            ("vision_config.intermediate_size", vision.intermediate_size, LIMITS.width),
            ("vision_config.num_attention_heads", vision.num_attention_heads, LIMITS.heads),
            ("vision_config.num_hidden_layers", vision.num_hidden_layers, LIMITS.layers),
            ("vision_config.num_channels", vision.num_channels, LIMITS.width),
            ("vision_config.image_size", vision.image_size, LIMITS.image_side),
            ("vision_config.patch_size", vision.patch_size, LIMITS.image_side),
        ])?;
        // the side is bounded, so the product fits
        check.within("vision_config.image_size (patches of an image)", vision.patches(), LIMITS.width)?;
        check.within("vision_feature_layer (layers)", self.feature_layers().len(), LIMITS.layers)?;
        if vision.image_size < vision.patch_size {
            return check.refuse("vision_config.image_size", vision.image_size, "at least patch_size");
        }
        if !vision.hidden_size.is_multiple_of(vision.num_attention_heads) {
            let supported = "a multiple of num_attention_heads";
            return check.refuse("vision_config.hidden_size", vision.hidden_size, supported);
        }
        check.decoder(&self.text_config, "text_config.")?;
        let layers = self.feature_layers();
        if layers.is_empty() || layers.iter().any(|layer| *layer > vision.num_hidden_layers) {
            let supported = "an index of the vision tower's hidden states";
            return check.refuse("vision_feature_layer", &self.vision_feature_layer, supported);
        }
        Ok(())
    }
}
