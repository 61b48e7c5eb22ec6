//! Settings of LoRA, with PEFT's names.

use serde::{Deserialize, Deserializer, Serialize};

use super::noise;
use super::patterns::{ModulePatterns, scale};
use super::selection::is_end;
use super::targets::TargetModules;
use crate::error::ModelError;
use crate::families::{FAMILIES, FamilySpec};
use crate::vlm::PROJECTOR;
use bpo_pairs::Limits;

/// Rank, scale and targets of the adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
#[non_exhaustive]
pub struct LoraConfig {
    /// Rank, from 1 to 65,536. Default 32 (the authors' recipe).
    pub r: usize,
    /// The scale of the low-rank product is `lora_alpha / r`. Default 256 (the authors' recipe).
    pub lora_alpha: f64,
    /// Whether the scale is `lora_alpha / sqrt(r)` instead, so that a higher rank does not learn
    /// more slowly (Kalajdzievski, 2023, arXiv 2312.03732). Default false, as in PEFT.
    pub use_rslora: bool,
    /// Probability that an element of an adapter's input is set to zero in training, as in PEFT;
    /// the others are scaled up. At least 0, below 1. Default 0, as in PEFT. TRL's
    /// `disable_dropout` turns it off by default.
    pub lora_dropout: f64,
    /// Standard deviation of the Gaussian noise that each forward pass in training adds to both
    /// factors of each adapter (NoDO of HaNoRec, arXiv 2511.18740), 0 or more. Gradients are those
    /// at the noisy factors. PEFT has no such setting, so the files of an adapter do not have it.
    /// Default 0 (ours).
    #[serde(skip_serializing_if = "is_zero")]
    pub lora_noise: f64,
    /// The linears that are adapted. Default: those of the language model except the head (the
    /// authors' recipe).
    pub target_modules: TargetModules,
    /// Modules that are trained in full and saved with the adapters: `projector` (the projector,
    /// whatever its name in the family), `lm_head`, or a linear of the projector by its name in
    /// transformers, such as `multi_modal_projector.linear_1`. As in PEFT, the end of a module's
    /// name is enough. The name of a projector is read as `projector`. Default: `projector` (the
    /// authors' recipe).
    #[serde(deserialize_with = "modules")]
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
            lora_noise: 0.0,
            target_modules: TargetModules::AllLinear,
            modules_to_save: vec![WHOLE_PROJECTOR.to_owned()],
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

    /// Sets the standard deviation of the noise on the adapters in training.
    pub fn with_noise(mut self, lora_noise: f64) -> Self {
        self.lora_noise = lora_noise;
        self
    }

    /// Sets which linears are adapted.
    pub fn with_target_modules(mut self, target_modules: TargetModules) -> Self {
        self.target_modules = target_modules;
        self
    }

    /// Sets which modules are trained in full.
    pub fn with_modules_to_save(mut self, modules: &[&str]) -> Self {
        self.modules_to_save = modules.iter().map(|module| role_of(module)).collect();
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

    /// The factor of the low-rank product, where no pattern applies.
    pub fn scale(&self) -> f64 {
        scale(self.r, self.lora_alpha, self.use_rslora)
    }

    /// The highest rank of a module.
    pub fn max_rank(&self) -> usize {
        self.rank_pattern.iter().map(|(_, r)| *r).fold(self.r, usize::max)
    }

    /// The linears that are trained in full, and so have no adapters.
    pub(super) fn whole(&self, spec: &FamilySpec) -> impl Iterator<Item = &'static str> {
        spec.trainable_whole().filter(|linear| self.is_whole(linear, spec))
    }

    /// Whether a linear is trained in full.
    pub(super) fn is_whole(&self, linear: &str, spec: &FamilySpec) -> bool {
        let named = |module: &String| stands_for(module, linear, spec);
        spec.trainable_whole().any(|known| known == linear) && self.modules_to_save.iter().any(named)
    }

    /// Checks the settings that can be checked without a model.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for the first value that cannot be used.
    pub fn validate(&self) -> Result<(), ModelError> {
        let check = |key, holds, expected, found: String| {
            if holds { Ok(()) } else { Err(ModelError::Setting { key, expected, found }) }
        };
        let ranks = 1..=Limits::DEFAULT.lora_rank;
        check("r", ranks.contains(&self.r), "from 1 to 65536", self.r.to_string())?;
        let alpha = self.lora_alpha;
        // the scale is applied in f32
        let usable = |value: f64| (value as f32).is_normal();
        let expected = "a number other than 0 that f32 can hold";
        check("lora_alpha", usable(alpha) && usable(self.scale()), expected, alpha.to_string())?;
        for (key, r) in self.rank_pattern.iter() {
            let expected = "from 1 to 65536 for each key";
            check("rank_pattern", ranks.contains(r), expected, format!("{r} for {key:?}"))?;
        }
        for (key, alpha) in self.alpha_pattern.iter() {
            let expected = "a number other than 0 that f32 can hold, for each key";
            check("alpha_pattern", usable(*alpha), expected, format!("{alpha} for {key:?}"))?;
        }
        for module in &self.modules_to_save {
            let known = FAMILIES.into_iter().any(|spec| can_be_whole(module, spec));
            check("modules_to_save", known, TRAINABLE_WHOLE, format!("{module:?}"))?;
        }
        noise::check(self.lora_noise)?;
        let dropout = self.lora_dropout;
        check("lora_dropout", (0.0..1.0).contains(&dropout), "at least 0 and below 1", dropout.to_string())
    }

    /// Checks that `modules_to_save` names modules of a family.
    ///
    /// # Errors
    /// [`ModelError::Setting`].
    pub(super) fn check_modules(&self, spec: &FamilySpec) -> Result<(), ModelError> {
        match self.modules_to_save.iter().find(|module| !can_be_whole(module, spec)) {
            None => Ok(()),
            Some(module) => {
                Err(ModelError::ModulesToSave { known: trainable_whole(spec), found: module.clone() })
            }
        }
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// The name in `modules_to_save` of the projector of any family.
pub(super) const WHOLE_PROJECTOR: &str = "projector";

/// The modules that `modules_to_save` may name, whatever the family.
const TRAINABLE_WHOLE: &str =
    "projector, lm_head, or a linear of the projector by its name (in LLaVA, multi_modal_projector.linear_1)";

/// The modules that `modules_to_save` may name with a model of a family.
pub(super) fn trainable_whole(spec: &FamilySpec) -> String {
    let linears = spec.projector.iter().map(|linear| {
        let name = spec.current(linear);
        name.strip_prefix("model.").map_or(name.clone(), str::to_owned)
    });
    format!("projector, lm_head, {}", linears.collect::<Vec<_>>().join(", "))
}

/// Whether a name of `modules_to_save` means modules of a family that can be trained in full.
pub(super) fn can_be_whole(module: &str, spec: &FamilySpec) -> bool {
    spec.trainable_whole().any(|linear| stands_for(module, linear, spec))
}

/// Whether a name of `modules_to_save` means a linear, by its path, or a module that contains it.
fn stands_for(module: &str, linear: &str, spec: &FamilySpec) -> bool {
    if module == WHOLE_PROJECTOR {
        return spec.projector.contains(&linear);
    }
    let mut modules = std::iter::successors(Some(linear), |path| Some(path.rsplit_once('.')?.0));
    modules.any(|path| is_end(&spec.current(path), module))
}

/// The name of a module as settings hold it: `projector` for the projector of a family.
pub(super) fn role_of(module: &str) -> String {
    let is_projector = FAMILIES.into_iter().any(|spec| is_end(&spec.current(PROJECTOR), module));
    if is_projector { WHOLE_PROJECTOR.to_owned() } else { module.to_owned() }
}

fn modules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.iter().map(|module| role_of(module)).collect())
}
