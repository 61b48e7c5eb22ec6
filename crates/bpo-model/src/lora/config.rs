//! Settings of LoRA, with PEFT's names.

use serde::{Deserialize, Serialize};

use super::names::{PROJECTOR, WHOLE, module_name};
use super::patterns::{ModulePatterns, scale};
use super::selection::is_end;
use super::targets::TargetModules;
use crate::error::ModelError;

/// Rank, scale and place of the adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
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
    /// Modules that are trained in full and saved with the adapters: `multi_modal_projector`,
    /// `multi_modal_projector.linear_1`, `multi_modal_projector.linear_2` or `lm_head`. As in PEFT,
    /// the end of a module's name is enough. Default: `multi_modal_projector` (the authors' recipe).
    pub modules_to_save: Vec<String>,
    /// Ranks of modules that have another rank than `r`. Default: none.
    #[serde(skip_serializing_if = "ModulePatterns::is_empty")]
    pub rank_pattern: ModulePatterns<usize>,
    /// Alphas of modules that have another alpha than `lora_alpha`. Default: none.
    #[serde(skip_serializing_if = "ModulePatterns::is_empty")]
    pub alpha_pattern: ModulePatterns<f64>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 32,
            lora_alpha: 256.0,
            use_rslora: false,
            lora_dropout: 0.0,
            target_modules: TargetModules::AllLinear,
            modules_to_save: vec![PROJECTOR.to_owned()],
            rank_pattern: ModulePatterns::default(),
            alpha_pattern: ModulePatterns::default(),
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

    /// Sets which modules are trained in full.
    pub fn with_modules_to_save(mut self, modules: &[&str]) -> Self {
        self.modules_to_save = modules.iter().map(|&module| module.to_owned()).collect();
        self
    }

    /// Sets ranks of single modules.
    pub fn with_rank_pattern(mut self, rank_pattern: ModulePatterns<usize>) -> Self {
        self.rank_pattern = rank_pattern;
        self
    }

    /// Sets alphas of single modules.
    pub fn with_alpha_pattern(mut self, alpha_pattern: ModulePatterns<f64>) -> Self {
        self.alpha_pattern = alpha_pattern;
        self
    }

    /// What the low-rank product is multiplied by, where no pattern says otherwise.
    pub fn scale(&self) -> f64 {
        scale(self.r, self.lora_alpha, self.use_rslora)
    }

    /// The highest rank that a module may have.
    pub fn max_rank(&self) -> usize {
        self.rank_pattern.iter().map(|(_, r)| *r).fold(self.r, usize::max)
    }

    /// The linears that are trained in full, and so have no adapters.
    pub(super) fn whole(&self) -> impl Iterator<Item = &'static str> {
        WHOLE.into_iter().filter(|linear| self.is_whole(linear))
    }

    /// Whether a linear is trained in full.
    pub(super) fn is_whole(&self, linear: &str) -> bool {
        WHOLE.contains(&linear) && self.modules_to_save.iter().any(|module| stands_for(module, linear))
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
        let usable = |value: f64| (value as f32).is_normal();
        let expected = "a number other than 0 that f32 can hold";
        check("lora_alpha", usable(alpha) && usable(self.scale()), expected, alpha.to_string())?;
        for (key, r) in self.rank_pattern.iter() {
            check("rank_pattern", *r > 0, "at least 1 for each key", format!("{r} for {key:?}"))?;
        }
        for (key, alpha) in self.alpha_pattern.iter() {
            let expected = "a number other than 0 that f32 can hold, for each key";
            check("alpha_pattern", usable(*alpha), expected, format!("{alpha} for {key:?}"))?;
        }
        for module in &self.modules_to_save {
            let known = WHOLE.iter().any(|linear| stands_for(module, linear));
            check("modules_to_save", known, TRAINABLE_WHOLE, format!("{module:?}"))?;
        }
        let dropout = self.lora_dropout;
        check("lora_dropout", (0.0..1.0).contains(&dropout), "at least 0 and below 1", dropout.to_string())
    }
}

/// What `modules_to_save` may name.
pub(super) const TRAINABLE_WHOLE: &str =
    "multi_modal_projector, multi_modal_projector.linear_1, multi_modal_projector.linear_2 or lm_head";

/// Whether a name of `modules_to_save` is that of a linear, or of the module that it is in.
pub(super) fn stands_for(module: &str, linear: &str) -> bool {
    let parent = linear.rsplit_once('.').map(|(parent, _)| parent);
    is_end(&module_name(linear), module) || parent.is_some_and(|parent| is_end(&module_name(parent), module))
}
