use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `jpeg:quality=10`: encodes the image as JPEG and decodes it again.
///
/// Uses libjpeg's tables and half the colour resolution, like Pillow's `save(quality=...)`. No
/// quality returns the same image. The severity levels are those of ImageNet-C ([arXiv
/// 1903.12261](https://arxiv.org/abs/1903.12261)).
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let level = |x: u32, y: u32| Rgb([(x * 8) as u8, (y * 8) as u8, (x * y) as u8]);
/// let image = RgbImage::from_fn(32, 32, level);
/// let error = |quality: u8| -> Result<u64, bpo_distort::DistortError> {
///     let stored = format!("jpeg:quality={quality}").parse::<Distortion>()?.apply(&image, 7)?;
///     Ok(stored.iter().zip(image.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum())
/// };
/// assert!(error(90)? < error(30)? && error(30)? < error(3)?);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jpeg {
    /// libjpeg's quality, from 1 to 100.
    pub quality: Amount<u8>,
}

const fn at(quality: u8) -> Distortion {
    Distortion::Jpeg(Jpeg { quality: Amount::Exactly(quality) })
}

pub(super) static FAMILY: Family = Family {
    name: "jpeg",
    about: "encoded as JPEG of a low quality and decoded again",
    parameters: &[Parameter::whole("quality", 1, 100)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(25), at(18), at(15), at(10), at(7)]),
    weakest: at(100),
    has_identity: false,
};

impl Stage for Jpeg {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.quality]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        crate::jpeg::recompress(input.image, self.quality.exact())
    }
}
