//! Whether a `text_config` describes a language model that can be built here.

use bpo_pairs::Limits;

use super::config::SLIDING;
use super::{DecoderConfig, DecoderKind};
use crate::config_check::ConfigCheck;
use crate::error::ModelError;

impl DecoderConfig {
    /// Checks sizes, their relations, the sliding window and the rotary settings, under the keys of
    /// `text_config`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] or [`ModelError::OverLimit`] for the first value that cannot be
    /// used.
    pub(crate) fn check(&self, check: &ConfigCheck<'_>) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        check.sizes(&[
            ("text_config.hidden_size", self.hidden_size, LIMITS.width),
            ("text_config.intermediate_size", self.intermediate_size, LIMITS.width),
            ("text_config.num_attention_heads", self.num_attention_heads, LIMITS.heads),
            ("text_config.num_hidden_layers", self.num_hidden_layers, LIMITS.layers),
            ("text_config.vocab_size", self.vocab_size, LIMITS.vocabulary),
            ("text_config.max_position_embeddings", self.max_position_embeddings, LIMITS.positions),
            ("text_config.num_key_value_heads", self.kv_heads(), LIMITS.heads),
            ("text_config.head_dim", self.head_dim(), LIMITS.head_dim),
        ])?;
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            let supported = "a divisor of num_attention_heads";
            return check.refuse("text_config.num_key_value_heads", self.kv_heads(), supported);
        }
        if !self.head_dim().is_multiple_of(2) {
            return check.refuse("text_config.head_dim", self.head_dim(), "an even number");
        }
        self.check_window(check)?;
        self.check_rope(check)
    }

    fn check_window(&self, check: &ConfigCheck<'_>) -> Result<(), ModelError> {
        const WINDOW: &str = "text_config.sliding_window";
        if let Some(window) = self.sliding_window.filter(|_| self.use_sliding_window != Some(false)) {
            if self.model_type == DecoderKind::Llama {
                let supported = "null with model_type llama; Mistral has the model_type mistral";
                return check.refuse(WINDOW, window, supported);
            }
            if window == 0 {
                return check.refuse(WINDOW, window, "1 or more, or null");
            }
        }
        let Some(types) = &self.layer_types else { return Ok(()) };
        const TYPES: &str = "text_config.layer_types";
        if types.len() != self.num_hidden_layers {
            let found = format!("a list of {} layers", types.len());
            return check.refuse(TYPES, found, "as many layers as num_hidden_layers");
        }
        for (layer, found) in types.iter().enumerate() {
            let runs_as = if self.window(layer).is_some() { SLIDING } else { "full_attention" };
            if found != runs_as {
                let supported = format!("{runs_as} with the other keys of this {}", self.model_type.name());
                return check.refuse(&format!("{TYPES}[{layer}]"), found, &supported);
            }
        }
        Ok(())
    }

    fn check_rope(&self, check: &ConfigCheck<'_>) -> Result<(), ModelError> {
        let rope = self.rope();
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
            return check.refuse(&key, shown(value), "a finite number above 0");
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
                return check.refuse(key, other, "default, linear, llama3");
            }
        };
        if !has_factors {
            let kind = rope.kind().unwrap_or_default();
            let found = format!("{kind} without its factors");
            return check.refuse("text_config.rope_scaling", found, "all of its factors");
        }
        if rope.kind() == Some("llama3") && rope.high_freq_factor <= rope.low_freq_factor {
            let key = "text_config.rope_parameters.high_freq_factor";
            return check.refuse(key, shown(rope.high_freq_factor), "more than low_freq_factor");
        }
        Ok(())
    }
}
