//! Contrast decoding: tokens that one view of the image makes likelier than another one does.

use crate::input::ModelInput;

/// What a prompt is contrasted with. Its next token is drawn from
///
/// ```text
/// (1 + alpha) * logits(prompt) - alpha * logits(seen)
/// ```
///
/// among the tokens that the prompt itself finds likely: at least `plausibility` times as likely as its likeliest one.
///
/// With a clean image against a weakened one this is VCD (Leng et al., "Mitigating Object Hallucinations in Large
/// Vision-Language Models through Visual Contrastive Decoding", arXiv 2311.16922, equations 3 to 5), which moves away from
/// the model's bias; the other way round it moves towards it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ContrastInput {
    /// What is read beside the prompt.
    pub seen: ModelInput,
    /// How strongly; 0 not at all.
    pub alpha: f64,
    /// From 0, all tokens, to 1, the likeliest ones alone.
    pub plausibility: f64,
}

impl ContrastInput {
    /// A contrast.
    pub fn new(seen: ModelInput, alpha: f64, plausibility: f64) -> Self {
        Self { seen, alpha, plausibility }
    }

    /// The logits to draw from; negative infinity for tokens that are not likely enough. Both have the length of the vocabulary.
    pub(super) fn contrast(&self, logits: &[f32], other: &[f32]) -> Vec<f32> {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = f64::from(best) + self.plausibility.ln();
        let contrasted = |(&own, &other): (&f32, &f32)| match f64::from(own) >= least {
            true => ((1.0 + self.alpha) * f64::from(own) - self.alpha * f64::from(other)) as f32,
            false => f32::NEG_INFINITY,
        };
        logits.iter().zip(other).map(contrasted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::ImageInput;

    fn contrast(alpha: f64, plausibility: f64) -> Vec<f32> {
        let seen = ModelInput::new(vec![], ImageInput::default());
        ContrastInput::new(seen, alpha, plausibility).contrast(&[2.0, 1.0, -1.0], &[3.0, 0.5, -1.0])
    }

    #[test]
    fn logits_move_away_from_the_other_ones() {
        assert_eq!(contrast(1.0, 0.0), [1.0, 1.5, -1.0]);
        assert_eq!(contrast(0.0, 0.0), [2.0, 1.0, -1.0]);
    }

    #[test]
    fn what_is_unlikely_stays_out() {
        // e^-1 and e^-3 of the likeliest token
        assert_eq!(contrast(1.0, 0.1), [1.0, 1.5, f32::NEG_INFINITY]);
        assert_eq!(contrast(1.0, 1.0), [1.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
