//! The provenance of an answer: how its image was weakened.

use serde::{Deserialize, Serialize};

use crate::skipped::is_zero;

/// How an answer was got from a weakened image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a provenance: an object with `distortion`")]
#[non_exhaustive]
pub struct Provenance {
    /// What was done to the image, with what was drawn from ranges.
    pub distortion: String,
    /// Path of the other image, where one was brought in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// Contrast decoding with the clean image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Words of the annotated answer that it begins with.
    #[serde(skip_serializing_if = "is_zero")]
    pub prefix_words: usize,
    /// Which of the sample's answers for weakened images it is, from 0, where there are several.
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: usize,
}

/// Contrast decoding: each token is drawn from `(1 + alpha) * logits - alpha * other logits`, of the weakened image and the
/// clean one, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `mode`")]
#[non_exhaustive]
pub struct Contrast {
    /// Which way.
    pub mode: ContrastMode,
    /// How strongly. Default: 1 (VCD, arXiv 2311.16922).
    #[serde(default = "one")]
    pub alpha: f64,
    /// Tokens less likely than this part of the likeliest one are not drawn, by the logits that count more. Default: 0.1 (VCD).
    #[serde(default = "tenth")]
    pub plausibility: f64,
}

/// Which logits count more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContrastMode {
    /// The logits of the weakened image count more, which amplifies the language prior.
    AmplifyPrior,
    /// The logits of the clean image count more: visual contrastive decoding, which reduces
    /// hallucination.
    Vcd,
}

impl Contrast {
    /// With VCD's settings.
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
