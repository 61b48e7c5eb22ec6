//! Validation, drawing and application of distortions.

use std::borrow::Cow;

use image::RgbImage;

use crate::diffusion::noise_pixels;
use crate::family::{Family, Part, Stage};
use crate::features::FeatureStage;
use crate::{Amount, Blur, DiffusionNoise, DistortError, Distortion, Input, StageSeed};

impl Distortion {
    /// Diffusion noise at a step, or at a step drawn from a range.
    ///
    /// # Errors
    ///
    /// Returns [`DistortError::InvalidValue`] if a step is above 999.
    pub fn diffusion_noise(step: impl Into<Amount<u16>>) -> Result<Self, DistortError> {
        Self::from(DiffusionNoise { step: step.into() }).checked()
    }

    /// Gaussian blur with a standard deviation of `sigma` pixels, or one drawn from a range.
    ///
    /// # Errors
    ///
    /// Returns [`DistortError::InvalidValue`] unless `0 <= sigma <=`
    /// [`MAX_BLUR_SIGMA`](crate::MAX_BLUR_SIGMA).
    pub fn blur(sigma: impl Into<Amount<f32>>) -> Result<Self, DistortError> {
        Self::from(Blur { sigma: sigma.into() }).checked()
    }

    /// A sequence of stages, applied in order. Nested sequences are flattened; a single stage is
    /// returned unchanged.
    ///
    /// # Errors
    ///
    /// Returns [`DistortError::EmptySequence`] without stages, and the errors of
    /// [`validate`](Self::validate).
    pub fn sequence(stages: impl IntoIterator<Item = Distortion>) -> Result<Self, DistortError> {
        let nested = Self::Sequence(stages.into_iter().collect()).checked()?;
        let mut stages: Vec<Self> = nested.stages().cloned().collect();
        Ok(if stages.len() == 1 { stages.remove(0) } else { Self::Sequence(stages) })
    }

    fn checked(self) -> Result<Self, DistortError> {
        self.validate()?;
        Ok(self)
    }

    /// Checks all parameters and the order of stages. Distortions from constructors and from text
    /// are always valid.
    ///
    /// # Errors
    ///
    /// - [`DistortError::InvalidValue`] for the first parameter out of range.
    /// - [`DistortError::EmptySequence`] for a sequence without stages.
    /// - [`DistortError::StageAfterFeatures`] for an image stage after a feature stage.
    pub fn validate(&self) -> Result<(), DistortError> {
        if self.has_empty_sequence() {
            return Err(DistortError::EmptySequence);
        }
        let mut features = None;
        for stage in self.stages() {
            let Some(family) = stage.family() else { continue };
            stage.check_values(family)?;
            match (features, family.part) {
                (_, Part::Features) => features = Some(family.name),
                (Some(after), _) => {
                    return Err(DistortError::StageAfterFeatures { family: family.name, after });
                }
                (None, _) => {}
            }
        }
        Ok(())
    }

    fn has_empty_sequence(&self) -> bool {
        let mut pending = vec![self];
        while let Some(distortion) = pending.pop() {
            match distortion {
                Self::Sequence(stages) if stages.is_empty() => return true,
                Self::Sequence(stages) => pending.extend(stages),
                _ => {}
            }
        }
        false
    }

    fn check_values(&self, family: &'static Family) -> Result<(), DistortError> {
        let mut copy = self.clone();
        let values = copy.stage_mut().map(Stage::values).unwrap_or_default();
        for (value, parameter) in values.iter().zip(family.parameters) {
            if !value.fits(&parameter.expected()) {
                return Err(DistortError::InvalidValue {
                    family: family.name,
                    parameter: parameter.name(),
                    value: value.to_string(),
                    expected: parameter.expected(),
                });
            }
        }
        Ok(())
    }

    /// Replaces each range by the value drawn for the item with this seed, and flattens sequences.
    ///
    /// [`apply`](Self::apply) and the other methods draw by themselves. Each parameter has its own
    /// random bits, so a draw does not depend on other ranges.
    pub fn drawn(&self, seed: u64) -> Self {
        let mut stages: Vec<Self> = self.drawn_stages(seed).map(|(stage, _)| stage).collect();
        match self {
            Self::Sequence(_) => Self::Sequence(stages),
            _ => stages.swap_remove(0),
        }
    }

    /// Each stage with its ranges drawn, and its seed.
    fn drawn_stages(&self, seed: u64) -> impl Iterator<Item = (Self, StageSeed)> {
        self.stages().enumerate().map(move |(index, stage)| {
            let seed = StageSeed::new(seed, index);
            let mut drawn = stage.clone();
            let mut draws = seed.draws();
            for value in drawn.stage_mut().map(Stage::values).unwrap_or_default() {
                value.draw(draws.bits());
            }
            (drawn, seed)
        })
    }

    /// Whether a stage needs a second image, see [`Input::with_other`].
    pub fn needs_other(&self) -> bool {
        self.families().any(Family::needs_other)
    }

    /// Whether a stage works on the features of a model, see
    /// [`feature_stages`](Self::feature_stages).
    pub fn needs_model(&self) -> bool {
        self.families().any(Family::needs_model)
    }

    /// Applies all stages to an RGB image.
    ///
    /// # Errors
    ///
    /// - The errors of [`validate`](Self::validate).
    /// - [`DistortError::NeedsModel`] for a feature stage.
    /// - [`DistortError::NeedsOther`] if a second image is needed but missing or empty.
    /// - [`DistortError::Recompress`] for images too large for JPEG.
    pub fn apply<'a>(&self, input: impl Into<Input<'a>>, seed: u64) -> Result<RgbImage, DistortError> {
        if let Some(family) = self.families().find(|family| family.needs_model()) {
            return Err(DistortError::NeedsModel { family: family.name });
        }
        self.run_stages(input.into(), self.stages().count(), seed).map(Cow::into_owned)
    }

    /// Applies the stages before a model's preprocessing. Without such a stage, the image is
    /// borrowed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`apply`](Self::apply), except [`DistortError::NeedsModel`]. Later
    /// stages are validated too.
    pub fn on_image<'a>(
        &self,
        input: impl Into<Input<'a>>,
        seed: u64,
    ) -> Result<Cow<'a, RgbImage>, DistortError> {
        self.run_stages(input.into(), self.first_pixel_stage(), seed)
    }

    /// Applies the stages after a model's preprocessing in place: diffusion noise on normalized
    /// pixels. Without such a stage, nothing changes.
    ///
    /// # Shapes
    ///
    /// - pixels: `[channels, height, width]`, contiguous; one image, with the seed given to
    ///   `on_image`
    ///
    /// # Errors
    ///
    /// Returns the errors of [`validate`](Self::validate).
    pub fn on_pixels(&self, pixels: &mut [f32], seed: u64) -> Result<(), DistortError> {
        self.validate()?;
        for (stage, seed) in self.drawn_stages(seed).skip(self.first_pixel_stage()) {
            if let Self::DiffusionNoise(DiffusionNoise { step }) = stage {
                noise_pixels(pixels, step.exact(), seed)?;
            }
        }
        Ok(())
    }

    /// The stages that a model applies to its features, in order, with their ranges drawn and their
    /// seeds.
    ///
    /// The functions of [`features`](crate::features) implement these stages.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`validate`](Self::validate).
    pub fn feature_stages(
        &self,
        seed: u64,
    ) -> Result<impl Iterator<Item = (FeatureStage, StageSeed)>, DistortError> {
        self.validate()?;
        Ok(self.drawn_stages(seed).filter_map(|(stage, seed)| {
            let stage = match stage {
                Self::FeatureNoise(noise) => FeatureStage::Noise { sigma: noise.sigma.exact() },
                Self::MaskTokens(mask) => FeatureStage::MaskTokens { share: mask.share.exact() },
                Self::MaskAttended(mask) => {
                    FeatureStage::MaskAttended { share: mask.share.exact(), layer: mask.layer.exact() }
                }
                Self::NoImage(_) => FeatureStage::NoImage,
                _ => return None,
            };
            Some((stage, seed))
        }))
    }

    /// The stages of the flattened sequence in order. A single distortion is its own only stage.
    pub fn stages(&self) -> impl Iterator<Item = &Distortion> {
        // Depth first. The next stage is on top of the stack.
        let mut pending = vec![self];
        std::iter::from_fn(move || {
            loop {
                match pending.pop()? {
                    Self::Sequence(stages) => pending.extend(stages.iter().rev()),
                    stage => return Some(stage),
                }
            }
        })
    }

    pub(crate) fn families(&self) -> impl Iterator<Item = &'static Family> {
        self.stages().filter_map(Self::family)
    }

    /// The number of stages that run on the image before the model's preprocessing.
    fn first_pixel_stage(&self) -> usize {
        let on_image = self.families().enumerate().filter(|(_, family)| family.part == Part::Image);
        on_image.last().map_or(0, |(index, _)| index + 1)
    }

    fn run_stages<'a>(
        &self,
        input: Input<'a>,
        count: usize,
        seed: u64,
    ) -> Result<Cow<'a, RgbImage>, DistortError> {
        self.validate()?;
        let has_other = input.other.is_some_and(has_pixels);
        if let Some(family) = self.families().take(count).find(|family| family.needs_other && !has_other) {
            return Err(DistortError::NeedsOther { family: family.name });
        }
        let mut current = Cow::Borrowed(input.image);
        if !has_pixels(input.image) {
            return Ok(current);
        }
        for (stage, seed) in self.drawn_stages(seed).take(count) {
            if let Some(stage) = stage.stage() {
                current = Cow::Owned(stage.run(Input { image: &current, other: input.other }, seed)?);
            }
        }
        Ok(current)
    }
}

pub(crate) fn has_pixels(image: &RgbImage) -> bool {
    image.width() > 0 && image.height() > 0
}
