//! Settings of the adapter that training continues.

use bpo_model::{LoraConfig, adapter_settings};

use super::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::check_is_adapter;

/// The `[lora]` settings of an adapter.
pub(super) struct AdapterSettings(LoraConfig);

impl AdapterSettings {
    /// Reads the settings of the adapter that training continues. Returns `None` if there is no
    /// such adapter.
    ///
    /// # Errors
    /// Returns an error if the adapter cannot be read.
    pub(super) fn of(config: &RunConfig) -> Result<Option<Self>, BpoError> {
        let trained = config.model.adapter.as_deref().filter(|_| config.full_finetune.is_none());
        let Some(dir) = trained else { return Ok(None) };
        check_is_adapter(dir)?;
        Ok(Some(Self(adapter_settings(dir).map_err(BpoError::Model)?)))
    }

    /// Returns the settings as a table with the key `lora`, as in a settings file.
    ///
    /// # Errors
    /// Returns [`BpoError::ConfigEncode`] if TOML cannot hold a value.
    pub(super) fn table(&self) -> Result<toml::Table, BpoError> {
        Ok(toml::Table::from_iter([("lora".to_owned(), structure(&self.0)?.into())]))
    }

    /// Checks that `given` has the values of the adapter.
    ///
    /// # Errors
    /// Returns [`BpoError::Setting`] for the first key that differs.
    pub(super) fn check_agrees(&self, given: &LoraConfig) -> Result<(), BpoError> {
        let (given, adapter) = (structure(given)?, structure(&self.0)?);
        match adapter.iter().find(|(key, value)| given.get(*key) != Some(value)) {
            None => Ok(()),
            Some((key, has)) => {
                let found = given.get(key).map_or_else(|| "not set".to_owned(), toml::Value::to_string);
                Err(BpoError::Setting {
                    key: format!("lora.{key}").into(),
                    expected: "the value of the adapter in `model.adapter` (--adapter), or left out",
                    found: format!("{found}; the adapter has {has}"),
                })
            }
        }
    }
}

/// Returns the settings that define an adapter's structure: all except dropout and noise, which
/// belong to the training.
fn structure(lora: &LoraConfig) -> Result<toml::Table, BpoError> {
    let mut table = toml::Table::try_from(lora).map_err(|source| BpoError::ConfigEncode { source })?;
    table.remove("lora_dropout");
    table.remove("lora_noise");
    Ok(table)
}
