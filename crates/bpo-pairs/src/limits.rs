//! Bounds on sizes that come from input.

use std::time::Duration;

/// Bounds on sizes that come from files, servers and settings, checked where they are read.
///
/// The defaults are far above anything that real data, checkpoints and settings hold. They keep a broken or
/// hostile input from taking all memory or time. Images have limits of their own in `bpo_distort::Limits`:
/// pixels, bytes, scans and decoding time.
///
/// ```
/// use bpo_pairs::Limits;
///
/// let limits = Limits::default();
/// assert!(Limits::check("head_dim", 128, limits.head_dim).is_ok());
/// let error = Limits::check("head_dim", 1_000_000_000_000, limits.head_dim).unwrap_err();
/// assert_eq!(error.to_string(), "`head_dim` is 1000000000000, above the limit of 8192");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one record of a data file: a line of JSON lines, or an element of a JSON array. 64 MiB.
    pub record_bytes: usize,
    /// Bytes of one text of a record: a question, an answer, a system text. 1 MiB.
    pub text_bytes: usize,
    /// Turns of one conversation: questions with their answers. 1,000.
    ///
    /// Each turn makes a sample with the turns before it, so a conversation takes space in the square of this.
    pub turns: usize,
    /// Bytes of a file of settings: TOML, `config.json`, a chat template. 16 MiB.
    pub settings_bytes: u64,
    /// Bytes of `tokenizer.json` and of other files of a tokenizer. 256 MiB.
    pub tokenizer_bytes: u64,
    /// Bytes of the reply of a server. 64 MiB.
    pub reply_bytes: u64,

    /// Layers of a vision tower or a language model (`num_hidden_layers`). 1,000.
    pub layers: usize,
    /// Attention heads of a layer, and key-value heads. 4,096.
    pub heads: usize,
    /// Width of an attention head (`head_dim`). 8,192.
    pub head_dim: usize,
    /// Width of hidden states and of feed-forward layers (`hidden_size`, `intermediate_size`). 1,048,576.
    pub width: usize,
    /// Tokens of a vocabulary (`vocab_size`). 16,777,216.
    pub vocabulary: usize,
    /// Tokens of a context (`max_position_embeddings`). 134,217,728.
    pub positions: usize,
    /// Side of the square image that a vision tower takes, in pixels. 16,384.
    pub image_side: usize,
    /// Ids in a list of token ids (`eos_token_id`), and names in a list of layers or modules. 10,000.
    pub ids: usize,
    /// Tensors of a checkpoint or an adapter. 1,000,000.
    pub tensors: usize,
    /// Rank of a low-rank adapter (`r`). 65,536.
    pub lora_rank: usize,

    /// Items of a batch. 1,048,576.
    pub batch_size: usize,
    /// Answers that are drawn for one prompt. 10,000.
    pub samples: usize,
    /// Tokens of one generated answer. 1,048,576.
    pub new_tokens: usize,
    /// Resamples of a bootstrap. 1,000,000.
    pub resamples: usize,
    /// Requests to a server at once, and attempts for one request. 10,000.
    pub requests: usize,
    /// Waiting time for a server. 7 days.
    pub timeout: Duration,
}

impl Limits {
    /// The defaults, as a constant.
    pub const DEFAULT: Self = Self {
        record_bytes: 64 << 20,
        text_bytes: 1 << 20,
        turns: 1000,
        settings_bytes: 16 << 20,
        tokenizer_bytes: 256 << 20,
        reply_bytes: 64 << 20,
        layers: 1000,
        heads: 4096,
        head_dim: 8192,
        width: 1 << 20,
        vocabulary: 1 << 24,
        positions: 1 << 27,
        image_side: 16_384,
        ids: 10_000,
        tensors: 1_000_000,
        lora_rank: 65_536,
        batch_size: 1 << 20,
        samples: 10_000,
        new_tokens: 1 << 20,
        resamples: 1_000_000,
        requests: 10_000,
        timeout: Duration::from_secs(7 * 24 * 60 * 60),
    };

    /// Compares a size with its limit. `name` is the setting or key, for the error.
    ///
    /// # Errors
    /// [`OverLimit`] if `found` is above `limit`.
    pub fn check(name: impl Into<String>, found: usize, limit: usize) -> Result<(), OverLimit> {
        if found <= limit {
            Ok(())
        } else {
            Err(OverLimit { name: name.into(), found: found as u64, limit: limit as u64 })
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A size from input is above its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is {found}, above the limit of {limit}")]
pub struct OverLimit {
    /// The setting or key.
    pub name: String,
    /// Its value.
    pub found: u64,
    /// The limit.
    pub limit: u64,
}
