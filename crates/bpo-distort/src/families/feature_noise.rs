use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `feature-noise:sigma=1`: Gaussian noise on the vision features, relative to their standard
/// deviation.
///
/// A model adds it to the output of its vision tower with
/// [`features::add_noise`](crate::features::add_noise). The severity levels are this project's.
///
/// ```
/// use bpo_distort::features::{FeatureStage, add_noise, standard_deviation};
/// use bpo_distort::{DistortError, Distortion};
///
/// let noise: Distortion = "blur:sigma=1+feature-noise:sigma=2".parse()?;
/// // the standard deviation is 2
/// let clean: Vec<f32> = (0..10_000).map(|i| (i % 7) as f32).collect();
/// let mut noised = clean.clone();
/// for (stage, seed) in noise.feature_stages(7)? {
///     if let FeatureStage::Noise { sigma } = stage {
///         add_noise(&mut noised, sigma, seed);
///     }
/// }
/// let added: Vec<f32> = noised.iter().zip(&clean).map(|(noised, clean)| noised - clean).collect();
/// assert!((standard_deviation(&added) - 4.0).abs() < 0.1);
/// // The image is unchanged.
/// let image = image::RgbImage::new(2, 2);
/// let error = noise.apply(&image, 7).unwrap_err();
/// assert!(matches!(error, DistortError::NeedsModel { family: "feature-noise" }));
/// assert_eq!(*noise.on_image(&image, 7)?, image);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureNoise {
    /// Standard deviation of the noise, divided by that of the features; from 0 to 100.
    pub sigma: Amount<f32>,
}

const fn at(sigma: f32) -> Distortion {
    Distortion::FeatureNoise(FeatureNoise { sigma: Amount::Exactly(sigma) })
}

pub(super) static FAMILY: Family = Family {
    name: "feature-noise",
    about: "Gaussian noise on the vision features, relative to their standard deviation",
    parameters: &[Parameter::number("sigma", 0.0, 100.0)],
    part: Part::Features,
    needs_other: false,
    levels: Some([at(0.25), at(0.5), at(1.0), at(2.0), at(4.0)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for FeatureNoise {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.sigma]
    }

    fn run(&self, _: Input<'_>, _: StageSeed) -> Result<RgbImage, DistortError> {
        Err(DistortError::NeedsModel { family: FAMILY.name })
    }
}
