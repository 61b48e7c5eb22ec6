use image::{Rgb, RgbImage};

use crate::blend::{blend, grey};
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `grayscale`: blends each pixel with its grey value, completely by default.
///
/// The grey value is that of Pillow's `convert("L")`. The severity levels are this project's.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let red = RgbImage::from_pixel(2, 2, Rgb([255, 0, 0]));
/// let with = |text: &str| text.parse::<Distortion>()?.apply(&red, 7);
/// assert_eq!(*with("grayscale")?.get_pixel(0, 0), Rgb([76; 3]));
/// assert_eq!(*with("grayscale:amount=0.5")?.get_pixel(0, 0), Rgb([165, 38, 38]));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grayscale {
    /// The share of grey, from 0 (the same image) to 1 (no colour); 1 by default.
    pub amount: Amount<f32>,
}

const fn at(amount: f32) -> Distortion {
    Distortion::Grayscale(Grayscale { amount: Amount::Exactly(amount) })
}

pub(super) static FAMILY: Family = Family {
    name: "grayscale",
    about: "no colour, or less colour",
    parameters: &[Parameter::number("amount", 0.0, 1.0).or("1")],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.2), at(0.4), at(0.6), at(0.8), at(1.0)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for Grayscale {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.amount]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        let amount = self.amount.exact();
        let mut faded = input.image.clone();
        faded.pixels_mut().for_each(|pixel| *pixel = blend(*pixel, Rgb([grey(*pixel); 3]), amount));
        Ok(faded)
    }
}
