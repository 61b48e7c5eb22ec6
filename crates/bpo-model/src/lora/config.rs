//! Settings of LoRA, with PEFT's names.

use serde::{Deserialize, Serialize};

/// Rank, scale and place of the adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rank. Default 32 (the authors' recipe).
    pub r: usize,
    /// The low-rank product is scaled by `lora_alpha / r`. Default 256 (the authors' recipe).
    pub lora_alpha: f64,
    /// Which linears of the language model are adapted. Default: all but the head (the authors' recipe).
    pub target_modules: TargetModules,
    /// Whether the projector is trained too, in full. Default true (the authors' recipe).
    pub train_projector: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { r: 32, lora_alpha: 256.0, target_modules: TargetModules::AllLinear, train_projector: true }
    }
}

impl LoraConfig {
    /// Sets rank and alpha.
    pub fn with_rank(mut self, r: usize, lora_alpha: f64) -> Self {
        (self.r, self.lora_alpha) = (r, lora_alpha);
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
        self.lora_alpha / self.r as f64
    }
}

/// Linears of the language model that get an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TargetModules {
    /// Every linear but the head.
    #[default]
    AllLinear,
    /// The four projections of attention.
    Attention,
}

impl TargetModules {
    /// Last parts of the adapted modules' names.
    pub fn names(self) -> &'static [&'static str] {
        const ALL: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        match self {
            Self::AllLinear => &ALL,
            Self::Attention => &ALL[..4],
        }
    }
}
