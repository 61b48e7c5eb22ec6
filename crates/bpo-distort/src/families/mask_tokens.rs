use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `mask-tokens:share=0.9`: masks random image tokens in attention.
///
/// Follows BDHS ([arXiv 2407.02477](https://arxiv.org/abs/2407.02477)), in which a model answers
/// with part of the image tokens masked.
/// [`features::masked_tokens`](crate::features::masked_tokens) chooses the tokens: exactly the
/// share, rounded. The severity levels are this project's.
///
/// ```
/// use bpo_distort::Distortion;
/// use bpo_distort::features::{FeatureStage, masked_tokens};
///
/// let mask: Distortion = "mask-tokens:share=0.25".parse()?;
/// let hidden: Vec<usize> = mask
///     .feature_stages(7)?
///     .flat_map(|(stage, seed)| match stage {
///         FeatureStage::MaskTokens { share } => masked_tokens(576, share, seed),
///         _ => vec![],
///     })
///     .collect();
/// assert_eq!(hidden.len(), 144);
/// assert!(hidden.iter().all(|&token| token < 576));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskTokens {
    /// Share of the image tokens to mask, from 0 to 1.
    pub share: Amount<f32>,
}

const fn at(share: f32) -> Distortion {
    Distortion::MaskTokens(MaskTokens { share: Amount::Exactly(share) })
}

pub(super) static FAMILY: Family = Family {
    name: "mask-tokens",
    about: "random image tokens masked in attention",
    parameters: &[Parameter::number("share", 0.0, 1.0)],
    part: Part::Features,
    needs_other: false,
    levels: Some([at(0.2), at(0.4), at(0.6), at(0.8), at(0.95)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for MaskTokens {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.share]
    }

    fn run(&self, _: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Err(DistortError::NeedsModel { family: FAMILY.name })
    }
}
