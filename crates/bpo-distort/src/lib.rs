//! Image weakening for preference optimization of vision-language models.
//!
//! Bootstrapped Preference Optimization ([arXiv 2403.08730](https://arxiv.org/abs/2403.08730)) asks a
//! model about an image it can barely see: what it then answers comes from its text prior, and becomes
//! the rejected side of a preference pair. This crate makes the image hard to see, reproducibly: the same
//! seed and input give the same bytes on every platform and thread count.
//!
//! ```
//! use bpo_distort::Distortion;
//! use image::RgbImage;
//!
//! # fn main() -> Result<(), bpo_distort::DistortError> {
//! let image = RgbImage::from_pixel(32, 24, image::Rgb([200, 120, 40]));
//! let distortion: Distortion = "blur:sigma=2+diffusion-noise:step=500".parse()?;
//!
//! // On the image alone:
//! let weak = distortion.apply(&image, 7)?;
//! assert_eq!(weak.dimensions(), image.dimensions());
//! assert_eq!(weak, distortion.apply(&image, 7)?);
//!
//! // Around a model's own preprocessing, so that the noise falls on normalized pixels as in the paper:
//! let blurred = distortion.on_image(&image, 7)?;
//! let normalize = |&level: &u8| (f32::from(level) / 255.0 - 0.5) / 0.25;
//! let mut pixels: Vec<f32> = blurred.as_raw().iter().map(normalize).collect();
//! distortion.on_pixels(&mut pixels, 7)?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Distortion`]: what to do to an image, with a compact text form that serde uses too.
//! - [`diffusion`]: the noise schedule of VCD and BPO, and the noise on pixels and on RGB.
//! - [`blur`]: Gaussian blur.
//! - [`load_rgb`] and [`decode_rgb`]: image files to RGB under [`Limits`], with an error per way a file can be
//!   bad.

pub mod blur;
mod color;
pub mod diffusion;
mod distortion;
mod error;
mod jpeg;
mod load;
mod seed;
mod text;

pub use distortion::Distortion;
pub use error::DistortError;
pub use load::{Limits, decode_rgb, load_rgb};
pub use seed::StageSeed;
