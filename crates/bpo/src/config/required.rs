//! Settings that have no default.

use std::path::Path;

use super::RunConfig;
use crate::error::BpoError;

/// A setting without a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// `model.path`
    Model,
    /// `data.path`
    Data,
    /// `data.images`
    Images,
}

impl Required {
    /// Its value, where it is given.
    pub(super) fn of(self, config: &RunConfig) -> Option<&Path> {
        match self {
            Self::Model => config.model.path.as_deref(),
            Self::Data => config.data.path.as_deref(),
            Self::Images => config.data.images.as_deref(),
        }
    }

    fn missing(self) -> Missing {
        let (key, flag) = match self {
            Self::Model => ("model.path", "--model"),
            Self::Data => ("data.path", "--data"),
            Self::Images => ("data.images", "--images"),
        };
        Missing { key: Some(key), flag }
    }

    /// Its value.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub(super) fn get(self, config: &RunConfig) -> Result<&Path, BpoError> {
        self.of(config).ok_or_else(|| BpoError::NotSet { missing: vec![self.missing()] })
    }
}

/// A setting that is not given: by its key, by its flag, or by either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its key in the settings' file, if it has one.
    pub key: Option<&'static str>,
    /// The flag of the command that sets it.
    pub flag: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key {
            Some(key) => write!(f, "`{key}` ({})", self.flag),
            None => f.write_str(self.flag),
        }
    }
}

impl RunConfig {
    /// Checks that what a command needs is given: `required` settings, and flags of the command alone, each with whether it is there.
    ///
    /// # Errors
    /// [`BpoError::NotSet`] with all that is missing.
    pub fn require(&self, required: &[Required], flags: &[(&'static str, bool)]) -> Result<(), BpoError> {
        let settings = required.iter().filter(|setting| setting.of(self).is_none());
        let flags = flags.iter().filter(|(_, given)| !given);
        let missing: Vec<Missing> = settings
            .map(|setting| setting.missing())
            .chain(flags.map(|(flag, _)| Missing { key: None, flag }))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(BpoError::NotSet { missing }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let config = RunConfig::default();
        let all = [Required::Model, Required::Data, Required::Images];
        let error = config.require(&all, &[("--out", false), ("--pairs", true)]).unwrap_err();
        let text = error.to_string();
        for part in ["`model.path` (--model)", "`data.path` (--data)", "`data.images` (--images)", "--out"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("--pairs") && error.is_usage(), "{text}");
        let error = config.model_path().unwrap_err().to_string();
        assert!(error.contains("model.path") && error.contains("--model"), "{error}");
    }
}
