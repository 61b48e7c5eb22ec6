//! The configuration of the language model, with the defaults of transformers.

use serde::Deserialize;

use crate::layers::Activation;

/// Configuration of the language model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[serde(default)]
#[non_exhaustive]
pub struct DecoderConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Number of key-value heads. Default: the number of attention heads.
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
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
    /// Whether the projections to queries, keys and values have biases, whatever the output
    /// projection has. Qwen2's have; no file has this key.
    #[serde(skip)]
    pub qkv_bias: bool,
    /// Whether queries and keys of a head are normalized before rotary positions. Qwen3's are; no
    /// file has this key.
    #[serde(skip)]
    pub qk_norm: bool,
    /// Whether the feed-forward layers have biases.
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
}

impl Default for DecoderConfig {
    /// transformers' `LlamaConfig`, which is Vicuna-7B's shape.
    fn default() -> Self {
        Self {
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
    /// `default`, `linear`, `llama3` or `mrope`. Files have this key, `type`, or both: see
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

    /// Rotary settings, from either version of the keys. `rope_theta` is always set.
    pub fn rope(&self) -> RopeParameters {
        let mut rope = self.rope_parameters.clone().or_else(|| self.rope_scaling.clone()).unwrap_or_default();
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
