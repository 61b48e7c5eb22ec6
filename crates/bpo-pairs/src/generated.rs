//! Sampling parameters and results of text generation.

use serde::{Deserialize, Serialize};

/// Sampling parameters of a text generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Sampling {
    /// Sampling temperature. 0 selects the most likely token at every step.
    pub temperature: f64,
    /// Nucleus sampling: tokens are drawn from the smallest set whose probabilities sum to at least
    /// this value. 1 keeps all tokens.
    pub top_p: f64,
    /// Number of most likely tokens to draw from. 0 keeps all tokens.
    pub top_k: usize,
    /// Maximum length of the answer in tokens.
    pub max_new_tokens: usize,
    /// Seed of the random draws. The same request with the same seed generates the same text,
    /// independent of the other requests in its batch.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy decoding of at most 1024 tokens.
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, max_new_tokens: 1024, seed: 0 }
    }
}

impl Sampling {
    /// Returns greedy decoding of at most `max_new_tokens` tokens.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..Self::default() }
    }

    /// Sets [`temperature`](Self::temperature).
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets [`top_p`](Self::top_p).
    pub fn with_top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets [`top_k`](Self::top_k).
    pub fn with_top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets [`seed`](Self::seed).
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// The reason for which a model stopped generating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model generated an end token.
    Stop,
    /// The answer reached its maximum length.
    Length,
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// The text, without special tokens.
    pub text: String,
    /// The reason for which generation stopped.
    pub finish: FinishReason,
    /// Length of the answer in tokens, if the model reports it.
    pub tokens: Option<usize>,
}

/// The failure of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure<E> {
    /// The error.
    pub error: E,
    /// Whether the request itself causes the error, so that a retry would fail as well.
    pub is_request_error: bool,
}
