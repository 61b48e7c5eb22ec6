//! Checks that all families make on a `config.json`.

use std::path::Path;

use bpo_pairs::Limits;

use crate::decoder::{DecoderConfig, SLIDING_LAYER};
use crate::error::ModelError;
use crate::input::ImageInput;
use crate::vision::VitConfig;

/// Checks the values of a configuration file.
pub(crate) struct Check<'a> {
    /// The file.
    pub(crate) path: &'a Path,
}

/// A size in a file: its key, its value and the largest value that is accepted.
pub(crate) type Size<'a> = (&'a str, usize, usize);

impl Check<'_> {
    /// Refuses a value.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`].
    pub(crate) fn refuse(&self, key: &str, found: impl ToString, supported: &str) -> Result<(), ModelError> {
        Err(ModelError::Unsupported {
            path: self.path.into(),
            key: key.into(),
            found: found.to_string(),
            supported: supported.into(),
        })
    }

    /// Checks a size against its limit.
    ///
    /// # Errors
    /// [`ModelError::OverLimit`].
    pub(crate) fn within(&self, key: &str, found: usize, limit: usize) -> Result<(), ModelError> {
        if found <= limit {
            return Ok(());
        }
        let (path, key) = (self.path.into(), key.to_owned());
        Err(ModelError::OverLimit { path, key, found: found as u64, limit: limit as u64 })
    }

    /// Checks that sizes are at least 1 and within their limits, so that nothing that follows
    /// overflows.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] or [`ModelError::OverLimit`] for the first one that is not.
    pub(crate) fn sizes(&self, sizes: &[Size<'_>]) -> Result<(), ModelError> {
        for (key, found, limit) in sizes {
            if *found == 0 {
                return self.refuse(key, found, "1 or more");
            }
            self.within(key, *found, *limit)?;
        }
        Ok(())
    }

    /// Checks the sizes of the language model, their relations and the rotary settings. `prefix`
    /// is that of its keys: `text_config.`, or nothing where they are at the top level.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] or [`ModelError::OverLimit`] for the first value that cannot be
    /// used.
    pub(crate) fn decoder(&self, text: &DecoderConfig, prefix: &str) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        let key = |name: &str| format!("{prefix}{name}");
        for (name, found, limit) in [
            ("hidden_size", text.hidden_size, LIMITS.width),
            ("intermediate_size", text.intermediate_size, LIMITS.width),
            ("num_attention_heads", text.num_attention_heads, LIMITS.heads),
            ("num_hidden_layers", text.num_hidden_layers, LIMITS.layers),
            ("vocab_size", text.vocab_size, LIMITS.vocabulary),
            ("max_position_embeddings", text.max_position_embeddings, LIMITS.positions),
            ("num_key_value_heads", text.kv_heads(), LIMITS.heads),
            ("head_dim", text.head_dim(), LIMITS.head_dim),
        ] {
            self.sizes(&[(&key(name), found, limit)])?;
        }
        if !text.num_attention_heads.is_multiple_of(text.kv_heads()) {
            let supported = "a divisor of num_attention_heads";
            return self.refuse(&key("num_key_value_heads"), text.kv_heads(), supported);
        }
        if !text.head_dim().is_multiple_of(2) {
            return self.refuse(&key("head_dim"), text.head_dim(), "an even number");
        }
        self.window(text, prefix)?;
        self.rope(text, prefix)
    }

    /// Checks the sizes of a vision transformer and their relations.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] or [`ModelError::OverLimit`] for the first value that cannot be
    /// used.
    pub(crate) fn vit(&self, vision: &VitConfig) -> Result<(), ModelError> {
        const LIMITS: Limits = Limits::DEFAULT;
        self.sizes(&[
            ("vision_config.hidden_size", vision.hidden_size, LIMITS.width),
            ("vision_config.intermediate_size", vision.intermediate_size, LIMITS.width),
            ("vision_config.num_attention_heads", vision.num_attention_heads, LIMITS.heads),
            ("vision_config.num_hidden_layers", vision.num_hidden_layers, LIMITS.layers),
            ("vision_config.num_channels", vision.num_channels, LIMITS.width),
            ("vision_config.image_size", vision.image_size, LIMITS.image_side),
            ("vision_config.patch_size", vision.patch_size, LIMITS.image_side),
        ])?;
        // the side is bounded, so the product fits
        self.within("vision_config.image_size (patches of an image)", vision.patches(), LIMITS.width)?;
        if vision.image_size < vision.patch_size {
            return self.refuse("vision_config.image_size", vision.image_size, "at least patch_size");
        }
        if !vision.hidden_size.is_multiple_of(vision.num_attention_heads) {
            let supported = "a multiple of num_attention_heads";
            return self.refuse("vision_config.hidden_size", vision.hidden_size, supported);
        }
        Ok(())
    }

    /// Checks the keys of the sliding window, and that the layers run as `layer_types` says.
    fn window(&self, text: &DecoderConfig, prefix: &str) -> Result<(), ModelError> {
        let key = |name: &str| format!("{prefix}{name}");
        if let Some(window) = text.sliding_window.filter(|_| text.use_sliding_window != Some(false)) {
            if !text.model_type.has_window() {
                let supported = "null with this model_type; Mistral has the model_type mistral";
                return self.refuse(&key("sliding_window"), window, supported);
            }
            if window == 0 {
                return self.refuse(&key("sliding_window"), window, "1 or more, or null");
            }
        }
        let Some(types) = &text.layer_types else { return Ok(()) };
        if types.len() != text.num_hidden_layers {
            let found = format!("a list of {} layers", types.len());
            return self.refuse(&key("layer_types"), found, "as many layers as num_hidden_layers");
        }
        for (layer, found) in types.iter().enumerate() {
            let runs_as = if text.window(layer).is_some() { SLIDING_LAYER } else { "full_attention" };
            if found != runs_as {
                let supported = format!("{runs_as} with the other keys of the file");
                return self.refuse(&key(&format!("layer_types[{layer}]")), found, &supported);
            }
        }
        Ok(())
    }

    fn rope(&self, text: &DecoderConfig, prefix: &str) -> Result<(), ModelError> {
        let rope = text.rope();
        let positive = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value > 0.0);
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let numbers = [
            ("rope_theta", rope.rope_theta),
            ("factor", rope.factor),
            ("low_freq_factor", rope.low_freq_factor),
            ("high_freq_factor", rope.high_freq_factor),
        ];
        if let Some((key, value)) = numbers.into_iter().find(|(_, value)| !positive(*value)) {
            let key = format!("{prefix}rope_parameters.{key}");
            return self.refuse(&key, shown(value), "a finite number above 0");
        }
        let has_factors = match rope.kind() {
            None | Some("default") => true,
            // the name of older files
            Some("mrope") if rope.mrope_section.is_some() => true,
            Some("linear" | "dynamic") => rope.factor.is_some(),
            Some("llama3") => {
                rope.factor.is_some()
                    && rope.low_freq_factor.is_some()
                    && rope.high_freq_factor.is_some()
                    && rope.original_max_position_embeddings.is_some_and(|context| context > 0)
            }
            Some(other) => {
                let key = format!("{prefix}rope_scaling.rope_type");
                return self.refuse(&key, other, "default, linear, dynamic, llama3");
            }
        };
        if !has_factors {
            let kind = rope.kind().unwrap_or_default();
            let found = format!("{kind} without its factors");
            return self.refuse(&format!("{prefix}rope_scaling"), found, "all of its factors");
        }
        if rope.kind() == Some("llama3") && rope.high_freq_factor <= rope.low_freq_factor {
            let key = format!("{prefix}rope_parameters.high_freq_factor");
            return self.refuse(&key, shown(rope.high_freq_factor), "more than low_freq_factor");
        }
        self.sections(text, prefix)
    }

    /// Checks that the sections of multimodal positions have all frequencies.
    fn sections(&self, text: &DecoderConfig, prefix: &str) -> Result<(), ModelError> {
        let rope = text.rope();
        let Some(sections) = &rope.mrope_section else { return Ok(()) };
        let half = text.head_dim() / 2;
        let sum = sections.iter().fold(0usize, |sum, section| sum.saturating_add(*section));
        if sections.len() == 3 && (sum == half || rope.mrope_interleaved == Some(true)) {
            return Ok(());
        }
        let key = format!("{prefix}rope_scaling.mrope_section");
        self.refuse(&key, format!("{sections:?}"), &format!("three numbers whose sum is {half}"))
    }
}

/// Checks that a prepared image has a number of tiles, at least one, each of a size in channels,
/// height and width.
///
/// # Errors
/// [`ModelError::ImageTiles`] or [`ModelError::ImageSize`].
pub(crate) fn check_tiles(image: &ImageInput, tiles: usize, size: [usize; 3]) -> Result<(), ModelError> {
    if image.tiles.len() != tiles || tiles == 0 {
        return Err(ModelError::ImageTiles { expected: tiles.max(1), found: image.tiles.len() });
    }
    let mut found = image.tiles.iter().map(|tile| [tile.channels, tile.height, tile.width]);
    match found.find(|found| *found != size) {
        Some(found) => Err(ModelError::ImageSize { expected: size, found }),
        None => Ok(()),
    }
}

/// Checks that the placeholder of a prepared image has a number of image tokens.
///
/// # Errors
/// [`ModelError::ImageTokens`].
pub(crate) fn check_placeholder(image: &ImageInput, expected: usize) -> Result<(), ModelError> {
    let found = image.tokens();
    if found == expected { Ok(()) } else { Err(ModelError::ImageTokens { expected, found }) }
}
