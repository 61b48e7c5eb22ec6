//! Whether a stage may go on with other settings than it was begun with.

use std::collections::BTreeMap;
use std::fmt;

use super::RunConfig;
use crate::error::BpoError;
use crate::stage::Stage;

/// The keys, and beginnings of keys, of the settings that decide what a stage gives. Those of
/// earlier stages are not repeated.
fn keys(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Data => &["data.path"],
        Stage::Weaken => &[
            "seed",
            "model.path",
            "model.adapter",
            "model.dtype",
            "data.path",
            "data.images",
            "data.limits.",
            "weaken.",
        ],
        Stage::Inject => &["seed", "data.path", "inject."],
        Stage::Pair => &["filter."],
        // the file says itself what it was made of
        Stage::Reference => &[],
        Stage::Train => &[
            "seed",
            "model.",
            "data.images",
            "data.eval_pairs",
            "data.limits.",
            "lora.",
            "full_finetune.",
            "reference.path",
            "reference.adapter",
            "conditional.",
            "train.",
        ],
    }
}

/// Keys that change how something is computed and not what: where a server is and how often it is asked, when a
/// checkpoint is written, what is computed twice.
const FREE: &[&str] = &[
    "model.gradient_checkpointing",
    "inject.server.base_url",
    "inject.server.api_key_env",
    "inject.server.proxy",
    "inject.server.timeout_s",
    "inject.server.max_",
    "inject.server.backoff_",
    "train.save_every",
    "train.save_minutes",
    "train.keep_checkpoints",
    "train.sample_every",
    "train.max_skipped",
    "train.initial_tolerance",
];

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// Its value then; `None` if it was not there.
    pub then: Option<String>,
    /// Its value now; `None` if it is not there.
    pub now: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        write!(f, "`{}` was {} and is now {}", self.key, show(&self.then), show(&self.now))
    }
}

/// The settings that decide what `stage` gives and are not the same in both.
///
/// The device is none of them: a run may go on elsewhere, if not to the bit.
///
/// # Errors
/// [`BpoError::ConfigEncode`] for what TOML cannot hold.
pub(crate) fn changes(stage: Stage, then: &RunConfig, now: &RunConfig) -> Result<Vec<Change>, BpoError> {
    let (then, now) = (flatten(then)?, flatten(now)?);
    let matches =
        |key: &str, known: &&str| key == *known || key.starts_with(known) && known.ends_with(['.', '_']);
    let counts = |key: &&String| {
        keys(stage).iter().any(|known| matches(key, known)) && !FREE.iter().any(|free| matches(key, free))
    };
    let only_now = now.keys().filter(|key| !then.contains_key(*key));
    let differing = then.keys().chain(only_now).filter(counts).filter(|key| then.get(*key) != now.get(*key));
    let change =
        |key: &String| Change { key: key.clone(), then: then.get(key).cloned(), now: now.get(key).cloned() };
    Ok(differing.map(change).collect())
}

/// Dotted keys with their values as TOML. Both sides go through text, where a float may change in its last bit.
fn flatten(config: &RunConfig) -> Result<BTreeMap<String, String>, BpoError> {
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

    #[test]
    fn each_stage_has_the_settings_that_decide_it() {
        let then = RunConfig::default();
        let mut now = then.clone();
        now.weaken.temperature = 0.7;
        #[cfg(feature = "model")]
        {
            now.train.beta = 0.2;
            now.train.save_every = 7;
        }
        now.model.path = Some("m".into());
        now.device = "cuda".parse().unwrap();
        let keys = |stage| -> Vec<String> {
            changes(stage, &then, &now).unwrap().into_iter().map(|change| change.key).collect()
        };
        assert_eq!(keys(Stage::Weaken), ["weaken.temperature", "model.path"]);
        assert_eq!(keys(Stage::Inject), Vec::<String>::new());
        #[cfg(feature = "model")]
        assert_eq!(keys(Stage::Train), ["train.beta", "model.path"]);
        let change = &changes(Stage::Weaken, &then, &now).unwrap()[0];
        assert_eq!(change.to_string(), "`weaken.temperature` was 0.2 and is now 0.7");
    }

    #[test]
    #[cfg(feature = "server")]
    fn a_server_may_move_but_not_change_its_model() {
        let server = |url, model| {
            let mut config = RunConfig::default();
            config.inject.server = Some(bpo_server::OpenAiConfig::new(url, model));
            config
        };
        let then = server("http://a:1", "m");
        assert_eq!(changes(Stage::Inject, &then, &server("http://b:2", "m")).unwrap(), []);
        let changed = changes(Stage::Inject, &then, &server("http://a:1", "n")).unwrap();
        assert_eq!(changed[0].key, "inject.server.model");
        let gone = changes(Stage::Inject, &then, &RunConfig::default()).unwrap();
        assert_eq!((gone[0].key.as_str(), gone[0].now.as_deref()), ("inject.server.model", None));
    }
}
