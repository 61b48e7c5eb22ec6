//! The modules that an `adapter_config.json` selects, by the rules of PEFT.

use fancy_regex::Regex;
use serde::Deserialize;

use super::patterns::{compile, matches_any};
use crate::error::ModelError;
use crate::families::FamilySpec;

/// A value of `target_modules` or `exclude_modules` in PEFT.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a regular expression or a list of module names")]
pub(super) enum Names {
    Expression(String),
    Ends(Vec<String>),
}

/// A value of `layers_to_transform` in PEFT.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected the number of a layer or a list of them")]
pub(super) enum Layers {
    One(usize),
    Many(Vec<usize>),
}

/// The keys of `adapter_config.json` that decide which modules have adapters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "an object")]
pub(super) struct Selection {
    pub target_modules: Option<Names>,
    exclude_modules: Option<Names>,
    layers_to_transform: Option<Layers>,
    layers_pattern: Option<Names>,
}

/// Expressions that find the number of a layer in a name, and the selected numbers.
type WantedLayers = (Vec<Regex>, Vec<usize>);

impl Selection {
    /// Checks PEFT's rules on which keys may be combined. Returns the reason if they may not.
    pub(super) fn conflict(&self) -> Option<&'static str> {
        let by_layer = self.layers_to_transform.is_some();
        match &self.target_modules {
            Some(Names::Expression(_)) if by_layer || self.layers_pattern.is_some() => Some(
                "layers_to_transform and layers_pattern need a list of names as target_modules, which is a regular \
                 expression",
            ),
            _ if self.layers_pattern.is_some() && !by_layer => {
                Some("layers_pattern needs layers_to_transform, which is not set")
            }
            _ => None,
        }
    }

    /// Selects linears. Returns `None` where the file does not say which.
    ///
    /// # Errors
    /// [`ModelError::TargetPattern`].
    pub(super) fn select<'a>(
        &self,
        linears: impl Iterator<Item = &'a str>,
        spec: &FamilySpec,
        legacy: bool,
    ) -> Result<Option<Vec<String>>, ModelError> {
        let Some(targets) = &self.target_modules else { return Ok(None) };
        let targets = Matcher::new("target_modules", targets)?;
        let excluded =
            self.exclude_modules.as_ref().map(|names| Matcher::new("exclude_modules", names)).transpose()?;
        let layers = self.layers()?;
        let mut found = Vec::new();
        for linear in linears {
            let names = spec.names_of(linear, legacy);
            let is_excluded = excluded.as_ref().map_or(Ok(false), |excluded| excluded.matches(&names))?;
            if !is_excluded && targets.matches(&names)? && is_of_layers(&layers, &names)? {
                found.push(linear.to_owned());
            }
        }
        Ok(Some(found))
    }

    /// The layers that `layers_to_transform` and `layers_pattern` select. `None` for all layers.
    fn layers(&self) -> Result<Option<WantedLayers>, ModelError> {
        let wanted = match &self.layers_to_transform {
            None => return Ok(None),
            Some(Layers::One(layer)) => vec![*layer],
            Some(Layers::Many(layers)) if layers.is_empty() => return Ok(None),
            Some(Layers::Many(layers)) => layers.clone(),
        };
        let patterns = match &self.layers_pattern {
            Some(Names::Expression(pattern)) if !pattern.is_empty() => std::slice::from_ref(pattern),
            Some(Names::Ends(patterns)) => patterns.as_slice(),
            _ => &[],
        };
        let expressions = match patterns {
            [] => vec![compile("layers_pattern", "", r".*?\.[^.]*\.(?P<idx>\d+)\..*", "")?],
            patterns => {
                let of = |pattern: &String| {
                    compile("layers_pattern", pattern, r"(?:.*?\.)?(?:", r")\.(?P<idx>\d+)\..*")
                };
                patterns.iter().map(of).collect::<Result<_, _>>()?
            }
        };
        Ok(Some((expressions, wanted)))
    }
}

fn is_of_layers(layers: &Option<WantedLayers>, names: &[String]) -> Result<bool, ModelError> {
    let Some((expressions, wanted)) = layers else { return Ok(true) };
    for regex in expressions {
        for name in names {
            let found = regex.captures(name).map_err(|source| ModelError::TargetPattern {
                key: "layers_pattern",
                pattern: regex.as_str().to_owned(),
                source: Box::new(source),
            })?;
            if let Some(number) = found.and_then(|found| found.name("idx")?.as_str().parse().ok()) {
                return Ok(wanted.contains(&number));
            }
        }
    }
    Ok(false)
}

enum Matcher<'a> {
    /// PEFT's `all-linear`: all linears except the head.
    AllLinear,
    Expression(&'static str, &'a str, Regex),
    Ends(&'a [String]),
}

impl<'a> Matcher<'a> {
    fn new(key: &'static str, names: &'a Names) -> Result<Self, ModelError> {
        Ok(match names {
            Names::Expression(text) if key == "target_modules" && text.eq_ignore_ascii_case("all-linear") => {
                Self::AllLinear
            }
            Names::Expression(text) => Self::Expression(key, text, compile(key, text, "", "")?),
            Names::Ends(names) => Self::Ends(names),
        })
    }

    fn matches(&self, names: &[String]) -> Result<bool, ModelError> {
        Ok(match self {
            Self::AllLinear => !names.iter().any(|name| name == "lm_head"),
            Self::Expression(key, text, regex) => matches_any(key, text, regex, names)?,
            Self::Ends(ends) => names.iter().any(|name| ends.iter().any(|end| is_end(name, end))),
        })
    }
}

/// Whether a name is `end` or ends with `.end`.
pub(super) fn is_end(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEARS: [&str; 5] = [
        "language_model.layers.0.self_attn.q_proj",
        "language_model.layers.1.self_attn.q_proj",
        "lm_head",
        "multi_modal_projector.linear_1",
        "vision_tower.encoder.layers.1.self_attn.q_proj",
    ];

    fn select(config: &str, legacy: bool) -> Vec<usize> {
        let selection: Selection = serde_json::from_str(config).unwrap();
        let found =
            selection.select(LINEARS.into_iter(), &crate::families::llava::LLAVA, legacy).unwrap().unwrap();
        found.iter().map(|name| LINEARS.iter().position(|known| known == name).unwrap()).collect()
    }

    #[test]
    fn names_layers_and_exclusions_are_pefts() {
        assert_eq!(select(r#"{"target_modules": ["q_proj", "lm_head"]}"#, false), [0, 1, 2, 4]);
        assert!(select(r#"{"target_modules": ["proj"]}"#, false).is_empty());
        assert_eq!(select(r#"{"target_modules": "All-Linear"}"#, false), [0, 1, 3, 4]);
        let layer = r#"{"target_modules": ["q_proj", "linear_1"], "layers_to_transform": 1"#;
        assert_eq!(select(&format!("{layer}}}"), false), [1, 4]);
        assert_eq!(select(&format!(r#"{layer}, "layers_pattern": ["encoder.layers"]}}"#), false), [4]);
        assert_eq!(select(r#"{"target_modules": ["q_proj"], "layers_to_transform": []}"#, false), [0, 1, 4]);
        let all = r#"{"target_modules": "all-linear", "exclude_modules""#;
        assert_eq!(select(&format!(r#"{all}: ["q_proj"]}}"#), false), [3]);
        assert_eq!(select(&format!(r#"{all}: ".*vision.*"}}"#), false), [0, 1, 3]);
    }

    #[test]
    fn names_of_transformers_4_count_for_files_that_have_them() {
        let old = r#"{"target_modules": "language_model\\.model\\..*q_proj|language_model\\.lm_head"}"#;
        assert_eq!(select(old, true), [0, 1, 2]);
        assert!(select(old, false).is_empty());
        let tower = r#"{"target_modules": ".*vision_model.*"}"#;
        assert_eq!(select(tower, true), [4]);
    }

    #[test]
    fn keys_that_may_not_be_combined_are_named() {
        for (config, named) in [
            (r#"{"target_modules": ".*", "layers_to_transform": [0]}"#, "regular expression"),
            (r#"{"target_modules": ["x"], "layers_pattern": "h"}"#, "layers_to_transform"),
        ] {
            let selection: Selection = serde_json::from_str(config).unwrap();
            assert!(selection.conflict().unwrap().contains(named));
        }
    }
}
