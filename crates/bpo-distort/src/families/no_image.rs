use image::RgbImage;

use crate::family::{Family, Part, Stage, Value};
use crate::{DistortError, Distortion, Input, StageSeed};

/// `no-image`: the model answers without the image.
///
/// ```
/// use bpo_distort::Distortion;
/// use bpo_distort::features::FeatureStage;
///
/// let blind: Distortion = "no-image".parse()?;
/// assert!(blind.needs_model());
/// let stages: Vec<_> = blind.feature_stages(7)?.map(|(stage, _)| stage).collect();
/// assert_eq!(stages, [FeatureStage::NoImage]);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoImage;

pub(super) static FAMILY: Family = Family {
    name: "no-image",
    about: "the model answers without the image",
    parameters: &[],
    part: Part::Features,
    needs_other: false,
    levels: None,
    weakest: Distortion::NoImage(NoImage),
    has_identity: false,
};

impl Stage for NoImage {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![]
    }

    fn run(&self, _: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Err(DistortError::NeedsModel { family: FAMILY.name })
    }
}
