//! Limits on sizes that come from input.

use std::fmt;
use std::time::Duration;

use crate::untrusted::Untrusted;

/// Limits on sizes that come from files, servers and settings. They are checked when the input is
/// read.
///
/// The defaults are far above anything in real data, checkpoints and settings. They prevent broken
/// or hostile input from exhausting memory or time. `bpo_distort::ImageLimits` holds the limits of
/// images: pixels, bytes, scans and decoding time.
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
    /// Bytes of one record of a data file: a line of a JSON Lines file or an element of a JSON
    /// array. Default: 64 MiB.
    pub record_bytes: usize,
    /// Bytes of one text of a record: a question, an answer or a system text. Default: 1 MiB.
    pub text_bytes: usize,
    /// Turns of one conversation. A turn is a question with its answer. Default: 1,000.
    ///
    /// Each turn becomes a sample with all earlier turns, which the samples share in memory. Files
    /// repeat them, so the size of a file grows with the square of the number of turns.
    pub turns: usize,
    /// Images of one conversation. Default: 1,000.
    pub images: usize,
    /// Files in the folder of a video, from which frames are chosen. Default: 1,000,000.
    pub video_frames: usize,
    /// Bytes of a settings file, such as TOML or `config.json`. Default: 16 MiB.
    pub settings_bytes: u64,
    /// Bytes of a chat template. Default: 256 KiB.
    pub template_bytes: usize,
    /// Bytes of `tokenizer.json` or another tokenizer file. Default: 256 MiB.
    pub tokenizer_bytes: u64,
    /// Bytes of a server's reply after decompression. Default: 16 MiB.
    pub reply_bytes: u64,
    /// Bytes of a text generator's draft with its reasoning. Default: 256 KiB.
    pub draft_bytes: usize,
    /// Bytes of a JSON file with the ground truth of an evaluation. Default: 4 GiB.
    pub truth_bytes: u64,
    /// Bytes of a cache of reference log-probabilities. Default: 64 GiB.
    pub cache_bytes: u64,

    /// Layers of a vision tower or a language model (`num_hidden_layers`). Default: 1,000.
    pub layers: usize,
    /// Attention heads or key-value heads of a layer. Default: 4,096.
    pub heads: usize,
    /// Width of an attention head (`head_dim`). Default: 8,192.
    pub head_dim: usize,
    /// Width of hidden states or of feed-forward layers (`hidden_size`, `intermediate_size`).
    /// Default: 1,048,576.
    pub width: usize,
    /// Tokens of a vocabulary (`vocab_size`). Default: 16,777,216.
    pub vocabulary: usize,
    /// Tokens of a context (`max_position_embeddings`). Default: 134,217,728.
    pub positions: usize,
    /// Side of the square input image of a vision tower, in pixels. Default: 16,384.
    pub image_side: usize,
    /// Pixels of an image after the resizing that a preprocessor's settings ask for.
    /// Default: 268,435,456.
    pub resized_pixels: usize,
    /// Ids in a list of token ids (`eos_token_id`), or names in a list of layers or modules.
    /// Default: 10,000.
    pub ids: usize,
    /// Tensors of a checkpoint or an adapter. Default: 1,000,000.
    pub tensors: usize,
    /// Rank of a low-rank adapter (`r`). Default: 65,536.
    pub lora_rank: usize,

    /// Items of a batch. Default: 1,048,576.
    pub batch_size: usize,
    /// Answers drawn for one prompt. Default: 1,000.
    pub samples: usize,
    /// Tokens of one generated answer. Default: 1,048,576.
    pub new_tokens: usize,
    /// Resamples of a bootstrap. Default: 1,000,000.
    pub resamples: usize,
    /// Concurrent requests to a server, or attempts for one request. Default: 10,000.
    pub requests: usize,
    /// Waiting time for a server. Default: 7 days.
    pub timeout: Duration,
}

impl Limits {
    /// The default limits.
    pub const DEFAULT: Self = Self {
        record_bytes: 64 << 20,
        text_bytes: 1 << 20,
        turns: 1000,
        images: 1000,
        video_frames: 1_000_000,
        settings_bytes: 16 << 20,
        template_bytes: 1 << 18,
        tokenizer_bytes: 256 << 20,
        reply_bytes: 16 << 20,
        draft_bytes: 256 << 10,
        truth_bytes: 4 << 30,
        cache_bytes: 64 << 30,
        layers: 1000,
        heads: 4096,
        head_dim: 8192,
        width: 1 << 20,
        vocabulary: 1 << 24,
        positions: 1 << 27,
        image_side: 16_384,
        resized_pixels: 1 << 28,
        ids: 10_000,
        tensors: 1_000_000,
        lora_rank: 65_536,
        batch_size: 1 << 20,
        samples: 1000,
        new_tokens: 1 << 20,
        resamples: 1_000_000,
        requests: 10_000,
        timeout: Duration::from_secs(7 * 24 * 60 * 60),
    };

    /// Compares a size with its limit. `name` is the setting or key named in the error.
    ///
    /// # Errors
    /// Returns [`OverLimit`] if `found` is above `limit`.
    pub fn check(name: impl fmt::Display, found: usize, limit: usize) -> Result<(), OverLimit> {
        if found <= limit {
            Ok(())
        } else {
            Err(OverLimit { name: name.to_string(), found: found as u64, limit: limit as u64 })
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A size from input exceeds its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is {found}, above the limit of {limit}", Untrusted(name))]
pub struct OverLimit {
    /// Name of the setting or key.
    pub name: String,
    /// The size that was found.
    pub found: u64,
    /// The limit.
    pub limit: u64,
}
