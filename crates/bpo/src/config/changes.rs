//! The settings that affect a stage, and the differences between two sets of settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bpo_pairs::Untrusted;

use super::RunConfig;
use super::affects::affects;
use crate::error::BpoError;
use crate::stage::Stage;

/// A setting or an input that differs between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key of the setting, or name of the input.
    pub key: String,
    /// Old value; `None` if it was not set.
    pub old: Option<String>,
    /// New value; `None` if it is not set.
    pub new: Option<String>,
}

impl Change {
    /// Returns the entries that differ between two maps, sorted by key.
    pub(crate) fn between<V: PartialEq + fmt::Display>(
        old: &BTreeMap<String, V>,
        new: &BTreeMap<String, V>,
    ) -> Vec<Self> {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let differing = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
        let text = |value: Option<&V>| value.map(V::to_string);
        differing
            .map(|key| Self { key: key.clone(), old: text(old.get(key)), new: text(new.get(key)) })
            .collect()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| Untrusted(value.as_deref().unwrap_or("not set")).to_string();
        write!(f, "`{}` was {} and is now {}", Untrusted(&self.key), show(&self.old), show(&self.new))
    }
}

/// Returns the settings that affect the results of a stage, as dotted keys with TOML values.
///
/// The device is not among them, so a stage can be continued on another device, although the
/// results may then differ in the last bits.
///
/// # Errors
/// Returns [`BpoError::ConfigEncode`] if TOML cannot hold a value.
pub(crate) fn stage_settings(stage: Stage, config: &RunConfig) -> Result<BTreeMap<String, String>, BpoError> {
    let mut settings = flatten(config)?;
    // the phrases decide which answers of the model can be chosen
    let has_refusals = stage == Stage::Pair && config.chosen.has_own();
    settings.retain(|key, _| affects(key, stage) || has_refusals && key == REFUSALS);
    if stage == Stage::Weaken {
        // a server has its own model, and without one no image is sent
        match config.weaken.server {
            Some(_) => settings.retain(|key, _| key != "model.dtype"),
            None => settings.retain(|key, _| !key.starts_with("weaken.server_images.")),
        }
    }
    if stage == Stage::Judge {
        match config.judge.server {
            Some(_) => settings.retain(|key, _| key != "model.dtype"),
            None => settings.retain(|key, _| !key.starts_with("judge.server_images.")),
        }
        if !config.judge.images {
            let is_of_images = |key: &str| {
                key == "data.images"
                    || key.starts_with("data.limits.")
                    || key.starts_with("judge.server_images.")
            };
            settings.retain(|key, _| !is_of_images(key));
        }
    }
    if stage == Stage::Inject && !config.inject.is_local() {
        settings.remove("model.dtype");
    }
    // without a choice by evaluations, their interval affects only `eval.jsonl`
    #[cfg(feature = "model")]
    if !config.train.needs_evaluations() {
        settings.remove("train.eval_every");
    }
    Ok(settings)
}

/// The key of the phrases by which refusals are found.
pub(crate) const REFUSALS: &str = "inject.llm.acceptance.refusals";

/// Returns all settings as dotted keys with TOML values.
pub(super) fn flatten(config: &RunConfig) -> Result<BTreeMap<String, String>, BpoError> {
    fn walk(prefix: &str, value: &toml::Value, flat: &mut BTreeMap<String, String>) {
        let toml::Value::Table(table) = value else {
            flat.insert(prefix.to_owned(), value.to_string());
            return;
        };
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            walk(&key, value, flat);
        }
    }
    let table = toml::Value::try_from(config).map_err(|source| BpoError::ConfigEncode { source })?;
    let mut flat = BTreeMap::new();
    walk("", &table, &mut flat);
    Ok(flat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChosenAnswer;

    fn changes(stage: Stage, old: &RunConfig, new: &RunConfig) -> Vec<Change> {
        Change::between(&stage_settings(stage, old).unwrap(), &stage_settings(stage, new).unwrap())
    }

    #[test]
    fn stages_have_the_settings_that_affect_them() {
        let old = RunConfig::default();
        let mut new = old.clone();
        new.weaken.temperature = 0.7;
        #[cfg(feature = "model")]
        {
            new.train.beta = 0.2;
            new.train.save_every = 7;
            new.train.eval_every = 7;
        }
        new.model.path = Some("m".into());
        new.device = "cuda".parse().unwrap();
        let keys = |stage| -> Vec<String> {
            changes(stage, &old, &new).into_iter().map(|change| change.key).collect()
        };
        assert_eq!(keys(Stage::Weaken), ["weaken.temperature"]);
        assert_eq!(keys(Stage::Inject), Vec::<String>::new());
        #[cfg(feature = "model")]
        assert_eq!(keys(Stage::Train), ["train.beta"]);
        let change = &changes(Stage::Weaken, &old, &new)[0];
        assert_eq!(change.to_string(), "`weaken.temperature` was 0.2 and is now 0.7");
    }

    #[test]
    fn refusals_decide_which_own_answers_make_pairs() {
        let mut config = RunConfig::default();
        let has = |config: &RunConfig| stage_settings(Stage::Pair, config).unwrap().contains_key(REFUSALS);
        assert!(!has(&config));
        for chosen in [ChosenAnswer::Own, ChosenAnswer::Revised] {
            config.chosen = chosen;
            assert!(has(&config));
        }
    }

    #[test]
    #[cfg(feature = "server")]
    fn server_address_can_change_but_not_its_model() {
        let server = |url, model| {
            let mut config = RunConfig::default();
            config.inject.server = Some(bpo_server::OpenAiConfig::new(url, model));
            config
        };
        let old = server("http://a:1", "m");
        assert_eq!(changes(Stage::Inject, &old, &server("http://b:2", "m")), []);
        let changed = changes(Stage::Inject, &old, &server("http://a:1", "n"));
        assert_eq!(changed[0].key, "inject.server.model");
        let gone = changes(Stage::Inject, &old, &RunConfig::default());
        assert_eq!((gone[0].key.as_str(), gone[0].new.as_deref()), ("inject.server.model", None));
    }
}
