use image::RgbImage;

use crate::family::{Family, Part, Stage, Value};
use crate::{DistortError, Distortion, Input, StageSeed};

/// `clean`: the image as it is, for answers that are weakened in another way than by their image.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_pixel(3, 2, Rgb([7, 8, 9]));
/// assert_eq!("clean".parse::<Distortion>()?.apply(&image, 7)?, image);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clean;

pub(super) static FAMILY: Family = Family {
    name: "clean",
    about: "the image as it is",
    parameters: &[],
    part: Part::Image,
    needs_other: false,
    levels: None,
    weakest: Distortion::Clean(Clean),
    has_identity: true,
};

impl Stage for Clean {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![]
    }

    fn run(&self, Input { image, .. }: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Ok(image.clone())
    }
}
