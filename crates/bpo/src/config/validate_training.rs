//! Validation of training settings.

use bpo_model::LoraConfig;

use super::validate::check;
use super::{ConditionalSection, ReferenceSection, RunConfig};
use crate::device::Dtype;
use crate::error::BpoError;

/// Why a loss that compares distributions takes no cached reference.
pub(crate) const NO_DISTRIBUTIONS: &str = "the loss compares the whole distributions of policy and reference at each token, and a cache has the \
     log-probabilities of the answers alone; leave out the cache, or set `tok_beta` of the loss to 0";

impl RunConfig {
    /// Validates the settings of adapters, full fine-tuning and references.
    ///
    /// # Errors
    /// Returns the errors of [`validate`](Self::validate).
    pub(super) fn validate_training(&self) -> Result<(), BpoError> {
        self.check_unused()?;
        if let Some(full) = &self.full_finetune {
            let parts = "true for the language model, the projector or the vision tower";
            check("full_finetune", full.is_any(), parts, "false for all".to_owned())?;
            let f32 = "f32 with `full_finetune` (small updates are lost in half precision)";
            check("model.dtype", self.model.dtype == Dtype::F32, f32, self.model.dtype.to_string())?;
        }
        self.lora.validate().map_err(|error| BpoError::in_table("lora", error))?;
        Ok(())
    }

    /// Rejects settings that have no effect with the others, which users would otherwise believe to
    /// be in use.
    fn check_unused(&self) -> Result<(), BpoError> {
        let conflict = |key: &'static str, with: String, reason| {
            Err(BpoError::Conflict { key: key.into(), with, reason })
        };
        if self.full_finetune.is_some() && self.model.adapter.is_some() {
            let reason =
                "full fine-tuning has no adapters; merge the adapter into the model first (bpo merge)";
            return conflict("model.adapter", "`full_finetune`".to_owned(), reason);
        }
        if self.full_finetune.is_some() && self.lora != LoraConfig::default() {
            return conflict("lora", "`full_finetune`".to_owned(), "full fine-tuning has no adapters");
        }
        if self.model.gradient_checkpointing && self.full_finetune.is_none() && self.lora.lora_dropout > 0.0 {
            let reason = "dropout would drop other values when a layer is recomputed; set `lora.lora_dropout` to 0 (the presets set \
                          it to 0.05), or turn off `model.gradient_checkpointing`";
            return conflict("model.gradient_checkpointing", "`lora.lora_dropout`".to_owned(), reason);
        }
        if self.full_finetune.is_none() && self.train.reference_sync.is_some() {
            let reason = "mixing the factors of adapters does not mix their weights; train the weights ([full_finetune], --full-finetune)";
            return conflict("train.reference_sync", "adapters".to_owned(), reason);
        }
        if self.train.reference_sync.is_some() && self.reference.cache.is_some() {
            let reason = "a reference that follows the policy changes, and a cache holds the log-probabilities of a fixed one";
            return conflict("reference.cache", "`train.reference_sync`".to_owned(), reason);
        }
        if self.reference.cache.is_some() && self.train.objective().properties().token_divergences {
            return conflict("reference.cache", format!("the loss {}", self.train.loss), NO_DISTRIBUTIONS);
        }
        let weakens = self.train.objective().properties().weakened;
        if !weakens && self.conditional != ConditionalSection::default() {
            let with = format!("the loss {} (`train.loss`, --loss)", self.train.loss);
            let reason = "the loss compares no weakened images; `mdpo`, `conditional` and `chip` do";
            return conflict("conditional.distortion", with, reason);
        }
        let ReferenceSection { path, adapter, cache } = &self.reference;
        let references =
            [("reference.path", path), ("reference.adapter", adapter), ("reference.cache", cache)];
        match references.into_iter().find(|(_, path)| path.is_some()) {
            Some((key, _)) if !self.train.objective().properties().reference => {
                let with = if self.train.reference_free {
                    "`train.reference_free`".to_owned()
                } else {
                    format!("the loss {}", self.train.loss)
                };
                conflict(key, with, "no reference is used")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bpo_dpo::loss::Loss;

    use super::*;
    use crate::config::{Preset, Settings};

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Break = fn(&mut RunConfig);
        let broken: [(&str, Break); 15] = [
            ("reference.path", |config| {
                config.train.loss = bpo_dpo::loss::Loss::Sft;
                config.reference.path = Some("other".into());
            }),
            ("reference.cache", |config| {
                config.full_finetune = Some(Default::default());
                config.train.reference_sync = Some(Default::default());
                config.reference.cache = Some("cache".into());
            }),
            ("reference.cache", |config| {
                config.train.loss = "chip".parse().unwrap();
                config.reference.cache = Some("cache".into());
            }),
            ("conditional.distortion", |config| {
                config.conditional.distortion =
                    "grayscale".parse::<bpo_distort::Distortion>().unwrap().into();
            }),
            ("train.reference_free", |config| {
                config.train.loss = "chip".parse().unwrap();
                config.train.reference_free = true;
            }),
            ("reference.adapter", |config| {
                config.train.reference_free = true;
                config.reference.adapter = Some("other".into());
            }),
            ("train.divergence", |config| {
                config.train.loss = bpo_dpo::loss::Loss::Sft;
                config.train.divergence = bpo_dpo::loss::Divergence::ForwardKl;
            }),
            ("model.gradient_checkpointing", |config| {
                config.model.gradient_checkpointing = true;
                config.lora.lora_dropout = 0.1;
            }),
            ("model.adapter", |config| {
                config.full_finetune = Some(Default::default());
                config.model.adapter = Some("adapter".into());
            }),
            ("lora", |config| {
                config.full_finetune = Some(Default::default());
                config.lora.lora_noise = 0.1;
            }),
            ("lora.lora_noise", |config| config.lora.lora_noise = -0.1),
            ("lora.lora_alpha", |config| config.lora.lora_alpha = 1e39),
            ("train.learning_rate", |config| config.train.learning_rate = 1e39),
            ("lora.r", |config| config.lora.r = 0),
            ("train.beta", |config| config.train.beta = -1.0),
        ];
        for (key, break_it) in broken {
            let mut config = RunConfig::default();
            break_it(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    /// A preset whose values do not fit another loss is named.
    #[test]
    fn a_preset_with_another_loss_is_named() {
        for preset in [Preset::Mdpo, Preset::Chip] {
            let settings = Settings::default().with_preset(Some(preset));
            let error = settings.resolve(|config| config.train.loss = Loss::default()).unwrap_err();
            assert!(error.is_usage(), "{error}");
            let shown = crate::error::chain(&error);
            for part in [preset.as_str(), "--preset", "`conditional.distortion`", "sigmoid", "--loss"] {
                assert!(shown.contains(part), "{shown}");
            }
        }
    }
}
