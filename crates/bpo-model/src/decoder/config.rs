//! The configuration of the language model, with the defaults of transformers.

use serde::{Deserialize, Deserializer};

use crate::layers::Activation;

/// The value of `layer_types` for a layer with the sliding window.
pub(crate) const SLIDING_LAYER: &str = "sliding_attention";

/// Configuration of the language model. Missing keys have the defaults of its kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Keys")]
#[non_exhaustive]
pub struct DecoderConfig {
    /// The architecture.
    pub model_type: DecoderKind,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Number of key-value heads. `None` stands for the number of attention heads.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head. Default: `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of RMS norms.
    pub rms_norm_eps: f64,
    /// Activation of the gate.
    pub hidden_act: Activation,
    /// Llama, Qwen3: whether the attention projections have biases. Other kinds do not read it.
    pub attention_bias: bool,
    /// Whether the projections to queries, keys and values have biases, whatever the output
    /// projection has. Qwen2's have; no file has this key.
    pub qkv_bias: bool,
    /// Whether queries and keys of a head are normalized before rotary positions. Qwen3's are; no
    /// file has this key.
    pub qk_norm: bool,
    /// Llama: whether the feed-forward layers have biases. Other kinds do not read it.
    pub mlp_bias: bool,
    /// Whether the embedding is the head.
    pub tie_word_embeddings: bool,
    /// Id of the token that begins a sequence (BOS).
    pub bos_token_id: Option<u32>,
    /// Base of the rotary frequencies (transformers 4).
    pub rope_theta: Option<f64>,
    /// Scaling of the rotary frequencies (transformers 4).
    pub rope_scaling: Option<RopeParameters>,
    /// Base and scaling of the rotary frequencies (transformers 5).
    pub rope_parameters: Option<RopeParameters>,
    /// Mistral, Qwen2: number of tokens that a token attends to, itself included. See
    /// [`window`](Self::window).
    pub sliding_window: Option<usize>,
    /// Qwen2: whether there is a sliding window.
    pub use_sliding_window: Option<bool>,
    /// Qwen2: the first layer with the sliding window.
    pub max_window_layers: usize,
    /// Qwen2: `full_attention` or `sliding_attention` for each layer, in place of
    /// `max_window_layers`.
    pub layer_types: Option<Vec<String>>,
}

/// The architecture of a language model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderKind {
    /// Llama (Touvron et al., 2023), `models/llama` in transformers.
    #[default]
    Llama,
    /// Mistral (Jiang et al., 2023, arXiv 2310.06825), `models/mistral` in transformers: Llama with
    /// a sliding window.
    Mistral,
    /// Qwen2 (Yang et al., 2024, arXiv 2407.10671), `models/qwen2` in transformers: Llama with
    /// biases of queries, keys and values.
    Qwen2,
    /// Qwen3 (Yang et al., 2025, arXiv 2505.09388) as in Qwen3-VL, `models/qwen3_vl` in
    /// transformers: Llama with norms of queries and keys.
    Qwen3,
}

impl DecoderKind {
    /// The kind that has a `model_type`. A missing or unknown one stands for Llama, so the caller
    /// refuses unknown ones.
    fn named(model_type: Option<&str>) -> Self {
        match model_type {
            Some("mistral") => Self::Mistral,
            Some("qwen2") => Self::Qwen2,
            Some("qwen3") => Self::Qwen3,
            _ => Self::Llama,
        }
    }

    /// Whether the architecture can have a sliding window.
    pub(crate) fn has_window(self) -> bool {
        matches!(self, Self::Mistral | Self::Qwen2)
    }
}

/// The keys of the file. `None` stands for a missing key.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Keys {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    #[serde(default, deserialize_with = "nullable")]
    num_key_value_heads: Option<Option<usize>>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<Activation>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    bos_token_id: Option<Option<u32>>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
    #[serde(default, deserialize_with = "nullable")]
    sliding_window: Option<Option<usize>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
}

/// Reads a key that is there, where `null` differs from a missing key.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(file: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(file).map(Some)
}

impl From<Keys> for DecoderConfig {
    fn from(keys: Keys) -> Self {
        let default = Self::of_kind(DecoderKind::named(keys.model_type.as_deref()));
        // other kinds have the biases of their defaults, whatever the file says
        let of = |kinds: &'static [DecoderKind]| {
            move |key: Option<bool>| key.filter(|_| kinds.contains(&default.model_type))
        };
        let of_llama = of(&[DecoderKind::Llama]);
        let of_both = of(&[DecoderKind::Llama, DecoderKind::Qwen3]);
        Self {
            hidden_size: keys.hidden_size.unwrap_or(default.hidden_size),
            intermediate_size: keys.intermediate_size.unwrap_or(default.intermediate_size),
            num_hidden_layers: keys.num_hidden_layers.unwrap_or(default.num_hidden_layers),
            num_attention_heads: keys.num_attention_heads.unwrap_or(default.num_attention_heads),
            num_key_value_heads: keys.num_key_value_heads.unwrap_or(default.num_key_value_heads),
            head_dim: keys.head_dim.or(default.head_dim),
            vocab_size: keys.vocab_size.unwrap_or(default.vocab_size),
            max_position_embeddings: keys.max_position_embeddings.unwrap_or(default.max_position_embeddings),
            rms_norm_eps: keys.rms_norm_eps.unwrap_or(default.rms_norm_eps),
            hidden_act: keys.hidden_act.unwrap_or(default.hidden_act),
            attention_bias: of_both(keys.attention_bias).unwrap_or(default.attention_bias),
            mlp_bias: of_llama(keys.mlp_bias).unwrap_or(default.mlp_bias),
            tie_word_embeddings: keys.tie_word_embeddings.unwrap_or(default.tie_word_embeddings),
            bos_token_id: keys.bos_token_id.unwrap_or(default.bos_token_id),
            rope_theta: keys.rope_theta,
            rope_scaling: keys.rope_scaling,
            rope_parameters: keys.rope_parameters,
            sliding_window: keys.sliding_window.unwrap_or(default.sliding_window),
            use_sliding_window: keys.use_sliding_window,
            max_window_layers: keys.max_window_layers.unwrap_or(default.max_window_layers),
            layer_types: keys.layer_types,
            ..default
        }
    }
}

impl Default for DecoderConfig {
    /// transformers' `LlamaConfig`, which is Vicuna-7B's shape.
    fn default() -> Self {
        Self::of_kind(DecoderKind::default())
    }
}

impl DecoderConfig {
    /// The defaults of transformers: those of `LlamaConfig`, `MistralConfig`, `Qwen2Config` or
    /// `Qwen3VLTextConfig`.
    pub fn of_kind(kind: DecoderKind) -> Self {
        let llama = Self {
            model_type: kind,
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            hidden_act: Activation::Silu,
            attention_bias: false,
            qkv_bias: false,
            qk_norm: false,
            mlp_bias: false,
            tie_word_embeddings: false,
            bos_token_id: Some(1),
            rope_theta: None,
            rope_scaling: None,
            rope_parameters: None,
            sliding_window: None,
            use_sliding_window: None,
            max_window_layers: 28,
            layer_types: None,
        };
        match kind {
            DecoderKind::Llama => llama,
            DecoderKind::Mistral => Self {
                intermediate_size: 14336,
                num_key_value_heads: Some(8),
                max_position_embeddings: 131_072,
                sliding_window: Some(4096),
                ..llama
            },
            DecoderKind::Qwen2 => Self {
                intermediate_size: 22016,
                num_key_value_heads: Some(32),
                vocab_size: 151_936,
                max_position_embeddings: 32768,
                bos_token_id: None,
                qkv_bias: true,
                sliding_window: Some(4096),
                ..llama
            },
            DecoderKind::Qwen3 => Self {
                intermediate_size: 22016,
                num_key_value_heads: Some(32),
                head_dim: Some(128),
                vocab_size: 151_936,
                max_position_embeddings: 128_000,
                bos_token_id: None,
                qk_norm: true,
                ..llama
            },
        }
    }

    /// Number of tokens that a token of a layer attends to, itself included. `None` if it attends
    /// to all earlier tokens.
    pub fn window(&self, layer: usize) -> Option<usize> {
        match self.model_type {
            DecoderKind::Llama | DecoderKind::Qwen3 => None,
            DecoderKind::Mistral => self.sliding_window,
            DecoderKind::Qwen2 => {
                let window = self.sliding_window.filter(|_| self.use_sliding_window == Some(true))?;
                let slides = match &self.layer_types {
                    Some(types) => types.get(layer).is_some_and(|kind| kind == SLIDING_LAYER),
                    None => layer >= self.max_window_layers,
                };
                slides.then_some(window)
            }
        }
    }
}

/// Settings of rotary positions, as transformers writes them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[serde(default)]
#[non_exhaustive]
pub struct RopeParameters {
    /// Base of the frequencies.
    pub rope_theta: Option<f64>,
    /// `default`, `linear`, `dynamic`, `llama3` or `mrope`. Files have this key, `type`, or both: see
    /// [`kind`](Self::kind).
    pub rope_type: Option<String>,
    /// The kind of scaling in older files (`type`).
    #[serde(rename = "type")]
    pub legacy_type: Option<String>,
    /// Factor by which the context is extended.
    pub factor: Option<f64>,
    /// llama3: wavelengths above `original_max_position_embeddings` divided by this are scaled in
    /// full.
    pub low_freq_factor: Option<f64>,
    /// llama3: wavelengths below `original_max_position_embeddings` divided by this are not scaled.
    pub high_freq_factor: Option<f64>,
    /// llama3: the context before the extension.
    pub original_max_position_embeddings: Option<usize>,
    /// Numbers of frequencies that turn by the temporal, vertical and horizontal position of a
    /// token (multimodal rotary positions). Without it all turn by one position.
    pub mrope_section: Option<Vec<usize>>,
    /// Whether the frequencies of the axes take turns, instead of following each other.
    pub mrope_interleaved: Option<bool>,
}

impl DecoderConfig {
    /// Number of key-value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Rotary settings, from either version of the keys. In a file with both, `rope_scaling` counts
    /// unless it is empty, as in transformers 5.23 (`modeling_rope_utils.py`). `rope_theta` is always
    /// set.
    pub fn rope(&self) -> RopeParameters {
        let scaling = self.rope_scaling.clone().filter(|scaling| *scaling != RopeParameters::default());
        let mut rope = scaling.or_else(|| self.rope_parameters.clone()).unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(self.rope_theta).or(Some(10_000.0));
        rope
    }
}

impl RopeParameters {
    /// The kind of scaling, by either key.
    pub fn kind(&self) -> Option<&str> {
        self.rope_type.as_deref().or(self.legacy_type.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(value: Value) -> DecoderConfig {
        serde_json::from_value(value).unwrap()
    }

    /// `LlamaConfig(rope_scaling=.., rope_parameters=..).rope_parameters` of transformers 5.23.
    #[test]
    fn rope_scaling_counts_before_rope_parameters() {
        let rope = |scaling: Value| {
            let parameters = json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 5.0 });
            config(json!({ "rope_scaling": scaling, "rope_parameters": parameters, "rope_theta": 7.0 }))
                .rope()
        };
        let scaled = rope(json!({ "rope_type": "linear", "factor": 4.0 }));
        assert_eq!((scaled.factor, scaled.rope_theta), (Some(4.0), Some(7.0)));
        for empty in [json!({}), Value::Null] {
            let rope = rope(empty);
            assert_eq!((rope.factor, rope.rope_theta), (Some(2.0), Some(5.0)));
        }
    }

    /// Values of transformers 5.23: `LlamaConfig()`, `MistralConfig()` and `Qwen2Config()`.
    #[test]
    fn missing_keys_have_the_defaults_of_their_kind() {
        let sizes = |kind: &str| {
            let config = config(json!({ "model_type": kind }));
            [config.vocab_size, config.intermediate_size, config.kv_heads(), config.max_position_embeddings]
        };
        assert_eq!(sizes("llama"), [32000, 11008, 32, 2048]);
        assert_eq!(sizes("mistral"), [32000, 14336, 8, 131_072]);
        assert_eq!(sizes("qwen2"), [151_936, 22016, 32, 32768]);
        assert_eq!(config(json!({})), DecoderConfig::default());
        // null is the number of attention heads
        let heads = json!({"model_type": "mistral", "num_key_value_heads": null, "num_attention_heads": 4});
        assert_eq!(config(heads).kv_heads(), 4);
    }

    #[test]
    fn biases_are_those_of_the_kind() {
        let biases = |kind: &str| {
            let config = config(json!({"model_type": kind, "attention_bias": true, "mlp_bias": true}));
            [config.attention_bias, config.mlp_bias, config.qkv_bias]
        };
        assert_eq!(biases("llama"), [true, true, false]);
        assert_eq!(biases("mistral"), [false, false, false]);
        assert_eq!(biases("qwen2"), [false, false, true]);
    }

    #[test]
    fn windows_are_those_of_the_kind() {
        let windows = |value: Value| [0, 1, 2].map(|layer| config(value.clone()).window(layer));
        assert_eq!(windows(json!({"sliding_window": 5})), [None; 3]);
        assert_eq!(windows(json!({"model_type": "mistral"})), [Some(4096); 3]);
        assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": null})), [None; 3]);
        let qwen2 = json!({"model_type": "qwen2", "sliding_window": 5, "max_window_layers": 1});
        assert_eq!(windows(qwen2.clone()), [None; 3]);
        let mut slides = qwen2;
        slides["use_sliding_window"] = json!(true);
        assert_eq!(windows(slides.clone()), [None, Some(5), Some(5)]);
        slides["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        assert_eq!(windows(slides), [Some(5), None, Some(5)]);
    }
}
