//! Lookup of the stages that a setting affects. The tables are next to the sections.

use super::{
    ConditionalSection, DataSection, InjectSection, JudgeSection, ModelSection, ReferenceSection, RunConfig,
    TruthSection, WeakenSection,
};
use crate::stage::Stage;

/// The keys of a section, each with the stages whose results it affects. A key that is itself a
/// table stands for all keys in it.
pub(super) type Affects = &'static [(&'static str, &'static [Stage])];

/// Returns whether the setting with this dotted key affects the results of a stage.
pub(super) fn affects(key: &str, stage: Stage) -> bool {
    declared(key).is_some_and(|stages| stages.contains(&stage))
}

/// Returns the stages that the setting with this dotted key affects, or `None` if the key is not
/// declared.
fn declared(key: &str) -> Option<&'static [Stage]> {
    let (section, rest) = key.split_once('.').unwrap_or((key, ""));
    let (table, key) = match section {
        "model" => (ModelSection::AFFECTS, rest),
        "data" => (DataSection::AFFECTS, rest),
        "truth" => (TruthSection::AFFECTS, rest),
        "weaken" if is_transport_key(rest) => return Some(&[]),
        "weaken" => (WeakenSection::AFFECTS, rest),
        "judge" if is_transport_key(rest) => return Some(&[]),
        "judge" => (JudgeSection::AFFECTS, rest),
        "inject" if is_transport_key(rest) => return Some(&[]),
        // an input, compared by content
        "inject" if rest == "llm.templates.path" => return Some(&[]),
        "inject" => (InjectSection::AFFECTS, rest),
        "reference" => (ReferenceSection::AFFECTS, rest),
        "conditional" => (ConditionalSection::AFFECTS, rest),
        "train" if affects_no_result(rest) => return Some(&[]),
        _ => (RunConfig::AFFECTS, section),
    };
    let first = key.split('.').next()?;
    table.iter().find(|(known, _)| *known == first).map(|(_, stages)| *stages)
}

#[cfg(feature = "server")]
fn is_transport_key(key: &str) -> bool {
    let key = key.strip_prefix("server.");
    key.is_some_and(|key| bpo_server::OpenAiConfig::TRANSPORT_KEYS.contains(&key))
}

/// A build without the feature `server` does not know the keys of a server.
#[cfg(not(feature = "server"))]
fn is_transport_key(_: &str) -> bool {
    false
}

/// Returns whether a setting of training affects neither a step nor which step's parameters are the
/// result.
#[cfg(feature = "model")]
fn affects_no_result(key: &str) -> bool {
    bpo_dpo::DpoConfig::AFFECTS_NO_STEP.contains(&key)
        && !bpo_dpo::DpoConfig::AFFECTS_ONLY_RESULT.contains(&key)
}

/// A build without the feature `model` does not train.
#[cfg(not(feature = "model"))]
fn affects_no_result(_: &str) -> bool {
    false
}

/// Returns whether the setting with this dotted key may change while its stage is unfinished,
/// although it affects the result: training takes the new value for the remaining steps.
#[cfg(feature = "model")]
pub(crate) fn may_change_until_finished(key: &str) -> bool {
    let key = key.strip_prefix("train.");
    key.is_some_and(|key| bpo_dpo::DpoConfig::AFFECTS_ONLY_RESULT.contains(&key))
}

/// A build without the feature `model` does not train.
#[cfg(not(feature = "model"))]
pub(crate) fn may_change_until_finished(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// Returns the keys of a section, taken from the error message about an unknown key.
    fn keys<T: DeserializeOwned + std::fmt::Debug>(section: &str) -> Vec<String> {
        let error = toml::from_str::<T>("no-such-key = 1").unwrap_err().to_string();
        let (_, known) = error.split_once("expected").unwrap();
        let names = known.split('`').skip(1).step_by(2);
        names
            .map(|name| if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") })
            .collect()
    }

    #[test]
    fn every_setting_is_declared() {
        let sections = [
            keys::<RunConfig>(""),
            keys::<ModelSection>("model"),
            keys::<DataSection>("data"),
            keys::<TruthSection>("truth"),
            keys::<WeakenSection>("weaken"),
            keys::<JudgeSection>("judge"),
            keys::<InjectSection>("inject"),
            keys::<ReferenceSection>("reference"),
            keys::<ConditionalSection>("conditional"),
        ];
        const WITH_A_TABLE: [&str; 8] =
            ["model", "data", "truth", "weaken", "judge", "inject", "reference", "conditional"];
        for key in sections.concat() {
            assert!(
                WITH_A_TABLE.contains(&key.as_str()) || declared(&key).is_some(),
                "{key} is not declared"
            );
        }
        for key in super::super::changes::flatten(&RunConfig::default()).unwrap().into_keys() {
            assert!(declared(&key).is_some(), "{key} is not declared");
        }
        assert_eq!(declared("weaken.no_such_key"), None);
    }

    #[test]
    #[cfg(feature = "server")]
    fn transport_keys_are_all_server_keys_but_the_model() {
        let known = keys::<bpo_server::OpenAiConfig>("");
        for key in bpo_server::OpenAiConfig::TRANSPORT_KEYS {
            assert!(known.iter().any(|known| known == key), "{key}");
        }
        let of_answers: Vec<&String> = known
            .iter()
            .filter(|key| !bpo_server::OpenAiConfig::TRANSPORT_KEYS.contains(&key.as_str()))
            .collect();
        assert_eq!(of_answers, ["model"]);
    }

    #[test]
    #[cfg(feature = "model")]
    fn keys_that_affect_no_step_are_known_settings() {
        let known = keys::<bpo_dpo::DpoConfig>("");
        for key in bpo_dpo::DpoConfig::AFFECTS_NO_STEP {
            assert!(known.iter().any(|known| known == key), "{key}");
        }
        for key in bpo_dpo::DpoConfig::AFFECTS_ONLY_RESULT {
            assert!(bpo_dpo::DpoConfig::AFFECTS_NO_STEP.contains(&key), "{key}");
            assert!(affects(&format!("train.{key}"), Stage::Train), "{key}");
        }
    }
}
