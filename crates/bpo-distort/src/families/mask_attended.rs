use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `mask-attended:share=0.5,layer=-1`: masks the image tokens with the most attention.
///
/// Follows the visually distracted answers of HDPO ([arXiv 2411.10436](https://arxiv.org/abs/2411.10436)):
/// before the model answers, the attention of the last token of the prompt to the tokens of each image is
/// read in one decoder layer, as the mean over heads, and the share of the tokens with the most attention,
/// rounded, is masked. [`features::attended_tokens`](crate::features::attended_tokens) chooses them. The
/// paper gives neither the share nor the layer; levels and defaults are this project's.
///
/// ```
/// use bpo_distort::Distortion;
/// use bpo_distort::features::{FeatureStage, attended_tokens};
///
/// let mask: Distortion = "mask-attended:share=0.5".parse()?;
/// let stages: Vec<_> = mask.feature_stages(7)?.map(|(stage, _)| stage).collect();
/// assert_eq!(stages, [FeatureStage::MaskAttended { share: 0.5, layer: -1 }]);
/// assert_eq!(attended_tokens(&[0.1, 0.4, 0.2, 0.3], 0.5), [1, 3]);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskAttended {
    /// Share of the tokens of each image to mask, from 0 to 1.
    pub share: Amount<f32>,
    /// The decoder layer, from 0, or from the last one as -1; -1 by default.
    pub layer: Amount<i32>,
}

const fn at(share: f32) -> Distortion {
    Distortion::MaskAttended(MaskAttended { share: Amount::Exactly(share), layer: Amount::Exactly(-1) })
}

pub(super) static FAMILY: Family = Family {
    name: "mask-attended",
    about: "the image tokens with the most attention masked",
    parameters: &[Parameter::number("share", 0.0, 1.0), Parameter::whole("layer", -1000, 1000).or("-1")],
    part: Part::Features,
    needs_other: false,
    levels: Some([at(0.2), at(0.4), at(0.6), at(0.8), at(0.95)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for MaskAttended {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.share, &mut self.layer]
    }

    fn run(&self, _: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Err(DistortError::NeedsModel { family: FAMILY.name })
    }
}
