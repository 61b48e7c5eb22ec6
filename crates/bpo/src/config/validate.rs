//! Which settings of a run can work.

use bpo_model::LoraConfig;
use bpo_pairs::provenance::Contrast;

use super::{ReferenceSection, RunConfig};
use crate::device::Dtype;
use crate::error::BpoError;

/// Most answers for one distortion of an image; more is a slip of the pen (ours).
const MOST_SAMPLES: usize = 1000;

impl RunConfig {
    /// Checks the settings that belong to no library.
    ///
    /// # Errors
    /// [`BpoError::Setting`] for the first that cannot work, [`BpoError::Conflict`] for the first that another one leaves
    /// nothing to do, and what the training settings say of themselves.
    pub fn validate(&self) -> Result<(), BpoError> {
        let check = |key: &'static str, holds, expected, found: String| match holds {
            true => Ok(()),
            false => Err(BpoError::Setting { key: key.into(), expected, found }),
        };
        for (key, seed) in [("seed", self.seed.0), ("train.seed", self.train.seed)] {
            check(key, i64::try_from(seed).is_ok(), "below 2^63", seed.to_string())?;
        }
        for (key, value) in [
            ("model.max_length", self.model.max_length),
            ("weaken.samples", self.weaken.samples),
            ("weaken.max_new_tokens", self.weaken.max_new_tokens),
            ("weaken.batch_size", self.weaken.batch_size),
            ("inject.batch_size", self.inject.batch_size),
            ("inject.max_edits", self.inject.max_edits),
            ("filter.max_words", self.filter.max_words),
        ] {
            check(key, value > 0, "at least 1", value.to_string())?;
        }
        let conditional = &self.conditional.distortion;
        let alone = !conditional.needs_other() && !conditional.needs_model();
        let expected = "of families that weaken one image, and no features of it";
        check("conditional.distortion", alone, expected, conditional.to_string())?;
        let samples = self.weaken.samples;
        check("weaken.samples", samples <= MOST_SAMPLES, "at most 1000", samples.to_string())?;
        let begun = self.weaken.begun;
        check("weaken.begun", (0.0..1.0).contains(&begun), "at least 0 and less than 1", begun.to_string())?;
        if let Some(Contrast { alpha, plausibility, .. }) = self.weaken.contrast {
            let key = "weaken.contrast.alpha";
            check(key, (0.0..=100.0).contains(&alpha), "from 0 to 100", alpha.to_string())?;
            let key = "weaken.contrast.plausibility";
            check(key, (0.0..=1.0).contains(&plausibility), "from 0 to 1", plausibility.to_string())?;
        }
        self.check_unused()?;
        if let Some(full) = &self.full_finetune {
            let parts = "true for the language model, the projector or the vision tower";
            check("full_finetune", full.is_any(), parts, "false for all".to_owned())?;
            let f32 = "f32 where weights are trained in full: small updates are lost in half precision";
            check("model.dtype", self.model.dtype == Dtype::F32, f32, self.model.dtype.to_string())?;
        }
        self.lora.validate().map_err(|error| BpoError::in_table("lora", error))?;
        let temperature = self.weaken.temperature;
        // logits are divided by it in f32
        let usable = temperature == 0.0 || temperature > 0.0 && (temperature as f32).is_normal();
        let expected = "0, or a number above it that f32 can hold (1.2e-38 to 3.4e38)";
        check("weaken.temperature", usable, expected, temperature.to_string())?;
        let (key, value) = ("inject.llm.temperature", self.inject.llm.temperature);
        check(key, value >= 0.0 && value.is_finite(), "a finite number, at least 0", value.to_string())?;
        for (key, value) in [("weaken.top_p", self.weaken.top_p), ("inject.llm.top_p", self.inject.llm.top_p)]
        {
            check(key, value > 0.0 && value <= 1.0, "above 0 and at most 1", value.to_string())?;
        }
        if let Some(server) = &self.inject.server {
            server.validate().map_err(|source| BpoError::Server { source })?;
        }
        Ok(self.train.validate()?)
    }

    /// Refuses settings that others leave nothing to do: unread, they would be taken for granted.
    fn check_unused(&self) -> Result<(), BpoError> {
        let conflict = |key: &'static str, with: String, reason| {
            Err(BpoError::Conflict { key: key.into(), with, reason })
        };
        if self.full_finetune.is_some() && self.model.adapter.is_some() {
            let reason =
                "weights are trained, and there are no adapters: merge it into the model first (bpo merge)";
            return conflict("model.adapter", "`full_finetune`".to_owned(), reason);
        }
        if self.full_finetune.is_some() && self.lora != LoraConfig::default() {
            return conflict(
                "lora",
                "`full_finetune`".to_owned(),
                "weights are trained, and there are no adapters",
            );
        }
        if self.model.gradient_checkpointing && self.full_finetune.is_none() && self.lora.lora_dropout > 0.0 {
            let reason = "dropout would drop other values when a layer is computed again: set `lora.lora_dropout` to 0 (the presets \
                          set it to 0.05), or do without `model.gradient_checkpointing`";
            return conflict("model.gradient_checkpointing", "`lora.lora_dropout`".to_owned(), reason);
        }
        if self.full_finetune.is_none() && self.train.reference_sync.is_some() {
            let reason = "their factors do not mix as the weights would; train the weights ([full_finetune], --full-finetune)";
            return conflict("train.reference_sync", "adapters".to_owned(), reason);
        }
        let ReferenceSection { path, adapter, cache } = &self.reference;
        let references =
            [("reference.path", path), ("reference.adapter", adapter), ("reference.cache", cache)];
        match references.into_iter().find(|(_, path)| path.is_some()) {
            Some((key, _)) if !self.train.objective().properties().reference => {
                let with = match self.train.reference_free {
                    true => "`train.reference_free`".to_owned(),
                    false => format!("the loss {}", self.train.loss),
                };
                conflict(key, with, "nothing is compared with a reference")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Break = fn(&mut RunConfig);
        let broken: [(&str, Break); 16] = [
            ("reference.path", |config| {
                config.train.loss = bpo_dpo::loss::Loss::Sft;
                config.reference.path = Some("other".into());
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
            ("weaken.temperature", |config| config.weaken.temperature = 1e-50),
            ("lora.lora_alpha", |config| config.lora.lora_alpha = 1e39),
            ("train.learning_rate", |config| config.train.learning_rate = 1e39),
            ("weaken.begun", |config| config.weaken.begun = 1.0),
            ("weaken.samples", |config| config.weaken.samples = usize::MAX),
            ("weaken.contrast.alpha", |config| {
                let mut contrast = Contrast::new(bpo_pairs::provenance::ContrastMode::Vcd);
                contrast.alpha = -1.0;
                config.weaken.contrast = Some(contrast);
            }),
            ("conditional.distortion", |config| config.conditional.distortion = "no-image".parse().unwrap()),
            ("weaken.batch_size", |config| config.weaken.batch_size = 0),
            ("weaken.top_p", |config| config.weaken.top_p = f64::NAN),
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
}
