//! Whether a `config.json` describes a model that can be built here.

use std::path::Path;

use super::config::LlavaConfig;
use crate::error::ModelError;
use bpo_pairs::Limits;

impl LlavaConfig {
    /// Checks sizes, their relations and the rotary settings.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for the first value that cannot be used, and
    /// [`ModelError::OverLimit`] for the first size above its limit.
    pub(in crate::families) fn check(&self, path: &Path) -> Result<(), ModelError> {
        let check = Check { config: self, path };
        check.sizes()?;
        check.relations()?;
        check.rope()
    }
}

struct Check<'a> {
    config: &'a LlavaConfig,
    path: &'a Path,
}

impl Check<'_> {
    fn refuse(&self, key: &str, found: impl ToString, supported: &str) -> Result<(), ModelError> {
        Err(ModelError::Unsupported {
            path: self.path.into(),
            key: key.into(),
            found: found.to_string(),
            supported: supported.into(),
        })
    }

    /// Every size is at least 1 and within its limit, so that nothing that follows overflows.
    fn sizes(&self) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        let (vision, text) = (&self.config.vision_config, &self.config.text_config);
        let sizes = [
            ("vision_config.hidden_size", vision.hidden_size, LIMITS.width),
            ("vision_config.intermediate_size", vision.intermediate_size, LIMITS.width),
            ("vision_config.num_attention_heads", vision.num_attention_heads, LIMITS.heads),
            ("vision_config.num_hidden_layers", vision.num_hidden_layers, LIMITS.layers),
            ("vision_config.num_channels", vision.num_channels, LIMITS.width),
            ("vision_config.image_size", vision.image_size, LIMITS.image_side),
            ("vision_config.patch_size", vision.patch_size, LIMITS.image_side),
            ("text_config.hidden_size", text.hidden_size, LIMITS.width),
            ("text_config.intermediate_size", text.intermediate_size, LIMITS.width),
            ("text_config.num_attention_heads", text.num_attention_heads, LIMITS.heads),
            ("text_config.num_hidden_layers", text.num_hidden_layers, LIMITS.layers),
            ("text_config.vocab_size", text.vocab_size, LIMITS.vocabulary),
            ("text_config.max_position_embeddings", text.max_position_embeddings, LIMITS.positions),
            ("text_config.num_key_value_heads", text.kv_heads(), LIMITS.heads),
            ("text_config.head_dim", text.head_dim(), LIMITS.head_dim),
        ];
        for (key, found, limit) in sizes {
            if found == 0 {
                return self.refuse(key, found, "1 or more");
            }
            self.within(key, found, limit)?;
        }
        // `sizes` bounds the side, so the product fits
        self.within("vision_config.image_size (patches of an image)", vision.patches(), LIMITS.width)?;
        self.within("vision_feature_layer (layers)", self.config.feature_layers().len(), LIMITS.layers)
    }

    fn within(&self, key: &str, found: usize, limit: usize) -> Result<(), ModelError> {
        if found <= limit {
            return Ok(());
        }
        let (path, key) = (self.path.into(), key.to_owned());
        Err(ModelError::OverLimit { path, key, found: found as u64, limit: limit as u64 })
    }

    fn relations(&self) -> Result<(), ModelError> {
        let (vision, text) = (&self.config.vision_config, &self.config.text_config);
        if vision.image_size < vision.patch_size {
            return self.refuse("vision_config.image_size", vision.image_size, "at least patch_size");
        }
        if !vision.hidden_size.is_multiple_of(vision.num_attention_heads) {
            let supported = "a multiple of num_attention_heads";
            return self.refuse("vision_config.hidden_size", vision.hidden_size, supported);
        }
        if !text.num_attention_heads.is_multiple_of(text.kv_heads()) {
            let supported = "a divisor of num_attention_heads";
            return self.refuse("text_config.num_key_value_heads", text.kv_heads(), supported);
        }
        if !text.head_dim().is_multiple_of(2) {
            return self.refuse("text_config.head_dim", text.head_dim(), "an even number");
        }
        let layers = self.config.feature_layers();
        if layers.is_empty() || layers.iter().any(|layer| *layer > vision.num_hidden_layers) {
            let supported = "an index of the vision tower's hidden states";
            return self.refuse("vision_feature_layer", &self.config.vision_feature_layer, supported);
        }
        Ok(())
    }

    fn rope(&self) -> Result<(), ModelError> {
        let rope = self.config.text_config.rope();
        let positive = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value > 0.0);
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let numbers = [
            ("rope_theta", rope.rope_theta),
            ("factor", rope.factor),
            ("low_freq_factor", rope.low_freq_factor),
            ("high_freq_factor", rope.high_freq_factor),
        ];
        if let Some((key, value)) = numbers.into_iter().find(|(_, value)| !positive(*value)) {
            let key = format!("text_config.rope_parameters.{key}");
            return self.refuse(&key, shown(value), "a finite number above 0");
        }
        let has_factors = match rope.kind() {
            None | Some("default") => true,
            Some("linear") => rope.factor.is_some(),
            Some("llama3") => {
                rope.factor.is_some()
                    && rope.low_freq_factor.is_some()
                    && rope.high_freq_factor.is_some()
                    && rope.original_max_position_embeddings.is_some_and(|context| context > 0)
            }
            Some(other) => {
                let key = "text_config.rope_scaling.rope_type";
                return self.refuse(key, other, "default, linear, llama3");
            }
        };
        if !has_factors {
            let kind = rope.kind().unwrap_or_default();
            let found = format!("{kind} without its factors");
            return self.refuse("text_config.rope_scaling", found, "all of its factors");
        }
        if rope.kind() == Some("llama3") && rope.high_freq_factor <= rope.low_freq_factor {
            let key = "text_config.rope_parameters.high_freq_factor";
            return self.refuse(key, shown(rope.high_freq_factor), "more than low_freq_factor");
        }
        Ok(())
    }
}
