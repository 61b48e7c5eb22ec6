//! Published recipes, by name.

use std::fmt;
use std::str::FromStr;

use bpo_pairs::nearest_name;
use serde::{Deserialize, Serialize};

use super::RunConfig;
use super::resolve::is_same;
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

impl RunConfig {
    /// Names the preset in an error about a setting that has the value of the preset.
    pub(crate) fn naming_preset(&self, error: BpoError) -> BpoError {
        let (BpoError::Setting { key, .. } | BpoError::Conflict { key, .. }) = &error else { return error };
        let find = |table: &toml::Table| {
            let (first, rest) = key.split_once('.').unwrap_or((key, ""));
            rest.split('.')
                .filter(|name| !name.is_empty())
                .try_fold(table.get(first)?.clone(), |value, name| value.as_table()?.get(name).cloned())
        };
        let value_in = |table: Result<toml::Table, _>| table.ok().as_ref().and_then(find);
        let Some(preset) = self.preset else { return error };
        let (set, found) =
            (value_in(preset.table().map_err(drop)), value_in(toml::Table::try_from(self).map_err(drop)));
        match (set, found) {
            (Some(set), Some(found)) if has_values(&found, &set) => {
                BpoError::OfPreset { preset, key: key.to_string(), source: error.into() }
            }
            _ => error,
        }
    }
}

/// Returns whether a value equals another one or, if both are tables, has all of its values.
fn has_values(value: &toml::Value, of: &toml::Value) -> bool {
    match (value, of) {
        (toml::Value::Table(value), toml::Value::Table(of)) => {
            of.iter().all(|(key, of)| value.get(key).is_some_and(|value| has_values(value, of)))
        }
        (value, of) => is_same(value, of),
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
            found: not_known(text, &Self::ALL.map(Self::as_str)),
        })
    }
}

/// Describes an unknown name, with the known one that it may mean.
fn not_known(name: &str, known: &[&str]) -> String {
    let found = format!("`{}`", name.escape_debug());
    match nearest_name(name, known) {
        Some(meant) => format!("{found}: did you mean `{meant}`?"),
        None => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_corrected() {
        for (name, meant) in
            [("scirpt", "script"), ("rlaifv", "rlaif-v"), ("llava_hound", "llava-hound"), ("MDPO", "mdpo")]
        {
            let error = name.parse::<Preset>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("`{name}`: did you mean `{meant}`?")), "{error}");
        }
        let error = "zzz".parse::<Preset>().unwrap_err().to_string();
        assert!(error.ends_with("not `zzz`"), "{error}");
    }

    #[test]
    fn errors_name_the_preset_that_sets_the_key() {
        let mut config = RunConfig { preset: Some(Preset::Seva), ..RunConfig::default() };
        config.chosen = crate::config::ChosenAnswer::Own;
        config.weaken.prefix_fraction = 0.5;
        let conflict = |key: &'static str| BpoError::Conflict {
            key: key.into(),
            with: "another".to_owned(),
            reason: "no reason",
        };
        // `chosen` has the value of the preset, and `prefix_fraction` does not
        let error = config.naming_preset(conflict("chosen"));
        assert!(error.is_usage() && error.to_string().contains("`seva` (--preset) sets `chosen`"), "{error}");
        let error = config.naming_preset(conflict("weaken.prefix_fraction"));
        assert!(matches!(error, BpoError::Conflict { .. }), "{error}");
        config.preset = None;
        assert!(matches!(config.naming_preset(conflict("chosen")), BpoError::Conflict { .. }));
    }
}
