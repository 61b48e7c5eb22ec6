use image::{Rgb, RgbImage};

use crate::blend::blend_from;
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `brightness:factor=0.3`: multiplies each level by the factor, like Pillow's
/// `ImageEnhance.Brightness`.
///
/// The severity levels are this project's; all of them darken.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_pixel(2, 2, Rgb([200, 100, 50]));
/// let with = |text: &str| text.parse::<Distortion>()?.apply(&image, 7);
/// assert_eq!(*with("brightness:factor=0.5")?.get_pixel(0, 0), Rgb([100, 50, 25]));
/// assert_eq!(*with("brightness:factor=2")?.get_pixel(0, 0), Rgb([255, 200, 100]));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brightness {
    /// The factor, from 0 (black) to 100. 1 returns the same image.
    pub factor: Amount<f32>,
}

const fn at(factor: f32) -> Distortion {
    Distortion::Brightness(Brightness { factor: Amount::Exactly(factor) })
}

pub(super) static FAMILY: Family = Family {
    name: "brightness",
    about: "darker below a factor of 1, brighter above",
    parameters: &[Parameter::number("factor", 0.0, 100.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.7), at(0.5), at(0.35), at(0.2), at(0.1)]),
    weakest: at(1.0),
    has_identity: true,
};

impl Stage for Brightness {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.factor]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Ok(blend_from(input.image, self.factor.exact(), |_| Rgb([0; 3])))
    }
}
