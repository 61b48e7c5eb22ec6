//! The input of a distortion.

use image::RgbImage;

/// The image to weaken and, for the families that need one, a second image.
///
/// `&RgbImage` converts to an input without a second image.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Input<'a> {
    /// The image to weaken.
    pub image: &'a RgbImage,
    /// The second image, for [`Mix`](crate::Mix) and [`Swap`](crate::Swap). All stages of a
    /// sequence use the same one.
    pub other: Option<&'a RgbImage>,
}

impl<'a> Input<'a> {
    /// An input without a second image.
    pub fn new(image: &'a RgbImage) -> Self {
        Self { image, other: None }
    }

    /// Sets the second image, of any size.
    pub fn with_other(self, other: &'a RgbImage) -> Self {
        Self { other: Some(other), ..self }
    }
}

impl<'a> From<&'a RgbImage> for Input<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self::new(image)
    }
}
