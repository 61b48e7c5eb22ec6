use image::{Rgb, RgbImage};

use crate::blend::{blend_from, grey};
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `contrast:factor=0.3`: multiplies the distance of each level from the mean grey by the factor,
/// like Pillow's `ImageEnhance.Contrast`.
///
/// The severity levels are those of ImageNet-C ([arXiv
/// 1903.12261](https://arxiv.org/abs/1903.12261)), which uses a mean for each channel.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_fn(2, 1, |x, _| Rgb([50 + x as u8 * 100; 3])); // the mean is 100
/// let flat = "contrast:factor=0.2".parse::<Distortion>()?.apply(&image, 7)?;
/// assert_eq!(flat.pixels().map(|pixel| pixel[0]).collect::<Vec<_>>(), [90, 110]);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// The factor, from 0 (uniform grey) to 100. 1 returns the same image.
    pub factor: Amount<f32>,
}

const fn at(factor: f32) -> Distortion {
    Distortion::Contrast(Contrast { factor: Amount::Exactly(factor) })
}

pub(super) static FAMILY: Family = Family {
    name: "contrast",
    about: "lower contrast below a factor of 1, higher above",
    parameters: &[Parameter::number("factor", 0.0, 100.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.4), at(0.3), at(0.2), at(0.1), at(0.05)]),
    weakest: at(1.0),
    has_identity: true,
};

impl Stage for Contrast {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.factor]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        let sum: u64 = input.image.pixels().map(|pixel| u64::from(grey(*pixel))).sum();
        let count = input.image.pixels().len() as u64;
        let mean = ((2 * sum + count) / (2 * count)) as u8;
        Ok(blend_from(input.image, self.factor.exact(), |_| Rgb([mean; 3])))
    }
}
