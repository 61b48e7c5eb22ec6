//! Published recipes, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BpoError;

/// A published recipe. It gives the values of settings that neither the settings file nor a flag sets.
/// Each has a file in `presets`, which names its source.
///
/// The two recipes of the BPO authors (Pi et al., arXiv 2403.08730) differ from the defaults in three
/// points: LoRA dropout is 0.05, an answer of more than 350 words drops its whole sample, as in the
/// authors' code, and a sequence has at most 2048 tokens. The page "Methods and papers" of the guide
/// gives the source of each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Preset {
    /// BPO: the released training script, with rank 32.
    Script,
    /// BPO: rank 64 as in the paper, and otherwise the numbers of the script.
    Paper,
    /// SeVa (Zhu et al., arXiv 2404.10501): the model's own answers are the chosen ones, and those about
    /// noised images are rejected. The numbers are those of its code.
    Seva,
    /// mDPO (Wang et al., arXiv 2406.11839): its loss, with the numbers of its code.
    Mdpo,
    /// CHiP (Fu et al., arXiv 2501.16629): its loss, with the numbers of its code. It trains all weights.
    Chip,
    /// SymMPO (Liu et al., arXiv 2506.11712): its loss and pairs with other images, with the numbers of its
    /// code. It trains all weights.
    Symmpo,
    /// HaNoRec (arXiv 2511.18740): responsiveness and noise on adapters, with the numbers of its code.
    Hanorec,
    /// LLaVA-Hound (Zhang et al., arXiv 2404.01258): a text model scores the model's own answers by the
    /// annotated ones. The numbers are those of its code. It trains all weights of the language model.
    LlavaHound,
    /// RLAIF-V (Yu et al., arXiv 2405.17220): a vision-language model counts the wrong claims of the
    /// model's own answers. The numbers are those of its code for LoRA.
    RlaifV,
}

/// LoRA rank in the paper, confirmed by its first author.
const PAPER_RANK: i64 = 64;

impl Preset {
    /// All presets.
    pub const ALL: [Self; 9] = [
        Self::Script,
        Self::Paper,
        Self::Seva,
        Self::Mdpo,
        Self::Chip,
        Self::Symmpo,
        Self::Hanorec,
        Self::LlavaHound,
        Self::RlaifV,
    ];

    /// Returns the name of the preset.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Paper => "paper",
            Self::Seva => "seva",
            Self::Mdpo => "mdpo",
            Self::Chip => "chip",
            Self::Symmpo => "symmpo",
            Self::Hanorec => "hanorec",
            Self::LlavaHound => "llava-hound",
            Self::RlaifV => "rlaif-v",
        }
    }

    /// Returns the settings of the preset.
    pub(super) fn table(self) -> Result<toml::Table, BpoError> {
        let settings = match self {
            Self::Script | Self::Paper => include_str!("presets/script.toml"),
            Self::Seva => include_str!("presets/seva.toml"),
            Self::Mdpo => include_str!("presets/mdpo.toml"),
            Self::Chip => include_str!("presets/chip.toml"),
            Self::Symmpo => include_str!("presets/symmpo.toml"),
            Self::Hanorec => include_str!("presets/hanorec.toml"),
            Self::LlavaHound => include_str!("presets/llava-hound.toml"),
            Self::RlaifV => include_str!("presets/rlaif-v.toml"),
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
            expected: "`script`, `paper`, `seva`, `mdpo`, `chip`, `symmpo`, `hanorec`, `llava-hound` or `rlaif-v`",
            found: format!("`{}`", text.escape_debug()),
        })
    }
}
