//! Settings of LoRA, with PEFT's names.

use serde::{Deserialize, Serialize};

use super::targets::TargetModules;
use crate::error::ModelError;

/// Rank, scale and place of the adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rank. Default 32 (the authors' recipe).
    pub r: usize,
    /// The low-rank product is scaled by `lora_alpha / r`. Default 256 (the authors' recipe).
    pub lora_alpha: f64,
    /// Whether it is scaled by `lora_alpha / sqrt(r)` instead, so that a higher rank does not learn more slowly
    /// (Kalajdzievski, 2023, arXiv 2312.03732). Default false (PEFT's).
    pub use_rslora: bool,
    /// Part of an adapter's input that is set to zero while training, the rest being scaled up, as PEFT does it. At least 0,
    /// below 1. Default 0: none (PEFT's; TRL's `disable_dropout` takes it away by default, too).
    pub lora_dropout: f64,
    /// Which linears are adapted. Default: those of the language model but the head (the authors' recipe).
    pub target_modules: TargetModules,
    /// Whether the projector is trained too, in full. Default true (the authors' recipe).
    pub train_projector: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 32,
            lora_alpha: 256.0,
            use_rslora: false,
            lora_dropout: 0.0,
            target_modules: TargetModules::AllLinear,
            train_projector: true,
        }
    }
}

impl LoraConfig {
    /// Sets rank and alpha.
    pub fn with_rank(mut self, r: usize, lora_alpha: f64) -> Self {
        (self.r, self.lora_alpha) = (r, lora_alpha);
        self
    }

    /// Sets whether the scale is rank-stabilized.
    pub fn with_rslora(mut self, use_rslora: bool) -> Self {
        self.use_rslora = use_rslora;
        self
    }

    /// Sets the dropout of the adapters' input.
    pub fn with_dropout(mut self, lora_dropout: f64) -> Self {
        self.lora_dropout = lora_dropout;
        self
    }

    /// Sets which linears are adapted.
    pub fn with_target_modules(mut self, target_modules: TargetModules) -> Self {
        self.target_modules = target_modules;
        self
    }

    /// Sets whether the projector is trained.
    pub fn with_train_projector(mut self, train_projector: bool) -> Self {
        self.train_projector = train_projector;
        self
    }

    /// What the low-rank product is multiplied by.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for the first value that cannot work.
    pub fn validate(&self) -> Result<(), ModelError> {
        let check = |key, holds, expected, found: String| match holds {
            true => Ok(()),
            false => Err(ModelError::Setting { key, expected, found }),
        };
        check("r", self.r > 0, "at least 1", self.r.to_string())?;
        let alpha = self.lora_alpha;
        // the scale is multiplied in f32
        let usable = (alpha as f32).is_normal() && (self.scale() as f32).is_normal();
        check("lora_alpha", usable, "a number other than 0 that f32 can hold", alpha.to_string())?;
        let dropout = self.lora_dropout;
        check("lora_dropout", (0.0..1.0).contains(&dropout), "at least 0 and below 1", dropout.to_string())
    }
}
