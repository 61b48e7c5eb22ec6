//! Distortions of the features of a model: the parts that need no tensor library.
//!
//! [`Distortion::feature_stages`](crate::Distortion::feature_stages) returns the stages for an
//! item, and a model applies them to its features. The functions of this module compute the noise
//! and the masked tokens from the [`StageSeed`].
//!
//! ```
//! use bpo_distort::features::{FeatureStage, add_noise, masked_tokens};
//!
//! let text = "blur:sigma=2+feature-noise:sigma=0.5+mask-tokens:share=0.75";
//! let distortion: bpo_distort::Distortion = text.parse()?;
//! let mut features = vec![1.0, 2.0, 3.0, 4.0]; // four image tokens of width 1
//! let mut hidden = vec![];
//! for (stage, seed) in distortion.feature_stages(7)? {
//!     match stage {
//!         FeatureStage::Noise { sigma } => add_noise(&mut features, sigma, seed),
//!         FeatureStage::MaskTokens { share } => {
//!             hidden = masked_tokens(features.len(), share, seed)
//!         }
//!         _ => unreachable!(),
//!     }
//! }
//! assert_eq!(hidden.len(), 3);
//! assert_ne!(features, [1.0, 2.0, 3.0, 4.0]);
//! # Ok::<(), bpo_distort::DistortError>(())
//! ```

use crate::StageSeed;

/// A feature stage with its ranges drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum FeatureStage {
    /// Gaussian noise on the vision features, see [`add_noise`] and
    /// [`FeatureNoise`](crate::FeatureNoise).
    Noise {
        /// Standard deviation of the noise, divided by that of the features.
        sigma: f32,
    },
    /// Image tokens masked in attention, see [`masked_tokens`] and
    /// [`MaskTokens`](crate::MaskTokens).
    MaskTokens {
        /// Share of the masked tokens.
        share: f32,
    },
    /// The image tokens with the most attention masked in attention, see [`attended_tokens`] and
    /// [`MaskAttended`](crate::MaskAttended).
    MaskAttended {
        /// Share of the masked tokens of each image.
        share: f32,
        /// The decoder layer whose attention is read, from 0, or from the last one as -1.
        layer: i32,
    },
    /// The model answers without the image, see [`NoImage`](crate::NoImage).
    NoImage,
}

/// Adds Gaussian noise to features in place. Its standard deviation is `sigma` times that of all
/// features.
///
/// # Shapes
///
/// - features: `[tokens, width]`, contiguous; one image
pub fn add_noise(features: &mut [f32], sigma: f32, seed: StageSeed) {
    let scale = f64::from(sigma) * standard_deviation(features);
    if scale == 0.0 {
        return;
    }
    seed.normals()
        .for_each_value(features, |feature, noise| *feature = (f64::from(*feature) + scale * noise) as f32);
}

/// The standard deviation of all features, as used by [`add_noise`]; 0 without features.
///
/// The sum has a fixed order, so the result is equal on every platform.
pub fn standard_deviation(features: &[f32]) -> f64 {
    let count = features.len().max(1) as f64;
    let mean = features.iter().map(|&feature| f64::from(feature)).sum::<f64>() / count;
    let square = |&feature: &f32| (f64::from(feature) - mean) * (f64::from(feature) - mean);
    (features.iter().map(square).sum::<f64>() / count).sqrt()
}

/// An infinite stream of the standard-normal deviates of [`add_noise`], for models that add noise
/// on their device.
pub fn deviates(seed: StageSeed) -> impl Iterator<Item = f64> {
    seed.normals()
}

/// Chooses the image tokens to mask: `share` of them, rounded, in ascending order.
///
/// A share above 1 masks all tokens.
pub fn masked_tokens(tokens: usize, share: f32, seed: StageSeed) -> Vec<usize> {
    let mut hidden = seed.stream().choose(counted(tokens, share), tokens);
    hidden.sort_unstable();
    hidden
}

/// Chooses the image tokens with the most attention: `share` of them, rounded, in ascending order. Of
/// tokens with the same attention, earlier ones are chosen first.
///
/// A share above 1 chooses all tokens.
///
/// # Shapes
///
/// - attention: `[tokens]`; one image
pub fn attended_tokens(attention: &[f32], share: f32) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..attention.len()).collect();
    // stable, so earlier tokens stay in front
    chosen.sort_by(|&one, &other| attention[other].total_cmp(&attention[one]));
    chosen.truncate(counted(attention.len(), share));
    chosen.sort_unstable();
    chosen
}

/// A share of tokens, rounded. At most `usize::MAX`.
fn counted(tokens: usize, share: f32) -> usize {
    (tokens as f64 * f64::from(share)).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_relative_to_the_standard_deviation() {
        let spread = |scale: f32| {
            let clean: Vec<f32> = (0..10_000).map(|i| ((i % 7) as f32 - 3.0) * scale + 5.0).collect();
            let mut noised = clean.clone();
            add_noise(&mut noised, 0.5, StageSeed::new(1, 0));
            let added: Vec<f32> = noised.iter().zip(&clean).map(|(noised, clean)| noised - clean).collect();
            standard_deviation(&added) / f64::from(scale)
        };
        // The features have a standard deviation of 2.
        assert!((spread(1.0) - 1.0).abs() < 0.03, "{}", spread(1.0));
        assert!((spread(100.0) - spread(1.0)).abs() < 1e-3);
    }

    #[test]
    fn no_noise_changes_nothing() {
        let seed = StageSeed::new(1, 0);
        let (mut some, mut flat) = ([1.0, -2.0], [4.0; 3]);
        add_noise(&mut some, 0.0, seed);
        add_noise(&mut flat, 1.0, seed);
        add_noise(&mut [], 1.0, seed);
        assert_eq!((some, flat), ([1.0, -2.0], [4.0; 3]));
        assert!(masked_tokens(576, 0.0, seed).is_empty());
    }

    #[test]
    fn attended_tokens_have_the_most_attention() {
        let attention = [0.1, 0.3, 0.2, 0.3, 0.1, 0.3];
        for (share, expected) in [
            (0.0, &[][..]),
            (0.08, &[]),
            // of equal ones, the first
            (1.0 / 6.0, &[1]),
            (0.34, &[1, 3]),
            (0.5, &[1, 3, 5]),
            (4.0 / 6.0, &[1, 2, 3, 5]),
            (5.0 / 6.0, &[0, 1, 2, 3, 5]),
            (1.0, &[0, 1, 2, 3, 4, 5]),
            (f32::INFINITY, &[0, 1, 2, 3, 4, 5]),
            (f32::NAN, &[]),
            (-1.0, &[]),
        ] {
            assert_eq!(attended_tokens(&attention, share), expected, "{share}");
        }
        assert!(attended_tokens(&[], 1.0).is_empty());
        assert_eq!(attended_tokens(&[0.0; 4], 0.5), [0, 1]);
    }

    #[test]
    fn hidden_tokens_are_distinct() {
        let hidden = masked_tokens(576, 0.25, StageSeed::new(3, 1));
        assert_eq!(hidden.len(), 144);
        assert!(hidden.windows(2).all(|pair| pair[0] < pair[1]) && hidden[143] < 576);
        assert_ne!(hidden, masked_tokens(576, 0.25, StageSeed::new(4, 1)));
        assert_eq!(masked_tokens(5, 1.0, StageSeed::new(3, 1)), [0, 1, 2, 3, 4]);
        for share in [f32::NAN, -1.0] {
            assert!(masked_tokens(5, share, StageSeed::new(3, 1)).is_empty());
        }
        assert_eq!(masked_tokens(5, f32::INFINITY, StageSeed::new(3, 1)).len(), 5);
    }
}
