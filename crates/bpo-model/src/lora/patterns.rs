//! Ranks and scales per module: PEFT's `rank_pattern` and `alpha_pattern`.

use std::fmt;
use std::marker::PhantomData;

use fancy_regex::Regex;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::config::LoraConfig;
use crate::error::{ModelError, first_of};
use crate::families::FamilySpec;

/// Values for modules whose names match a key, in the order in which keys are tried.
///
/// A key is a regular expression for the end of a module's name: `(.*\.)?(KEY)` has to match the
/// whole name in transformers 5, as in PEFT. The first key that matches counts. JSON keeps the
/// order of a file; TOML sorts keys alphabetically.
#[derive(Clone, Debug, PartialEq)]
pub struct ModulePatterns<T>(Vec<(String, T)>);

impl<T> Default for ModulePatterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ModulePatterns<T> {
    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl<T, K: Into<String>> FromIterator<(K, T)> for ModulePatterns<T> {
    fn from_iter<I: IntoIterator<Item = (K, T)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

impl<T: Serialize> Serialize for ModulePatterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ModulePatterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = ModulePatterns<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of module names and numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(ModulePatterns(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// The ranks and scales of all modules, from the settings of an adapter.
pub(super) struct Ranks<'a> {
    config: &'a LoraConfig,
    spec: &'static FamilySpec,
    ranks: Compiled<'a, usize>,
    alphas: Compiled<'a, f64>,
    /// Whether names of transformers 4 match as well.
    legacy: bool,
}

impl<'a> Ranks<'a> {
    /// # Errors
    /// [`ModelError::TargetPattern`] for a key that is not a regular expression.
    pub(super) fn new(
        config: &'a LoraConfig,
        spec: &'static FamilySpec,
        legacy: bool,
    ) -> Result<Self, ModelError> {
        let ranks = Compiled::new("rank_pattern", &config.rank_pattern)?;
        let alphas = Compiled::new("alpha_pattern", &config.alpha_pattern)?;
        Ok(Self { config, spec, ranks, alphas, legacy })
    }

    /// Rank and alpha of a module, by its path in [`Vlm`](crate::Vlm).
    pub(super) fn of(&self, module: &str) -> Result<(usize, f64), ModelError> {
        let names = self.spec.names_of(module, self.legacy);
        let r = self.ranks.first(&names)?.copied().unwrap_or(self.config.r);
        let alpha = self.alphas.first(&names)?.copied().unwrap_or(self.config.lora_alpha);
        Ok((r, alpha))
    }

    /// The scale of a module.
    pub(super) fn scale(&self, module: &str) -> Result<f64, ModelError> {
        let (r, alpha) = self.of(module)?;
        Ok(scale(r, alpha, self.config.use_rslora))
    }

    /// Warns of keys that match no adapted module, as PEFT does.
    pub(super) fn warn_of_unused(&self, modules: &[String]) -> Result<(), ModelError> {
        let names: Vec<_> = modules.iter().map(|module| self.spec.names_of(module, self.legacy)).collect();
        for (setting, unused) in
            [("rank_pattern", self.ranks.unused(&names)?), ("alpha_pattern", self.alphas.unused(&names)?)]
        {
            if !unused.is_empty() {
                let keys = first_of(&unused);
                tracing::warn!("{setting}: no adapted module matches {keys}, so these keys have no effect");
            }
        }
        Ok(())
    }
}

/// `lora_alpha / r`, or `lora_alpha / sqrt(r)`.
pub(super) fn scale(r: usize, alpha: f64, use_rslora: bool) -> f64 {
    let r = r as f64;
    alpha / if use_rslora { r.sqrt() } else { r }
}

/// The compiled keys of a pattern.
struct Compiled<'a, T> {
    setting: &'static str,
    entries: Vec<(&'a str, Regex, &'a T)>,
}

impl<'a, T> Compiled<'a, T> {
    fn new(setting: &'static str, patterns: &'a ModulePatterns<T>) -> Result<Self, ModelError> {
        let compiled = |(key, value)| Ok((key, compile(setting, key, r"(?:.*\.)?(?:", ")")?, value));
        Ok(Self { setting, entries: patterns.iter().map(compiled).collect::<Result<_, ModelError>>()? })
    }

    fn first(&self, names: &[String]) -> Result<Option<&'a T>, ModelError> {
        for (key, regex, value) in &self.entries {
            if matches_any(self.setting, key, regex, names)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn unused(&self, modules: &[Vec<String>]) -> Result<Vec<String>, ModelError> {
        let mut unused = Vec::new();
        for (key, regex, _) in &self.entries {
            let mut used = false;
            for names in modules {
                used = used || matches_any(self.setting, key, regex, names)?;
            }
            if !used {
                unused.push((*key).to_owned());
            }
        }
        Ok(unused)
    }
}

/// Whether an expression of a setting matches one of the names of a module.
pub(super) fn matches_any(
    key: &'static str,
    pattern: &str,
    regex: &Regex,
    names: &[String],
) -> Result<bool, ModelError> {
    for name in names {
        let found = regex.is_match(name);
        if found.map_err(|source| broken(key, pattern, source))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Compiles an expression that has to match a whole name, between `before` and `after`.
pub(super) fn compile(
    key: &'static str,
    pattern: &str,
    before: &str,
    after: &str,
) -> Result<Regex, ModelError> {
    let broken = |source| broken(key, pattern, source);
    // compiled on its own first: brackets around it must not turn an invalid expression into a
    // valid one
    Regex::new(pattern).map_err(broken)?;
    Regex::new(&format!(r"\A(?:{before}{pattern}{after})\z")).map_err(broken)
}

fn broken(key: &'static str, pattern: &str, source: fancy_regex::Error) -> ModelError {
    ModelError::TargetPattern { key, pattern: pattern.to_owned(), source: Box::new(source) }
}
