//! The settings of an adapter that training goes on from.

use bpo_model::LoraConfig;
use bpo_model::lora::adapter_settings;

use super::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::check_is_adapter;

/// `[lora]` as an adapter has it.
pub(super) struct AdapterSettings(LoraConfig);

impl AdapterSettings {
    /// The settings of the adapter that training goes on from, if there is one.
    ///
    /// # Errors
    /// If the adapter cannot be read.
    pub(super) fn of(config: &RunConfig) -> Result<Option<Self>, BpoError> {
        let trained = config.model.adapter.as_deref().filter(|_| config.full_finetune.is_none());
        let Some(dir) = trained else { return Ok(None) };
        check_is_adapter(dir)?;
        Ok(Some(Self(adapter_settings(dir).map_err(BpoError::Model)?)))
    }

    /// The settings as a table of a settings' file.
    ///
    /// # Errors
    /// [`BpoError::ConfigEncode`].
    pub(super) fn table(&self) -> Result<toml::Table, BpoError> {
        Ok(toml::Table::from_iter([("lora".to_owned(), structure(&self.0)?.into())]))
    }

    /// Checks that given settings say of the adapter what it is.
    ///
    /// # Errors
    /// [`BpoError::Setting`] for the first that does not.
    pub(super) fn check_agrees(&self, given: &LoraConfig) -> Result<(), BpoError> {
        let (given, adapter) = (structure(given)?, structure(&self.0)?);
        match adapter.iter().find(|(key, value)| given.get(*key) != Some(value)) {
            None => Ok(()),
            Some((key, has)) => {
                let found = given.get(key).map_or_else(|| "not set".to_owned(), toml::Value::to_string);
                Err(BpoError::Setting {
                    key: format!("lora.{key}").into(),
                    expected: "what the adapter of `model.adapter` (--adapter) has, or left out",
                    found: format!("{found}; the adapter has {has}"),
                })
            }
        }
    }
}

/// What belongs to an adapter's structure: everything but dropout, which is of training.
fn structure(lora: &LoraConfig) -> Result<toml::Table, BpoError> {
    let mut table = toml::Table::try_from(lora).map_err(|source| BpoError::ConfigEncode { source })?;
    table.remove("lora_dropout");
    Ok(table)
}
