//! Image weakening for preference optimization of vision-language models.
//!
//! Bootstrapped Preference Optimization ([arXiv 2403.08730](https://arxiv.org/abs/2403.08730)) asks
//! a model about a weakened image. The answer then follows the model's text prior and becomes the
//! rejected side of a preference pair. This crate weakens images reproducibly: the same seed and
//! image give the same bytes on every platform and number of threads. It needs no tensor library.
//!
//! ```
//! use bpo_distort::Distortion;
//! use image::RgbImage;
//!
//! # fn main() -> Result<(), bpo_distort::DistortError> {
//! let image = RgbImage::from_pixel(32, 24, image::Rgb([200, 120, 40]));
//! let distortion: Distortion = "blur:sigma=2..8+diffusion-noise:step=500".parse()?;
//!
//! let weakened = distortion.apply(&image, 7)?; // 7 is the seed
//! assert_eq!(weakened.dimensions(), image.dimensions());
//! assert_eq!(weakened, distortion.apply(&image, 7)?);
//! # Ok(())
//! # }
//! ```
//!
//! As in the paper, a model can add diffusion noise to the pixels that its preprocessing has
//! normalized:
//!
//! ```
//! # use bpo_distort::Distortion;
//! # use image::RgbImage;
//! # fn main() -> Result<(), bpo_distort::DistortError> {
//! # let image = RgbImage::from_pixel(32, 24, image::Rgb([200, 120, 40]));
//! # let distortion: Distortion = "blur:sigma=2..8+diffusion-noise:step=500".parse()?;
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
//! | text form | family |
//! |---|---|
//! | `diffusion-noise:step=900` | [`DiffusionNoise`]: VCD's noise, on RGB or normalized pixels |
//! | `gaussian-noise:sigma=0.2` | [`GaussianNoise`]: sigma relative to the range of levels |
//! | `salt-and-pepper:share=0.1` | [`SaltAndPepper`]: a share of the levels set to 0 or 255 |
//! | `blur:sigma=4` | [`Blur`]: Gaussian blur, sigma in pixels |
//! | `motion-blur:length=15,angle=30` | [`MotionBlur`]: the mean along a line |
//! | `pixelate:scale=0.25` | [`Pixelate`]: coarse pixels |
//! | `jpeg:quality=10` | [`Jpeg`]: encoded as JPEG and decoded again |
//! | `brightness:factor=0.3` | [`Brightness`]: Pillow's `ImageEnhance.Brightness` |
//! | `contrast:factor=0.3` | [`Contrast`]: Pillow's `ImageEnhance.Contrast` |
//! | `saturation:factor=0.3` | [`Saturation`]: Pillow's `ImageEnhance.Color` |
//! | `grayscale:amount=1` | [`Grayscale`]: no colour |
//! | `crop:keep=0.01..0.2` | [`Crop`]: a random window with a share of the area, enlarged |
//! | `occlude:share=0.5,grid=8,fill=black` | [`Occlude`]: random cells of a grid covered |
//! | `shuffle:grid=4` | [`Shuffle`]: the cells of a grid in a random order |
//! | `mix:share=0.5` | [`Mix`]: blended with another image |
//! | `swap` | [`Swap`]: replaced by another image |
//! | `blank:fill=mean` | [`Blank`]: black, the mean colour, or noise |
//! | `clean` | [`Clean`]: the image as it is |
//! | `feature-noise:sigma=1` | [`FeatureNoise`]: noise on vision features, applied by a model |
//! | `mask-tokens:share=0.9` | [`MaskTokens`]: image tokens masked in attention, by a model |
//! | `mask-attended:share=0.5` | [`MaskAttended`]: the image tokens with the most attention masked |
//! | `no-image` | [`NoImage`]: the model answers without the image |
//!
//! [`Family::all`] lists the families with their parameters. Each number may be a range
//! ([`Amount`]), each family with a strength has five severity levels ([`Severity`]), and stages
//! are joined by `+`.
//!
//! # Other parts
//!
//! - [`load_rgb`] and [`decode_rgb`] load image files as RGB, equal to Pillow, within
//!   [`ImageLimits`].
//! - [`resize`] is an image resize equal to Pillow's in every level.
//! - [`encode_jpeg`] writes JPEG data, equal to Pillow's.
//! - [`encode_png`] writes PNG data, on request with a text chunk, and [`read_png_text`] reads the text back.
//! - [`features`] computes the noise and masks that a model applies to its features.
//! - [`diffusion`] has the noise schedule and the noise as functions; [`gaussian_blur`] is the blur
//!   as a function.
//! - `Sheet` (feature `sheet`) draws a contact sheet of families by severity.
//!
//! The families are fixed: a new one is added to this crate. `docs/src/distortions.md` in the
//! repository has the steps.

mod amount;
mod blend;
mod cmyk;
mod color;
mod distortion;
mod error;
mod families;
mod family;
pub mod features;
mod fill;
mod frames;
mod header;
mod input;
mod jpeg;
mod load;
mod normals;
mod orientation;
mod plain;
mod png_text;
pub mod resize;
mod seed;
mod severity;
#[cfg(feature = "sheet")]
mod sheet;
#[doc(hidden)]
pub mod simd;
mod text;
mod timed;

pub use amount::Amount;
pub use error::DistortError;
pub use families::*;
pub use family::{AllowedValues, Family, Parameter};
pub use fill::Fill;
pub use frames::{frame_durations, load_frames};
pub use header::{check_header, decode_header};
pub use input::Input;
pub use jpeg::encode_jpeg;
pub use load::{ImageLimits, decode_rgb, image_size, load_rgb, read_image_file};
pub use png_text::{PngCompression, PngText, encode_png, read_png_text};
pub use seed::{StageSeed, choose_other};
pub use severity::Severity;
#[cfg(feature = "sheet")]
pub use sheet::{MAX_THUMBNAIL, Sheet};
