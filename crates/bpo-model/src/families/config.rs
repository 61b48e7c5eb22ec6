//! The configuration of a model of any family.

use std::path::Path;
use std::sync::Arc;

use super::internvl::InternVlConfig;
use super::llava::LlavaConfig;
use super::llava_next::LlavaNextConfig;
use super::qwen_vl::QwenVlConfig;
use super::smolvlm::SmolVlmConfig;
use super::text::TextConfig;
use super::{FamilySpec, Projector};
use crate::checkpoint::WeightLoader;
use crate::decoder::{DecoderConfig, Positions};
use crate::error::ModelError;
use crate::input::{ImageInput, ImageLayout};
use crate::processor::{Preprocess, Processor, ProcessorError, TextProcessor};
use crate::vision::{TowerSizes, VisionTower};

/// The `config.json` of a supported model, by its family.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum VlmConfig {
    /// LLaVA-1.5.
    Llava(LlavaConfig),
    /// LLaVA-NeXT or LLaVA-OneVision.
    LlavaNext(LlavaNextConfig),
    /// Qwen2-VL, Qwen2.5-VL and Qwen3-VL.
    QwenVl(QwenVlConfig),
    /// Idefics3, SmolVLM and SmolVLM2.
    SmolVlm(SmolVlmConfig),
    /// InternVL.
    InternVl(InternVlConfig),
    /// A language model without images.
    Text(TextConfig),
}

/// What the configuration of a family tells the code that is common to all families.
pub(crate) trait Family {
    /// The names of the family.
    fn spec(&self) -> &'static FamilySpec;

    /// The configuration of the language model.
    fn decoder(&self) -> &DecoderConfig;

    /// Token id of an image feature. `None` where the model takes no images.
    fn image_token(&self) -> Option<u32>;

    /// Whether the embedding is the head.
    fn is_tied(&self) -> bool;

    /// Loads the vision tower, if the model takes images.
    fn vision_tower(&self, weights: &mut WeightLoader) -> Option<VisionTower>;

    /// Loads the projector, if the model takes images.
    fn projector(&self, weights: &mut WeightLoader) -> Option<Projector>;

    /// Reads the settings of the image processor in a checkpoint directory. `text` is its
    /// tokenizer, for placeholders with other tokens than image tokens.
    fn preprocessor(&self, dir: &Path, text: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError>;

    /// Checks that the vision tower takes an image, and that the image has as many tokens as it
    /// will have features.
    fn check_image(&self, image: &ImageInput) -> Result<(), ModelError>;

    /// The rotary positions of a row of tokens with the given images.
    fn positions(&self, ids: &[u32], _images: &[&ImageLayout]) -> Positions {
        Positions::sequential(0, ids.len())
    }

    /// Whether a module or weight takes part in the computation, by its path.
    fn runs(&self, _path: &str) -> bool {
        true
    }

    /// Whether a checkpoint may have a weight that the model never uses, by its path.
    fn is_unused(&self, path: &str) -> bool {
        !self.runs(path)
    }

    /// Sizes of the vision tower.
    fn tower_sizes(&self) -> TowerSizes;
}

impl VlmConfig {
    /// Reads `config.json` of a checkpoint directory and checks that the model is supported.
    ///
    /// # Errors
    /// [`ModelError::NoConfig`], [`ModelError::Family`], [`ModelError::OriginalLlava`],
    /// [`ModelError::Quantized`], [`ModelError::Json`], [`ModelError::Unsupported`] or
    /// [`ModelError::OverLimit`]. The error names the key.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let spec = FamilySpec::of_checkpoint(dir)?;
        (spec.read)(&dir.join("config.json"))
    }

    /// Reads `config.json` of a language model, or of a vision-language model, that will answer texts
    /// without images.
    ///
    /// # Errors
    /// Those of [`from_dir`](Self::from_dir).
    pub fn from_dir_for_text(dir: &Path) -> Result<Self, ModelError> {
        let spec = FamilySpec::of_language_model(dir)?;
        (spec.read)(&dir.join("config.json"))
    }

    pub(crate) fn family(&self) -> &dyn Family {
        match self {
            Self::Llava(config) => config,
            Self::LlavaNext(config) => config,
            Self::QwenVl(config) => config,
            Self::SmolVlm(config) => config,
            Self::InternVl(config) => config,
            Self::Text(config) => config,
        }
    }

    /// The names of the family.
    pub fn spec(&self) -> &'static FamilySpec {
        self.family().spec()
    }

    /// The configuration of the language model.
    pub fn decoder(&self) -> &DecoderConfig {
        self.family().decoder()
    }

    /// Token id of an image feature. `None` in a language model without images.
    pub fn image_token(&self) -> Option<u32> {
        self.family().image_token()
    }

    /// The longest sequence in tokens.
    pub fn context(&self) -> usize {
        self.decoder().max_position_embeddings
    }

    /// Whether the embedding is the head.
    pub fn is_tied(&self) -> bool {
        self.family().is_tied()
    }

    /// An id to pad with: any except the image token, which is counted.
    pub(crate) fn padding(&self) -> u32 {
        u32::from(self.image_token() == Some(0))
    }

    /// Checks that the processor's files belong to the same checkpoint as this configuration.
    ///
    /// # Errors
    /// [`ModelError::ImageToken`], [`ModelError::ImageSize`] or [`ModelError::TokenOutside`].
    pub fn check_processor(&self, processor: &Processor) -> Result<(), ModelError> {
        let special = processor.text.special();
        let mut images = Vec::new();
        if let Some(expected) = self.image_token() {
            let found = special.image.as_ref().map(|token| token.id);
            if found != Some(expected) {
                return Err(ModelError::ImageToken { expected, found });
            }
            images.push(processor.image.process(&image::RgbImage::new(2, 2))?);
        }
        let ids: Vec<_> = special.bos.iter().chain([&special.end]).map(|token| token.id).collect();
        self.check_input(&ids, &images)
    }

    /// Checks that images and token ids fit this model.
    ///
    /// # Errors
    /// [`ModelError::ImageSize`] if an image has another size than the vision tower takes;
    /// [`ModelError::ImageTokens`] if the layout of an image has another number of tokens than the
    /// image gives features; [`ModelError::TokenOutside`] for an id outside of the vocabulary.
    pub fn check_input(&self, ids: &[u32], images: &[ImageInput]) -> Result<(), ModelError> {
        images.iter().try_for_each(|image| self.family().check_image(image))?;
        self.check_ids(ids)
    }

    /// Checks that ids are in the vocabulary.
    ///
    /// # Errors
    /// [`ModelError::TokenOutside`].
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<(), ModelError> {
        let vocab = self.decoder().vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab && Some(**id) != self.image_token()) {
            Some(id) => Err(ModelError::TokenOutside { id: *id, vocab }),
            None => Ok(()),
        }
    }
}

impl From<LlavaConfig> for VlmConfig {
    fn from(config: LlavaConfig) -> Self {
        Self::Llava(config)
    }
}

impl From<LlavaNextConfig> for VlmConfig {
    fn from(config: LlavaNextConfig) -> Self {
        Self::LlavaNext(config)
    }
}

impl From<SmolVlmConfig> for VlmConfig {
    fn from(config: SmolVlmConfig) -> Self {
        Self::SmolVlm(config)
    }
}
