use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{DistortError, Distortion, Fill, Input, StageSeed};

/// `blank:fill=black`: replaces the image by black, its mean colour, or noise.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_fn(2, 1, |x, _| Rgb([100 + x as u8 * 50, 7, 0]));
/// let with = |text: &str| text.parse::<Distortion>()?.apply(&image, 7);
/// assert_eq!(with("blank")?, RgbImage::new(2, 1));
/// assert_eq!(with("blank:fill=mean")?, RgbImage::from_pixel(2, 1, Rgb([125, 7, 0])));
/// assert_ne!(with("blank:fill=noise")?, with("blank:fill=mean")?);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blank {
    /// The fill; black by default.
    pub fill: Fill,
}

pub(super) static FAMILY: Family = Family {
    name: "blank",
    about: "the whole image black, its mean colour, or noise",
    parameters: &[Parameter::word("fill", Fill::WORDS).or("black")],
    part: Part::Image,
    needs_other: false,
    levels: None,
    weakest: Distortion::Blank(Blank { fill: Fill::Black }),
    has_identity: false,
};

impl Stage for Blank {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.fill]
    }

    fn run(&self, Input { image, .. }: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        let mut stream = seed.stream();
        let mut colour = self.fill.colours(image, &mut stream);
        let mut blank = image.clone();
        blank.pixels_mut().for_each(|pixel| *pixel = colour());
        Ok(blank)
    }
}
