use image::{Rgb, RgbImage};

use crate::blend::{blend_from, grey};
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `saturation:factor=0.3`: multiplies the distance of each level from the pixel's grey value by
/// the factor, like Pillow's `ImageEnhance.Color`.
///
/// The severity levels are this project's; all of them reduce the saturation.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let red = RgbImage::from_pixel(2, 2, Rgb([255, 0, 0])); // its grey value is 76
/// let with = |text: &str| text.parse::<Distortion>()?.apply(&red, 7);
/// assert_eq!(*with("saturation:factor=0")?.get_pixel(0, 0), Rgb([76; 3]));
/// assert_eq!(*with("saturation:factor=0.5")?.get_pixel(0, 0), Rgb([165, 38, 38]));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saturation {
    /// The factor, from 0 (grey) to 100. 1 returns the same image.
    pub factor: Amount<f32>,
}

const fn at(factor: f32) -> Distortion {
    Distortion::Saturation(Saturation { factor: Amount::Exactly(factor) })
}

pub(super) static FAMILY: Family = Family {
    name: "saturation",
    about: "less saturated below a factor of 1, more above",
    parameters: &[Parameter::number("factor", 0.0, 100.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.7), at(0.5), at(0.3), at(0.15), at(0.0)]),
    weakest: at(1.0),
    has_identity: true,
};

impl Stage for Saturation {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.factor]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Ok(blend_from(input.image, self.factor.exact(), |pixel| Rgb([grey(pixel); 3])))
    }
}
