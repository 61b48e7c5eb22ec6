//! Counting of the tokens of pairs with the processor of a checkpoint, without its weights.

use std::fmt;

use bpo_dpo::loss::LossProperties;
use bpo_dpo::validate_pairs;
use bpo_model::{Processor, VlmCollator, VlmConfig};
use bpo_pairs::{PreferencePair, Skipped};

use crate::checkpoint::check_base;
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::images::ImageRoot;
use crate::stages::TokenCheck;

/// A [`TokenCheck`] with the tokenizer, chat template and image processor of `model.path`. Only the
/// headers of images are read.
pub struct ProcessorTokens {
    collate: VlmCollator<ImageRoot>,
    loss: LossProperties,
}

impl fmt::Debug for ProcessorTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorTokens").finish_non_exhaustive()
    }
}

impl ProcessorTokens {
    /// Reads the processor of `model.path`. A pair may have up to `most` tokens, but no more than the
    /// context of the model.
    ///
    /// # Errors
    /// Returns an error if `model.path` or `data.images` is not set, or a file of the processor
    /// cannot be read.
    pub fn open(config: &RunConfig, most: usize) -> Result<Self, BpoError> {
        let dir = config.model_path()?;
        check_base(dir)?;
        let images = ImageRoot::new(config.images_path()?)?.with_limits(config.data.limits);
        let model = VlmConfig::from_dir(dir)?;
        let processor = Processor::from_dir(dir, &model)?;
        let collate = VlmCollator::from_config(processor, model, images)
            .with_max_length(most, "`pair.max_tokens` (--max-tokens)");
        Ok(Self { collate, loss: config.train.objective().properties() })
    }
}

impl TokenCheck for ProcessorTokens {
    fn check(&mut self, pair: &PreferencePair) -> Option<Skipped> {
        // whatever the loss, the contrast is there to be trained on
        let loss = LossProperties { contrast: pair.contrast().is_some(), ..self.loss };
        let (_, skipped) = validate_pairs(&mut self.collate, loss, vec![pair]);
        skipped.into_iter().next()
    }
}
