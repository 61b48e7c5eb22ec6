//! The families of distortions, one file each.
//!
//! `docs/src/distortions.md` has the steps to add one.

use crate::family::{Family, Stage};

pub use blur::{MAX_BLUR_SIGMA, gaussian_blur};

mod blank;
mod blur;
mod brightness;
mod clean;
mod contrast;
mod crop;
pub mod diffusion;
mod feature_noise;
mod gaussian_noise;
mod grayscale;
mod jpeg;
mod mask_attended;
mod mask_tokens;
mod mix;
mod motion_blur;
mod no_image;
mod occlude;
mod pixelate;
mod salt_and_pepper;
mod saturation;
mod shuffle;
mod swap;

/// Defines the enum, the list of families, and the mapping from a variant to its stage and family.
macro_rules! families {
    ($(#[$attribute:meta])* pub enum $distortion:ident { $($module:ident::$name:ident,)* }) => {
        $(pub use $module::$name;)*

        $(#[$attribute])*
        pub enum $distortion {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
            /// Several distortions, applied in order.
            Sequence(Vec<$distortion>),
        }

        pub(crate) static ALL: &[&Family] = &[$(&$module::FAMILY),*];

        impl $distortion {
            /// The family, or `None` for a sequence.
            pub fn family(&self) -> Option<&'static Family> {
                match self {
                    $(Self::$name(_) => Some(&$module::FAMILY),)*
                    Self::Sequence(_) => None,
                }
            }

            pub(crate) fn stage(&self) -> Option<&dyn Stage> {
                match self {
                    $(Self::$name(stage) => Some(stage),)*
                    Self::Sequence(_) => None,
                }
            }

            pub(crate) fn stage_mut(&mut self) -> Option<&mut dyn Stage> {
                match self {
                    $(Self::$name(stage) => Some(stage),)*
                    Self::Sequence(_) => None,
                }
            }
        }

        $(
            /// Does not validate the parameters; see [`validate`](Distortion::validate).
            impl From<$name> for $distortion {
                fn from(stage: $name) -> Self {
                    Self::$name(stage)
                }
            }
        )*
    };
}

families! {
    /// A distortion: a way to weaken an image.
    ///
    /// The text form is `family:parameter=value,...`, with several stages joined by `+` in the
    /// order of their application. [`FromStr`](std::str::FromStr) parses it,
    /// [`Display`](std::fmt::Display) prints it, and serde uses it. A number may be a range, from
    /// which a value is drawn for each item ([`Amount`](crate::Amount)). A level of
    /// [`Severity`](crate::Severity) may replace the parameters:
    ///
    /// ```text
    /// diffusion-noise:step=500
    /// blur:sigma=2..8+diffusion-noise:step=900
    /// occlude:severity=3,fill=mean
    /// ```
    ///
    /// # Images, normalized pixels, features
    ///
    /// The authors of BPO add diffusion noise to pixels that the model's preprocessing has
    /// normalized. So a model applies a distortion in parts: [`on_image`](Self::on_image) before
    /// its preprocessing, [`on_pixels`](Self::on_pixels) after it, and
    /// [`feature_stages`](Self::feature_stages) on the output of its vision tower. Diffusion noise
    /// belongs to the second part unless an image stage follows; then it runs on RGB, in its place
    /// in the sequence. No other stage can follow a feature stage. [`apply`](Self::apply) applies
    /// everything to RGB, for image files.
    ///
    /// # Seeds
    ///
    /// Each stage has a random stream that depends on the seed of the item and the index of the
    /// stage in the flattened sequence (see [`StageSeed`](crate::StageSeed)). So the parts agree
    /// with each other, and stages are independent. Ranges have a separate stream: a range gives
    /// the same image as the value drawn from it.
    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub enum Distortion {
        diffusion::DiffusionNoise,
        gaussian_noise::GaussianNoise,
        salt_and_pepper::SaltAndPepper,
        blur::Blur,
        motion_blur::MotionBlur,
        pixelate::Pixelate,
        jpeg::Jpeg,
        brightness::Brightness,
        contrast::Contrast,
        saturation::Saturation,
        grayscale::Grayscale,
        crop::Crop,
        occlude::Occlude,
        shuffle::Shuffle,
        mix::Mix,
        swap::Swap,
        blank::Blank,
        clean::Clean,
        feature_noise::FeatureNoise,
        mask_tokens::MaskTokens,
        mask_attended::MaskAttended,
        no_image::NoImage,
    }
}
