//! Published recipes, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BpoError;

/// A published recipe. It gives the values of settings that neither the settings file nor a flag sets.
///
/// The two recipes of the BPO authors (Pi et al., arXiv 2403.08730) differ from the defaults in three
/// points: LoRA dropout is 0.05, an answer of more than 350 words drops its whole sample, as in the
/// authors' code, and a sequence has at most 2048 tokens. The page "Methods and papers" of the guide
/// gives the source of each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// BPO: the released training script, with rank 32.
    Script,
    /// BPO: rank 64 as in the paper, and otherwise the numbers of the script.
    Paper,
    /// SeVa (Zhu et al., arXiv 2404.10501): the model's own answers are the chosen ones, and those about
    /// noised images are rejected. The numbers are those of its code.
    Seva,
}

/// The settings of SeVa's code: greedy answers, equal pairs dropped, and LoRA without the projector.
const SEVA: &str = r#"
chosen = "own"

[model]
max_length = 2048

[weaken]
distortion = "diffusion-noise:step=500"
samples = 1
temperature = 0.0
max_new_tokens = 512

[lora]
r = 1024
lora_alpha = 2048.0
lora_dropout = 0.05
target_modules = "all-linear"
modules_to_save = []

[train]
beta = 0.1
learning_rate = 2e-6
schedule = "cosine"
warmup_ratio = 0.0
epochs = 2
batch_size = 16
gradient_accumulation_steps = 1
weight_decay = 0.0
"#;

/// The settings of the BPO authors' code.
const SCRIPT: &str = r#"
[model]
max_length = 2048

[weaken]
distortion = "diffusion-noise:step=900"
samples = 1
temperature = 0.2
max_new_tokens = 1024

[inject.llm]
temperature = 0.8
top_p = 0.95

[filter]
max_words = 350
whole_sample = true

[lora]
r = 32
lora_alpha = 256.0
lora_dropout = 0.05
target_modules = "all-linear"
modules_to_save = ["projector"]

[train]
beta = 0.1
learning_rate = 2e-6
schedule = "cosine"
warmup_ratio = 0.03
epochs = 2
batch_size = 4
gradient_accumulation_steps = 1
weight_decay = 0.0
"#;

/// LoRA rank in the paper, confirmed by its first author.
const PAPER_RANK: i64 = 64;

impl Preset {
    /// All presets.
    pub const ALL: [Self; 3] = [Self::Script, Self::Paper, Self::Seva];

    /// Returns the name of the preset.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Paper => "paper",
            Self::Seva => "seva",
        }
    }

    /// Returns the settings of the preset.
    pub(super) fn table(self) -> Result<toml::Table, BpoError> {
        let settings = match self {
            Self::Script | Self::Paper => SCRIPT,
            Self::Seva => SEVA,
        };
        let mut table: toml::Table = settings.parse().map_err(|error: toml::de::Error| {
            let (path, message) = (format!("preset {self}").into(), error.message().to_owned());
            BpoError::ConfigSyntax { path, line: 1, column: 1, message }
        })?;
        if let (Self::Paper, Some(lora)) = (self, table.get_mut("lora").and_then(toml::Value::as_table_mut)) {
            lora.insert("r".to_owned(), PAPER_RANK.into());
        }
        Ok(table)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = BpoError;

    fn from_str(text: &str) -> Result<Self, BpoError> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text).ok_or_else(|| BpoError::Setting {
            key: "preset".into(),
            expected: "`script`, `paper` or `seva`",
            found: format!("`{}`", text.escape_debug()),
        })
    }
}
