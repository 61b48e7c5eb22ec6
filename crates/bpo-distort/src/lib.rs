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
//! let distortion: Distortion = "blur:sigma=2..8+diffusion-noise:step=500".parse()?;
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
//! # Families
//!
//! | text form | |
//! |---|---|
//! | `diffusion-noise:step=900` | [`DiffusionNoise`]: the noise of VCD and BPO, on RGB or on normalized pixels |
//! | `gaussian-noise:sigma=0.2` | [`GaussianNoise`]: sigma in parts of the range of levels |
//! | `salt-and-pepper:share=0.1` | [`SaltAndPepper`]: a share of the levels becomes 0 or 255 |
//! | `blur:sigma=4` | [`Blur`]: Gaussian blur, sigma in pixels |
//! | `motion-blur:length=15,angle=30` | [`MotionBlur`]: the mean along a line |
//! | `pixelate:scale=0.25` | [`Pixelate`]: coarse pixels |
//! | `jpeg:quality=10` | [`Jpeg`]: stored as JPEG and read again |
//! | `brightness:factor=0.3`, `contrast:factor=0.3`, `saturation:factor=0.3` | [`Brightness`], [`Contrast`], [`Saturation`]: Pillow's `ImageEnhance` |
//! | `grayscale:amount=1` | [`Grayscale`]: without colour |
//! | `crop:keep=0.01..0.2` | [`Crop`]: a random window with a share of the area, enlarged |
//! | `occlude:share=0.5,grid=8,fill=black` | [`Occlude`]: random cells of a grid covered |
//! | `shuffle:grid=4` | [`Shuffle`]: the cells of a grid in a random order |
//! | `mix:share=0.5` | [`Mix`]: mixed with another image |
//! | `swap` | [`Swap`]: another image in its place |
//! | `blank:fill=mean` | [`Blank`]: black, the mean colour, or noise |
//! | `feature-noise:sigma=1` | [`FeatureNoise`]: noise on the vision features, by a model |
//! | `mask-tokens:share=0.9` | [`MaskTokens`]: image tokens hidden from attention, by a model |
//! | `no-image` | [`NoImage`]: the model answers without the image |
//!
//! [`Family::all`] is that list as data. Each number may be a range ([`Amount`]), each family with a strength has five
//! levels ([`Severity`]), and stages are joined by `+`.
//!
//! # Elsewhere
//!
//! - [`Distortion`]: what to do to an image, with a compact text form that serde uses too.
//! - [`Input`]: an image, and another one for the families that bring one in.
//! - [`features`]: what a model does to its features, as far as it needs no tensors.
//! - [`diffusion`] and [`blur`]: the noise schedule and the noise, and the blur, as functions.
//! - [`files`]: image files and folders of them to weakened files, on some threads, gone on with after any end.
//! - `sheet` (feature `sheet`): a labelled picture of families by severity.
//! - [`resize`]: images to another size, as Pillow does it.
//! - [`load_rgb`] and [`decode_rgb`]: image files to RGB under [`Limits`], with an error per way a file can be
//!   bad.

mod amount;
mod blend;
mod cmyk;
mod color;
mod distortion;
mod error;
mod families;
mod family;
pub mod features;
pub mod files;
mod fill;
mod header;
mod input;
mod jpeg;
mod load;
mod normals;
mod orientation;
mod plain;
pub mod resize;
mod seed;
mod severity;
#[cfg(feature = "sheet")]
pub mod sheet;
#[doc(hidden)]
pub mod simd;
mod text;
mod timed;

pub use amount::Amount;
pub use error::DistortError;
pub use families::*;
pub use family::{Expected, Family, Parameter};
pub use fill::Fill;
pub use header::check_header;
pub use input::Input;
pub use load::{Limits, decode_rgb, load_rgb};
pub use seed::{StageSeed, item_seed};
pub use severity::Severity;
