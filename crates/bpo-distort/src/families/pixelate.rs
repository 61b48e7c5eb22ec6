use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::resize::{Filter, resize};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `pixelate:scale=0.25`: shrinks the image and enlarges it again, with box filters.
///
/// The small image has `scale` times the width and height, truncated, at least one pixel. Both
/// steps are Pillow's `resize` with the filter `BOX`. Method and severity levels are those of
/// ImageNet-C ([arXiv 1903.12261](https://arxiv.org/abs/1903.12261)).
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let ramp = RgbImage::from_fn(8, 1, |x, _| Rgb([x as u8 * 10; 3]));
/// let coarse = "pixelate:scale=0.25".parse::<Distortion>()?.apply(&ramp, 7)?;
/// let row: Vec<u8> = coarse.pixels().map(|pixel| pixel[0]).collect();
/// assert_eq!(row, [15, 15, 15, 15, 55, 55, 55, 55]);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixelate {
    /// Relative size of the small image, from 0 (one pixel) to 1 (the same image).
    pub scale: Amount<f32>,
}

const fn at(scale: f32) -> Distortion {
    Distortion::Pixelate(Pixelate { scale: Amount::Exactly(scale) })
}

pub(super) static FAMILY: Family = Family {
    name: "pixelate",
    about: "coarse pixels: shrunk by a factor and enlarged again",
    parameters: &[Parameter::number("scale", 0.0, 1.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.6), at(0.5), at(0.4), at(0.3), at(0.25)]),
    weakest: at(1.0),
    has_identity: true,
};

impl Stage for Pixelate {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.scale]
    }

    fn run(&self, Input { image, .. }: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        // A decimal in single precision may be slightly too small.
        let scale = f64::from(self.scale.exact()) * (1.0 + f64::from(f32::EPSILON));
        let small = |side: u32| ((f64::from(side) * scale) as u32).clamp(1, side);
        let coarse = resize(image, small(image.width()), small(image.height()), Filter::Box);
        Ok(resize(&coarse, image.width(), image.height(), Filter::Box))
    }
}
