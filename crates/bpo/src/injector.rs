//! Construction of the error injector from the settings.

use bpo_inject::{CoOccurrence, ErrorInjector};
use bpo_pairs::SftSample;

use crate::config::{InjectSection, RunConfig};
use crate::error::BpoError;

/// Creates the injector of the settings: a language model behind `inject.server`, or, without a
/// server, swapping of words that are common in the answers of `samples`.
///
/// `api_key` is the key of the server. The server is not called.
///
/// # Errors
/// Returns an error if a setting is invalid, or [`BpoError::NotBuilt`] if a server is set in a
/// build without the feature `server`.
pub fn open_injector(
    config: &RunConfig,
    api_key: Option<String>,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    if let Some(server) = &config.inject.server {
        return behind_server(server, &config.inject, api_key);
    }
    let answers = samples.iter().map(|sample| sample.answer.as_str());
    Ok(Box::new(CoOccurrence::from_corpus(answers).with_max_edits(config.inject.max_edits)))
}

#[cfg(feature = "server")]
fn behind_server(
    server: &bpo_server::OpenAiConfig,
    section: &InjectSection,
    api_key: Option<String>,
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    let client = bpo_server::OpenAiClient::new(server.clone(), api_key)
        .map_err(|source| BpoError::Server { source })?;
    Ok(Box::new(bpo_inject::LlmInjector::new(client, section.llm.clone())?))
}

#[cfg(not(feature = "server"))]
fn behind_server(
    _: &toml::Table,
    _: &InjectSection,
    _: Option<String>,
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    Err(BpoError::NotBuilt { what: "`inject.server`", feature: "server" })
}

/// Checks that the server of the settings can be reached, if one is set.
///
/// # Errors
/// Returns [`BpoError::ServerUnreachable`], or [`BpoError::Server`] if a setting of the server is
/// invalid.
#[cfg(feature = "server")]
pub fn check_server(config: &RunConfig, api_key: Option<String>) -> Result<(), BpoError> {
    let Some(server) = &config.inject.server else { return Ok(()) };
    let client = bpo_server::OpenAiClient::new(server.clone(), api_key)
        .map_err(|source| BpoError::Server { source })?;
    client.check_alive().map_err(|source| BpoError::ServerUnreachable { source })
}

/// Checks that no server is set, because this build has no client.
///
/// # Errors
/// Returns [`BpoError::NotBuilt`] if a server is set.
#[cfg(not(feature = "server"))]
pub fn check_server(config: &RunConfig, _: Option<String>) -> Result<(), BpoError> {
    if config.inject.server.is_none() {
        return Ok(());
    }
    Err(BpoError::NotBuilt { what: "`inject.server`", feature: "server" })
}
