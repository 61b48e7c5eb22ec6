use image::{Rgb, RgbImage};

use crate::blend::{blend, grey};
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `grayscale`: the colours blended with grey, all of them if no amount is given.
///
/// The grey is Pillow's `convert("L")`. The levels of severity are ours.
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
    /// From 0, the image itself, to 1, no colour; 1 if left out.
    pub amount: Amount<f32>,
}

const fn at(amount: f32) -> Distortion {
    Distortion::Grayscale(Grayscale { amount: Amount::Exactly(amount) })
}

pub(super) static FAMILY: Family = Family {
    name: "grayscale",
    about: "without colour, or with less of it",
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
