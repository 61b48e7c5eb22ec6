//! Whether a `config.json` describes a model that can be built here.

use std::path::Path;

use bpo_pairs::Limits;

use super::config::{QwenVlConfig, VisionKeys};
use crate::error::ModelError;
use crate::families::check::Check;

impl QwenVlConfig {
    /// Checks sizes, their relations and the rotary settings. `prefix` is that of the keys of the
    /// language model.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for the first value that cannot be used, and
    /// [`ModelError::OverLimit`] for the first size above its limit.
    pub(super) fn check(&self, path: &Path, keys: &VisionKeys, prefix: &str) -> Result<(), ModelError> {
        let check = Check { path };
        check.decoder(&self.text_config, prefix)?;
        self.tower(&check, keys)?;
        let (text, out) = (self.text_config.hidden_size, self.vision_config.out_hidden_size);
        if out != text {
            let key = match self.generation {
                super::QwenGeneration::Qwen2 => "vision_config.hidden_size",
                _ => "vision_config.out_hidden_size",
            };
            return check.refuse(key, out, &format!("the hidden_size of the language model, {text}"));
        }
        Ok(())
    }

    fn tower(&self, check: &Check<'_>, keys: &VisionKeys) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        let vision = &self.vision_config;
        check.sizes(&[
            ("vision_config.depth", vision.depth, LIMITS.layers),
            ("vision_config.hidden_size", vision.hidden_size, LIMITS.width),
            ("vision_config.intermediate_size", vision.intermediate_size, LIMITS.width),
            ("vision_config.out_hidden_size", vision.out_hidden_size, LIMITS.width),
            ("vision_config.num_heads", vision.num_heads, LIMITS.heads),
            ("vision_config.patch_size", vision.patch_size, LIMITS.image_side),
            ("vision_config.spatial_merge_size", vision.spatial_merge_size, LIMITS.image_side),
            ("vision_config.temporal_patch_size", vision.temporal_patch_size, LIMITS.image_side),
        ])?;
        let token = vision.hidden_size.saturating_mul(vision.merged());
        check.within("vision_config.spatial_merge_size (width of a token)", token, LIMITS.width)?;
        let side = vision.patch_size * vision.spatial_merge_size;
        check.within("vision_config.patch_size (side of a token)", side, LIMITS.image_side)?;
        let patch = side.saturating_mul(side).saturating_mul(vision.temporal_patch_size);
        check.within("vision_config.patch_size (pixels of a token)", patch, LIMITS.resized_pixels)?;
        if !vision.hidden_size.is_multiple_of(4 * vision.num_heads) {
            let supported = "a multiple of 4 times num_heads";
            return check.refuse("vision_config.hidden_size", vision.hidden_size, supported);
        }
        if keys.in_channels != 3 {
            return check.refuse("vision_config.in_channels", keys.in_channels, "3");
        }
        if !(vision.rope_theta.is_finite() && vision.rope_theta > 0.0) {
            let key = "vision_config.rope_parameters.rope_theta";
            return check.refuse(key, vision.rope_theta, "a finite number above 0");
        }
        let rope = keys.rope_parameters.as_ref().and_then(|rope| rope.kind());
        if let Some(kind) = rope.filter(|kind| *kind != "axial") {
            return check.refuse("vision_config.rope_parameters.rope_type", kind, "axial");
        }
        if vision.windows.as_ref().is_some_and(|windows| windows.side == 0) {
            let supported = "at least one image token (patch_size x spatial_merge_size)";
            return check.refuse("vision_config.window_size", "less", supported);
        }
        if let Some(side) = vision.position_side {
            let found = keys.num_position_embeddings.unwrap_or(0);
            if side == 0 || found != side.saturating_mul(side) {
                let key = "vision_config.num_position_embeddings";
                return check.refuse(key, found, "the square of a whole number above 0");
            }
            check.within("vision_config.num_position_embeddings", found, LIMITS.vocabulary)?;
        }
        let depths = &vision.deepstack_layers;
        let ascends = depths.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascends || depths.last().is_some_and(|last| *last >= vision.depth) {
            let key = "vision_config.deepstack_visual_indexes";
            return check.refuse(key, format!("{depths:?}"), "ascending numbers of layers, from 0");
        }
        Ok(())
    }
}
