//! Contrastive decoding: prefers tokens that one view of the image makes more likely than another.

use crate::input::ModelInput;

/// The input that a prompt is contrasted with. The next token is drawn from
///
/// ```text
/// (1 + alpha) * logits(prompt) - alpha * logits(other)
/// ```
///
/// among the tokens that the prompt itself makes likely: those with at least `plausibility` times
/// the probability of its most likely token.
///
/// With a clean image contrasted with a weakened one, this is VCD (Leng et al., "Mitigating Object
/// Hallucinations in Large Vision-Language Models through Visual Contrastive Decoding", arXiv
/// 2311.16922, equations 3 to 5), which moves answers away from the prior of the language model.
/// With the two exchanged, it moves them towards the prior.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ContrastInput {
    /// The other input.
    pub input: ModelInput,
    /// Strength of the contrast; 0 turns it off.
    pub alpha: f64,
    /// Smallest probability of a token, relative to the most likely one: from 0 (all tokens) to 1
    /// (the most likely token only).
    pub plausibility: f64,
}

impl ContrastInput {
    /// Creates a contrast.
    pub fn new(input: ModelInput, alpha: f64, plausibility: f64) -> Self {
        Self { input, alpha, plausibility }
    }

    /// Computes the logits to draw from: negative infinity for implausible tokens. All slices have
    /// the length of the vocabulary.
    pub(super) fn logits(&self, logits: &[f32], other: &[f32]) -> Vec<f32> {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = f64::from(best) + self.plausibility.ln();
        let contrasted = |(&own, &other): (&f32, &f32)| {
            if f64::from(own) >= least {
                ((1.0 + self.alpha) * f64::from(own) - self.alpha * f64::from(other)) as f32
            } else {
                f32::NEG_INFINITY
            }
        };
        logits.iter().zip(other).map(contrasted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contrast(alpha: f64, plausibility: f64) -> Vec<f32> {
        let input = ModelInput::new(vec![], Vec::new());
        ContrastInput::new(input, alpha, plausibility).logits(&[2.0, 1.0, -1.0], &[3.0, 0.5, -1.0])
    }

    #[test]
    fn logits_move_away_from_the_other_ones() {
        assert_eq!(contrast(1.0, 0.0), [1.0, 1.5, -1.0]);
        assert_eq!(contrast(0.0, 0.0), [2.0, 1.0, -1.0]);
    }

    #[test]
    fn implausible_tokens_are_excluded() {
        // e^-1 and e^-3 of the likeliest token
        assert_eq!(contrast(1.0, 0.1), [1.0, 1.5, f32::NEG_INFINITY]);
        assert_eq!(contrast(1.0, 1.0), [1.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
