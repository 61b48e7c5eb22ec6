use image::RgbImage;
use image::imageops::crop_imm;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::resize::{Filter, resize};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `crop:keep=0.01..0.2`: a random window with this share of the area, enlarged to the size of the
/// image.
///
/// The window has the aspect ratio of the image, rounded sides of at least one pixel, and a
/// uniformly random position. It is enlarged like by Pillow's `resize` with the filter `BILINEAR`.
/// The severity levels are this project's.
///
/// mDPO ([arXiv 2406.11839](https://arxiv.org/abs/2406.11839)) uses such images, with up to 20 % of
/// the area, on its rejected side. Its released code for Bunny crops the preprocessed pixels with
/// torchvision's `RandomResizedCrop(scale=(0.01, 0.2))`, which also draws the aspect ratio, from
/// 3:4 to 4:3. `crop:keep=0.01..0.2` is the same on the image, with a fixed aspect ratio.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let ramp = RgbImage::from_fn(100, 100, |x, _| Rgb([x as u8; 3]));
/// let cropped = "crop:keep=0.25".parse::<Distortion>()?.apply(&ramp, 7)?;
/// assert_eq!(cropped.dimensions(), (100, 100));
/// // The window has half of the width.
/// let span = cropped.get_pixel(99, 0)[0] - cropped.get_pixel(0, 0)[0];
/// assert_eq!(span, 49);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Share of the area in the window, from 0 (one pixel) to 1 (the whole image).
    pub keep: Amount<f32>,
}

const fn at(keep: f32) -> Distortion {
    Distortion::Crop(Crop { keep: Amount::Exactly(keep) })
}

pub(super) static FAMILY: Family = Family {
    name: "crop",
    about: "a random window with a share of the area, enlarged to the size of the image",
    parameters: &[Parameter::number("keep", 0.0, 1.0)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.8), at(0.6), at(0.4), at(0.2), at(0.05)]),
    weakest: at(1.0),
    has_identity: true,
};

impl Stage for Crop {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.keep]
    }

    fn run(&self, Input { image, .. }: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        let share = f64::from(self.keep.exact()).sqrt();
        let window = |side: u32| ((f64::from(side) * share).round() as u32).clamp(1, side);
        let (width, height) = (window(image.width()), window(image.height()));
        let mut stream = seed.stream();
        let mut place = |side: u32, window: u32| stream.below((side - window) as usize + 1) as u32;
        let (left, top) = (place(image.width(), width), place(image.height(), height));
        let kept = crop_imm(image, left, top, width, height).to_image();
        Ok(resize(&kept, image.width(), image.height(), Filter::Bilinear))
    }
}
