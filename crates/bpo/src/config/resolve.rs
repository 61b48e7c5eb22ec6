//! Settings in layers: preset, adapter, settings file, flags. Later layers override earlier ones.

use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::read_text;

#[cfg(feature = "model")]
use super::adapter::AdapterSettings;
use super::read::{parse, parse_table};
use super::{Preset, RunConfig};
use crate::error::BpoError;

/// Maximum number of keys in the warning about an overridden preset.
const SHOWN_KEYS: usize = 5;

/// Settings of a file and a preset, before flags are applied.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    file: toml::Table,
    preset: Option<Preset>,
    answers_only: bool,
}

impl Settings {
    /// Reads a settings file.
    ///
    /// # Errors
    /// Returns the errors of [`RunConfig::read`].
    pub fn read(path: &Path) -> Result<Self, BpoError> {
        let text = read_text(path, Limits::DEFAULT.settings_bytes)?;
        Self::parse(path, &text)
    }

    /// Parses the text of a settings file. `path` is only used in errors.
    ///
    /// # Errors
    /// Returns the errors of [`RunConfig::parse`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, BpoError> {
        // parsed as settings first, because errors of a table have no line and column
        let preset = parse(path, text)?.preset;
        Ok(Self { file: parse_table(path, text)?, preset, answers_only: false })
    }

    /// Replaces the preset if one is given, and warns about the keys of the file that override it.
    #[must_use]
    pub fn with_preset(mut self, preset: Option<Preset>) -> Self {
        if let Some(preset) = preset {
            let keys = self.overridden(preset);
            if !keys.is_empty() {
                let settings = if keys.len() == 1 { "setting" } else { "settings" };
                let more = match keys.len().saturating_sub(SHOWN_KEYS) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                tracing::warn!(
                    "the settings file overrides {} {settings} of the preset {preset}: {}{more}",
                    keys.len(),
                    keys[..keys.len().min(SHOWN_KEYS)].join(", ")
                );
            }
        }
        self.preset = preset.or(self.preset);
        self
    }

    /// Returns the keys that the file sets to other values than the preset.
    fn overridden(&self, preset: Preset) -> Vec<String> {
        let mut keys = Vec::new();
        add_overridden("", &preset.table().unwrap_or_default(), &self.file, &mut keys);
        keys
    }

    /// Prepares the settings for a command that does not train: the adapter of the model is loaded
    /// unchanged, and `[lora]` and `[full_finetune]` do not apply to it.
    #[must_use]
    pub fn for_answers(mut self) -> Self {
        self.answers_only = true;
        self
    }

    /// Returns the settings of preset and file.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid, which [`parse`](Self::parse) has excluded.
    pub fn layered(&self) -> Result<RunConfig, BpoError> {
        self.over(self.base(&self.alone()?, false)?)
    }

    /// Returns all settings with flags applied, after validating them.
    ///
    /// If training continues an [adapter](super::ModelSection::adapter), `[lora]` has the values of
    /// that adapter, except for dropout and noise.
    ///
    /// # Errors
    /// Returns an error if a value is invalid, the adapter cannot be read, or `[lora]` differs from
    /// the adapter.
    pub fn resolve(&self, flags: impl Fn(&mut RunConfig)) -> Result<RunConfig, BpoError> {
        let mut probe = self.alone()?;
        flags(&mut probe);
        #[cfg_attr(not(feature = "model"), expect(unused_mut))]
        let mut base = self.base(&probe, sets_adapter(&flags))?;
        #[cfg(feature = "model")]
        let adapter = if self.answers_only { None } else { AdapterSettings::of(&probe)? };
        #[cfg(feature = "model")]
        if let Some(adapter) = &adapter {
            merge(&mut base, adapter.table()?);
        }
        let mut config = self.over(base)?;
        flags(&mut config);
        #[cfg(feature = "model")]
        if let Some(adapter) = &adapter {
            adapter.check_agrees(&config.lora)?;
        }
        if self.answers_only && config.model.adapter.is_some() {
            // full fine-tuning cannot continue an adapter, which validation would reject
            config.full_finetune = None;
        }
        config.validate()?;
        Ok(config)
    }

    /// Returns the settings of the file without the values of a preset.
    fn alone(&self) -> Result<RunConfig, BpoError> {
        let config = Self { preset: None, ..self.clone() }.over(toml::Table::new())?;
        Ok(RunConfig { preset: self.preset, ..config })
    }

    /// Returns the values of the preset that apply to the settings `probe`. `sets_adapter` is whether a
    /// flag sets one of `[lora]`.
    fn base(&self, probe: &RunConfig, sets_adapter: bool) -> Result<toml::Table, BpoError> {
        let Some(preset) = self.preset else { return Ok(toml::Table::new()) };
        let mut table = preset.table()?;
        if probe.full_finetune.is_some() {
            // full fine-tuning has no adapters
            table.remove("lora");
        } else if self.file.contains_key("lora") || sets_adapter || probe.model.adapter.is_some() {
            // adapters in place of the weights
            table.remove("full_finetune");
        }
        Ok(table)
    }

    /// Applies the settings of the file over `base`.
    fn over(&self, mut base: toml::Table) -> Result<RunConfig, BpoError> {
        merge(&mut base, self.file.clone());
        let broken = |error: toml::de::Error| BpoError::ConfigSyntax {
            path: "settings".into(),
            line: 1,
            column: 1,
            message: error.message().to_owned(),
        };
        let config: RunConfig = base.try_into().map_err(broken)?;
        Ok(RunConfig { preset: self.preset.or(config.preset), ..config })
    }
}

/// Returns whether flags set a value of `[lora]`, even if it is the default.
#[cfg(feature = "model")]
fn sets_adapter(flags: &impl Fn(&mut RunConfig)) -> bool {
    // no flag has these values
    let unset = bpo_model::LoraConfig::default().with_rank(0, -1.0).with_noise(-1.0).with_dropout(-1.0);
    let mut probe = RunConfig { lora: unset.clone(), ..RunConfig::default() };
    flags(&mut probe);
    probe.lora != unset
}

/// Returns false: a build without models has no such flags.
#[cfg(not(feature = "model"))]
fn sets_adapter(_flags: &impl Fn(&mut RunConfig)) -> bool {
    false
}

/// Adds the keys of `preset` for which `file` has another value to `keys`. `parent` is the dotted
/// key of the tables.
fn add_overridden(parent: &str, preset: &toml::Table, file: &toml::Table, keys: &mut Vec<String>) {
    for (name, value) in preset {
        let key = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        match (value, file.get(name)) {
            (toml::Value::Table(preset), Some(toml::Value::Table(file))) => {
                add_overridden(&key, preset, file, keys);
            }
            (_, Some(set)) if !is_same(set, value) => keys.push(key),
            _ => {}
        }
    }
}

/// Returns whether two values are equal. An integer equals the float of the same value.
pub(super) fn is_same(one: &toml::Value, other: &toml::Value) -> bool {
    let number = |value: &toml::Value| value.as_float().or(value.as_integer().map(|number| number as f64));
    one == other || number(one).is_some_and(|found| number(other) == Some(found))
}

/// Merges `over` into `base`, table by table. Values of `over` win.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(there)), toml::Value::Table(value)) => merge(there, value),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(all(test, feature = "model"))]
mod tests {
    use bpo_model::LoraConfig;

    use super::*;
    use crate::config::ChosenAnswer;

    fn settings(text: &str) -> Settings {
        Settings::parse(Path::new("bpo.toml"), text).unwrap()
    }

    #[test]
    fn presets_equal_the_authors_settings() {
        for (preset, rank) in [(Preset::Script, 32), (Preset::Paper, 64)] {
            let config = settings("").with_preset(Some(preset)).resolve(|_| {}).unwrap();
            let mut expected = RunConfig { preset: Some(preset), ..RunConfig::default() };
            // all other defaults are those of the authors
            expected.lora.r = rank;
            expected.lora.lora_dropout = 0.05;
            expected.filter.whole_sample = true;
            expected.model.max_length = Some(2048);
            assert_eq!(config, expected);
            assert_eq!(preset.as_str().parse::<Preset>().unwrap(), preset);
            let key = settings(&format!("preset = \"{preset}\"\n"));
            assert_eq!(key.layered().unwrap(), expected);
            // settings that a run has recorded resolve to the same settings
            let kept = settings(&config.to_toml().unwrap());
            assert_eq!(kept.resolve(|_| {}).unwrap(), config);
        }
        assert!("authors".parse::<Preset>().unwrap_err().is_usage());
    }

    #[test]
    fn seva_has_the_settings_of_its_code() {
        let config = settings("preset = \"seva\"\n").resolve(|_| {}).unwrap();
        assert_eq!(config.chosen, ChosenAnswer::Own);
        assert_eq!(config.weaken.distortion.to_string(), "diffusion-noise:step=500");
        assert_eq!((config.weaken.temperature, config.weaken.max_new_tokens), (0.0, 512));
        assert_eq!((config.lora.r, config.lora.lora_alpha), (1024, 2048.0));
        assert!(config.lora.modules_to_save.is_empty());
        assert_eq!((config.train.epochs, config.train.batch_size, config.train.warmup_ratio), (2, 16, 0.0));
        let kept = settings(&config.to_toml().unwrap());
        assert_eq!(kept.resolve(|_| {}).unwrap(), config);
    }

    #[test]
    fn each_preset_resolves_and_keeps_its_settings() {
        for preset in Preset::ALL {
            let config = settings("").with_preset(Some(preset)).resolve(|_| {}).unwrap();
            assert_eq!(config.preset, Some(preset));
            assert_eq!(preset.as_str().parse::<Preset>().unwrap(), preset);
            // the file of a preset is a settings file
            let file = Settings { file: preset.table().unwrap(), ..Settings::default() };
            assert_eq!(RunConfig { preset: Some(preset), ..file.resolve(|_| {}).unwrap() }, config);
            let kept = settings(&config.to_toml().unwrap());
            assert_eq!(kept.resolve(|_| {}).unwrap(), config);
        }
    }

    #[test]
    fn adapters_replace_the_full_fine_tuning_of_a_preset() {
        let chip = settings("preset = \"chip\"\n");
        assert!(chip.resolve(|_| {}).unwrap().full_finetune.is_some());
        let flag = chip.resolve(|config| config.lora.r = LoraConfig::default().r).unwrap();
        let key = settings("preset = \"chip\"\n[lora]\nr = 32\n").resolve(|_| {}).unwrap();
        for config in [flag, key] {
            assert_eq!(config.full_finetune, None);
            assert_eq!(config.train.changed_token_weight, Some(4.0));
        }
    }

    #[test]
    fn keys_and_flags_override_presets() {
        let text = "preset = \"paper\"\n[lora]\nr = 8\n[filter]\nwhole_sample = false\n[train]\nepochs = 5\nweight_decay = 0\n";
        let flags = |config: &mut RunConfig| config.lora.lora_dropout = 0.0;
        let config = settings(text).resolve(flags).unwrap();
        assert_eq!((config.lora.r, config.lora.lora_dropout, config.lora.lora_alpha), (8, 0.0, 256.0));
        assert_eq!((config.filter.whole_sample, config.train.epochs), (false, 5));
        let overridden = settings(text).overridden(Preset::Script);
        assert_eq!(overridden, ["filter.whole_sample", "lora.r", "train.epochs"]);
        // a file with all settings overrides only those that differ
        let all = settings(&RunConfig::default().to_toml().unwrap());
        assert_eq!(all.overridden(Preset::Script), ["filter.whole_sample", "lora.lora_dropout"]);
        // the preset of the flag overrides that of the key
        let script = settings("preset = \"paper\"\n").with_preset(Some(Preset::Script));
        assert_eq!(script.resolve(|_| {}).unwrap().lora.r, 32);
        // full fine-tuning ignores the adapter settings of a preset
        let full = |config: &mut RunConfig| config.full_finetune = Some(Default::default());
        let config = settings("preset = \"script\"\n").resolve(full).unwrap();
        assert_eq!(config.lora, LoraConfig::default());
        assert!(config.filter.whole_sample);
    }
}
