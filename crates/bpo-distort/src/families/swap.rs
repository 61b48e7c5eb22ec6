use image::RgbImage;

use crate::family::{Family, Part, Stage, Value};
use crate::resize::{Filter, resize};
use crate::{DistortError, Distortion, Input, StageSeed};

/// `swap`: replaces the image by a second image, resized to the same size.
///
/// The aspect ratio is not kept. The resize is Pillow's `resize` with the filter `BILINEAR`.
///
/// ```
/// use bpo_distort::{DistortError, Distortion, Input};
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_pixel(4, 4, Rgb([200, 0, 0]));
/// let other = RgbImage::from_pixel(9, 2, Rgb([0, 0, 100]));
/// let swap: Distortion = "swap".parse()?;
/// let swapped = swap.apply(Input::new(&image).with_other(&other), 7)?;
/// assert_eq!(swapped, RgbImage::from_pixel(4, 4, Rgb([0, 0, 100])));
/// assert!(swap.needs_other());
/// assert!(matches!(swap.apply(&image, 7), Err(DistortError::NeedsOther { .. })));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap;

pub(super) static FAMILY: Family = Family {
    name: "swap",
    about: "replaced by another image",
    parameters: &[],
    part: Part::Image,
    needs_other: true,
    levels: None,
    weakest: Distortion::Swap(Swap),
    has_identity: false,
};

impl Stage for Swap {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![]
    }

    fn run(&self, input: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        fitted(input, FAMILY.name)
    }
}

/// The second image, resized to the size of the image.
pub(super) fn fitted(input: Input<'_>, family: &'static str) -> Result<RgbImage, DistortError> {
    let other = input.other.ok_or(DistortError::NeedsOther { family })?;
    Ok(resize(other, input.image.width(), input.image.height(), Filter::Bilinear))
}
