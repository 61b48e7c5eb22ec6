//! Text that a model generates: how it is sampled, and what comes back.

use serde::{Deserialize, Serialize};

/// Sampling parameters of a text generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Sampling {
    /// Sampling temperature. 0 takes the most likely token at every step.
    pub temperature: f64,
    /// Nucleus sampling: the smallest set of tokens with at least this probability. 1 keeps all.
    pub top_p: f64,
    /// Only this many of the most likely tokens are drawn. 0 keeps all.
    pub top_k: usize,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Seed of the draw. The same request with the same seed gives the same text, whatever else is
    /// in its batch.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy decoding of at most 1024 tokens.
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, max_new_tokens: 1024, seed: 0 }
    }
}

impl Sampling {
    /// Greedy decoding of at most `max_new_tokens` tokens.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..Self::default() }
    }

    /// Sets the temperature.
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets the nucleus mass.
    pub fn with_top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets the number of candidate tokens.
    pub fn with_top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets the seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Why a model stopped generating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its answer.
    Stop,
    /// The answer reached the longest allowed length.
    Length,
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// The text, without special tokens.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Its length in tokens, where the model reports it.
    pub tokens: Option<usize>,
}

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure<E> {
    /// What went wrong.
    pub error: E,
    /// Whether the error is the request's own fault, so that asking again is useless.
    pub is_request_error: bool,
}
