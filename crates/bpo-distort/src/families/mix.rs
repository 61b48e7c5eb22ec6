use image::RgbImage;

use super::swap::fitted;
use crate::blend::blend;
use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `mix:share=0.5`: blends the image with a second image, resized to the same size.
///
/// Computes `(1 - share) image + share other` like Pillow's `Image.blend`. The second image is
/// resized like for
/// [`Swap`](crate::Swap). The severity levels are this project's.
///
/// ```
/// use bpo_distort::{Distortion, Input};
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_pixel(4, 4, Rgb([200, 0, 0]));
/// let other = RgbImage::from_pixel(9, 2, Rgb([0, 0, 100]));
/// let mix: Distortion = "mix:share=0.25".parse()?;
/// let mixed = mix.apply(Input::new(&image).with_other(&other), 7)?;
/// assert_eq!(mixed, RgbImage::from_pixel(4, 4, Rgb([150, 0, 25])));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// Share of the second image, from 0 (the same image) to 1.
    pub share: Amount<f32>,
}

const fn at(share: f32) -> Distortion {
    Distortion::Mix(Mix { share: Amount::Exactly(share) })
}

pub(super) static FAMILY: Family = Family {
    name: "mix",
    about: "blended with another image",
    parameters: &[Parameter::number("share", 0.0, 1.0)],
    part: Part::Image,
    needs_other: true,
    levels: Some([at(0.2), at(0.35), at(0.5), at(0.65), at(0.8)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for Mix {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.share]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        let share = self.share.exact();
        let mut mixed = input.image.clone();
        for (pixel, other) in mixed.pixels_mut().zip(fitted(input, FAMILY.name)?.pixels()) {
            *pixel = blend(*pixel, *other, share);
        }
        Ok(mixed)
    }
}
