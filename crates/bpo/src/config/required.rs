//! Settings without a default.

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
    /// `base_url` of `[weaken.server]`
    VlmServer,
    /// `base_url` of `[judge.server]`
    JudgeServer,
}

impl Required {
    /// Returns the value, if it is set.
    pub(super) fn of(self, config: &RunConfig) -> Option<&Path> {
        match self {
            Self::Model => config.model.path.as_deref(),
            Self::Data => config.data.path.as_deref(),
            Self::Images => config.data.images.as_deref(),
            // a server has no path
            Self::VlmServer | Self::JudgeServer => None,
        }
    }

    fn is_set(self, config: &RunConfig) -> bool {
        match self {
            Self::VlmServer => config.weaken.server.is_some(),
            Self::JudgeServer => config.judge.server.is_some(),
            setting => setting.of(config).is_some(),
        }
    }

    fn missing(self) -> Missing {
        let (key, flag) = match self {
            Self::Model => ("model.path", "--model"),
            Self::Data => ("data.path", "--data"),
            Self::Images => ("data.images", "--images"),
            Self::VlmServer => ("weaken.server", "--vlm-server"),
            Self::JudgeServer => ("judge.server", "--judge-server"),
        };
        Missing { key: Some(key), flag }
    }

    /// Returns the value.
    ///
    /// # Errors
    /// Returns [`BpoError::NotSet`] if it is not set.
    pub(super) fn get(self, config: &RunConfig) -> Result<&Path, BpoError> {
        self.of(config).ok_or_else(|| BpoError::NotSet { missing: vec![self.missing()] })
    }
}

/// A required setting or flag that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Key in the settings file, if there is one.
    pub key: Option<&'static str>,
    /// Command-line flag.
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
    /// Checks that all values that a command needs are given. `required` are settings; `flags` are
    /// flags without a key, each with whether it is given.
    ///
    /// # Errors
    /// Returns [`BpoError::NotSet`] with everything that is missing.
    pub fn require(&self, required: &[Required], flags: &[(&'static str, bool)]) -> Result<(), BpoError> {
        let settings = required.iter().filter(|setting| !setting.is_set(self));
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
    fn all_missing_settings_are_listed() {
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
