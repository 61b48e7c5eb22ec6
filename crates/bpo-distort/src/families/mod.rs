//! The families of distortions, a file each. A new one is a file, its `mod`, and its line in the table.

use crate::family::{Family, Stage};

mod blank;
pub mod blur;
mod brightness;
mod contrast;
mod crop;
pub mod diffusion;
mod feature_noise;
mod gaussian_noise;
mod grayscale;
mod jpeg;
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

/// Makes the enum, the list of families, and the way from a variant to its stage and family.
macro_rules! families {
    ($(#[$attribute:meta])* pub enum $distortion:ident { $($module:ident::$name:ident,)* }) => {
        $(pub use $module::$name;)*

        $(#[$attribute])*
        pub enum $distortion {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
            /// Several distortions, one after the other.
            Sequence(Vec<$distortion>),
        }

        pub(crate) static ALL: &[&Family] = &[$(&$module::FAMILY),*];

        impl $distortion {
            /// The family; `None` for a sequence.
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
            /// Not checked: [`validate`](Distortion::validate) does that, and so does applying it.
            impl From<$name> for $distortion {
                fn from(stage: $name) -> Self {
                    Self::$name(stage)
                }
            }
        )*
    };
}

families! {
    /// A way to weaken an image.
    ///
    /// It has a compact text form, read by [`FromStr`](std::str::FromStr), written by
    /// [`Display`](std::fmt::Display) and used by serde: `family:parameter=value,...`, with several stages joined by
    /// `+` in the order in which they are applied. A number may be a range, from which a value is drawn for each item
    /// ([`Amount`](crate::Amount)); instead of its parameters a family may be given a level of
    /// [`Severity`](crate::Severity):
    ///
    /// ```text
    /// diffusion-noise:step=500
    /// blur:sigma=2..8+diffusion-noise:step=900
    /// occlude:severity=3,fill=mean
    /// ```
    ///
    /// # Images, normalized pixels, features
    ///
    /// The authors of BPO add diffusion noise to pixels that the model's preprocessing has normalized. A model
    /// therefore applies a distortion in parts: [`on_image`](Self::on_image) before its preprocessing,
    /// [`on_pixels`](Self::on_pixels) after it, and what [`feature_stages`](Self::feature_stages) yields to what its
    /// vision tower gives. Diffusion noise belongs to the second part where nothing of the first follows, so noise
    /// that another kind of distortion follows runs on RGB, at its place in the order. Nothing can follow the
    /// features. [`apply`](Self::apply) does all of it on RGB, for image files.
    ///
    /// # Seeds
    ///
    /// A stage draws from a stream given by the item's seed and the stage's index in the flattened sequence (see
    /// [`StageSeed`](crate::StageSeed)), so the parts agree with each other and stages are independent. Ranges are
    /// drawn from another stream: a range gives the same image as the value drawn from it.
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
        feature_noise::FeatureNoise,
        mask_tokens::MaskTokens,
        no_image::NoImage,
    }
}
