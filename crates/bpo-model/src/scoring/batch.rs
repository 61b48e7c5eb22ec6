//! Batches of prompts with their completions.

use std::sync::Arc;

use super::tokens::BatchTokens;
use crate::error::ModelError;
use crate::families::VlmConfig;
use crate::input::{ImageInput, ImageLayout};
use crate::memory::BatchShape;
use crate::processor::TokenizedCompletion;
use crate::vlm::PackedFeatures;

/// Prompts and their completions, tokenized and split into a shared prefix and the rest of each
/// completion, with their images.
#[derive(Clone, Debug)]
pub struct ScoreBatch {
    pub(super) images: Arc<[ImageInput]>,
    /// Vision features of the images, if they were computed already; on no tape.
    pub(super) features: Option<PackedFeatures>,
    pub(super) tokens: BatchTokens,
}

impl ScoreBatch {
    /// Prepares groups of completions.
    ///
    /// `groups` has, for each prompt, its images (indices into `images`, in the order of their
    /// placeholders) and its completions, tokenized with the prompt.
    ///
    /// # Errors
    /// [`ModelError::ContextTooShort`], [`ModelError::EmptyPrompt`], [`ModelError::EmptyAnswer`],
    /// [`ModelError::ImageTokens`], [`ModelError::ImageTokenBehind`], [`ModelError::ImageSize`],
    /// [`ModelError::ImageTiles`], [`ModelError::ChangedFeatures`], [`ModelError::NoSuchImage`] or
    /// [`ModelError::TokenOutside`] for the first sequence or image that does not fit the model.
    pub fn new(
        config: &VlmConfig,
        images: Vec<ImageInput>,
        groups: &[(Vec<usize>, Vec<TokenizedCompletion>)],
    ) -> Result<Self, ModelError> {
        let is_changed = |image: &ImageInput| {
            !(image.noise.is_empty() && image.hidden.is_empty() && image.attended.is_empty())
        };
        if images.iter().any(is_changed) {
            return Err(ModelError::ChangedFeatures);
        }
        config.check_input(&[], &images)?;
        let layouts: Vec<_> = images.iter().map(|image| &image.layout).collect();
        let tokens = BatchTokens::new(config, &layouts, groups)?;
        Ok(Self { images: images.into(), features: None, tokens })
    }

    /// Number of completions.
    pub fn len(&self) -> usize {
        self.tokens.rows.len()
    }

    /// Whether there is no completion.
    pub fn is_empty(&self) -> bool {
        self.tokens.rows.is_empty()
    }

    /// The images of the batch.
    pub fn images(&self) -> &[ImageInput] {
        &self.images
    }

    /// The layouts of the images.
    pub(super) fn layouts(&self) -> Vec<&ImageLayout> {
        self.images.iter().map(|image| &image.layout).collect()
    }

    /// The images of each completion, as indices, and all its token ids, prompt included.
    pub fn sequences(&self) -> impl Iterator<Item = (&[usize], Vec<u32>)> + '_ {
        self.tokens.sequences()
    }

    /// The token ids of each completion, end token included.
    pub fn completions(&self) -> impl Iterator<Item = &[u32]> + '_ {
        self.tokens.rows.iter().map(|row| &row.targets[row.first..])
    }

    /// Number of tokens of each completion with its prompt, image tokens included.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.sequences().map(|(_, ids)| ids.len())
    }

    /// The sizes of the batch.
    pub fn shape(&self) -> BatchShape {
        self.tokens.shape(&self.layouts())
    }

    /// Number of completion tokens, end tokens included.
    pub fn completion_tokens(&self) -> usize {
        self.tokens.completion_tokens()
    }
}
