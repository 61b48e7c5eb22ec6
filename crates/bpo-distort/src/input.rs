//! What a distortion is given.

use image::RgbImage;

/// The image to weaken and, for the families that need one, another image.
///
/// A reference to an image is an input without another one.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Input<'a> {
    /// The image to weaken.
    pub image: &'a RgbImage,
    /// The image that [`Mix`](crate::Mix) and [`Swap`](crate::Swap) bring in; all stages of a sequence get the same.
    pub other: Option<&'a RgbImage>,
}

impl<'a> Input<'a> {
    /// An image alone.
    pub fn new(image: &'a RgbImage) -> Self {
        Self { image, other: None }
    }

    /// Adds another image, of any size.
    pub fn with_other(self, other: &'a RgbImage) -> Self {
        Self { other: Some(other), ..self }
    }
}

impl<'a> From<&'a RgbImage> for Input<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self::new(image)
    }
}
