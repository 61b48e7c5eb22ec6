//! The provenance of an answer about a weakened image, or with injected errors.

use serde::{Deserialize, Serialize};

use crate::skipped::is_zero;

/// How an answer about a weakened image was generated, or which error was injected into an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a provenance: an object with `distortion` or `error`")]
#[non_exhaustive]
pub struct Provenance {
    /// The distortion in its text form, with the parameters that were drawn. Empty for an answer
    /// with injected errors.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub distortion: String,
    /// Kind of the injected error, such as `count` or `co-occurrence`, if one was injected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Path of the other image, if the distortion used one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// Contrastive decoding against the clean image, if it was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Number of words of the annotated answer that were given as a prefix of this answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub prefix_words: usize,
    /// Number of sentences that were cut off the annotated answer to make the prefix; 0 if the prefix was
    /// made in another way, or if there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub cut_sentences: usize,
    /// Index of the answer among the sample's answers about weakened images, from 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: usize,
}

impl Provenance {
    /// Creates the provenance of an answer with an injected error of a kind.
    pub fn of_error(kind: impl Into<String>) -> Self {
        Self { error: Some(kind.into()), ..Self::default() }
    }
}

/// Contrastive decoding: each token is drawn from `(1 + alpha) * logits - alpha * other_logits`.
/// One of the two is computed from the weakened image, the other from the clean image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `mode`")]
#[non_exhaustive]
pub struct Contrast {
    /// The image whose logits are amplified.
    pub mode: ContrastMode,
    /// Strength of the contrast. Default: 1 (VCD, arXiv 2311.16922).
    #[serde(default = "one")]
    pub alpha: f64,
    /// Plausibility cutoff: a token is not drawn if its probability under the amplified logits is
    /// below this share of that of the most likely token. Default: 0.1 (VCD).
    #[serde(default = "tenth")]
    pub plausibility: f64,
}

/// The image whose logits are amplified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContrastMode {
    /// The weakened image, which amplifies the language prior.
    AmplifyPrior,
    /// The clean image: visual contrastive decoding (VCD), which reduces hallucination.
    Vcd,
}

impl Contrast {
    /// Creates a contrast with the parameters of VCD.
    pub fn new(mode: ContrastMode) -> Self {
        Self { mode, alpha: one(), plausibility: tenth() }
    }
}

fn one() -> f64 {
    1.0
}

fn tenth() -> f64 {
    0.1
}
