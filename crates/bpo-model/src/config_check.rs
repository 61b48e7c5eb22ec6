//! Checks of values of a `config.json`, shared by all families.

use std::path::Path;

use crate::error::ModelError;

/// Refuses values of a `config.json` with errors that name the key.
pub(crate) struct ConfigCheck<'a> {
    path: &'a Path,
}

impl<'a> ConfigCheck<'a> {
    /// Checks the values of the file at `path`.
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path }
    }

    /// Returns the error for a value that is not supported.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], always.
    pub(crate) fn refuse(&self, key: &str, found: impl ToString, supported: &str) -> Result<(), ModelError> {
        Err(ModelError::Unsupported {
            path: self.path.into(),
            key: key.into(),
            found: found.to_string(),
            supported: supported.into(),
        })
    }

    /// Checks that sizes are at least 1 and within their limits. `sizes` has key, value and limit.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] or [`ModelError::OverLimit`] for the first that is not.
    pub(crate) fn sizes(&self, sizes: &[(&str, usize, usize)]) -> Result<(), ModelError> {
        for (key, found, limit) in sizes {
            if *found == 0 {
                return self.refuse(key, found, "1 or more");
            }
            self.within(key, *found, *limit)?;
        }
        Ok(())
    }

    /// Checks that a size is within its limit.
    ///
    /// # Errors
    /// [`ModelError::OverLimit`].
    pub(crate) fn within(&self, key: &str, found: usize, limit: usize) -> Result<(), ModelError> {
        if found <= limit {
            return Ok(());
        }
        let (path, key) = (self.path.into(), key.to_owned());
        Err(ModelError::OverLimit { path, key, found: found as u64, limit: limit as u64 })
    }
}
