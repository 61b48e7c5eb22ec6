use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `salt-and-pepper:share=0.1`: sets a share of the levels to 0 or 255, with equal probability.
///
/// The channels of a pixel are independent. Method and severity levels are those of ImageNet-C's
/// impulse noise ([arXiv 1903.12261](https://arxiv.org/abs/1903.12261)).
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let grey = RgbImage::from_pixel(100, 100, Rgb([128; 3]));
/// let noised = "salt-and-pepper:share=0.1".parse::<Distortion>()?.apply(&grey, 7)?;
/// let of = |wanted: u8| noised.iter().filter(|&&level| level == wanted).count();
/// assert_eq!(of(0) + of(128) + of(255), 30_000);
/// assert!((1300..1700).contains(&of(0)) && (1300..1700).contains(&of(255)));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaltAndPepper {
    /// The probability of a change of a level, from 0 (the same image) to 1.
    pub share: Amount<f32>,
}

const fn at(share: f32) -> Distortion {
    Distortion::SaltAndPepper(SaltAndPepper { share: Amount::Exactly(share) })
}

pub(super) static FAMILY: Family = Family {
    name: "salt-and-pepper",
    about: "a share of the levels set to 0 or 255",
    parameters: &[Parameter::number("share", 0.0, 1.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.03), at(0.06), at(0.09), at(0.17), at(0.27)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for SaltAndPepper {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.share]
    }

    fn run(&self, input: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        // One bit chooses 0 or 255, the other 63 decide whether the level changes.
        const RANGE: f64 = (1u64 << 63) as f64;
        let hit_below = (f64::from(self.share.exact()) * RANGE) as u64;
        let mut stream = seed.stream();
        let mut noised = input.image.clone();
        for level in noised.iter_mut() {
            let bits = stream.bits();
            if bits >> 1 < hit_below {
                *level = if bits & 1 == 1 { 255 } else { 0 };
            }
        }
        Ok(noised)
    }
}
