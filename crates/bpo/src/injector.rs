//! Construction of the error injector from the settings.

use bpo_inject::{CoOccurrence, ErrorInjector};
#[cfg(any(feature = "server", feature = "model"))]
use bpo_inject::{Fallback, LlmInjector, TextGenerator, WithFallback};
use bpo_pairs::SftSample;

use crate::config::{InjectSection, RunConfig};
use crate::error::BpoError;

/// The client of `inject.server`.
#[cfg(feature = "server")]
pub(crate) type Server = bpo_server::OpenAiClient;

/// A build without the feature `server` has no client.
#[cfg(not(feature = "server"))]
pub(crate) type Server = std::convert::Infallible;

/// Creates the injector of the settings: a language model behind `inject.server`, or, without a
/// server, swapping of words that are common in the answers of `samples`. A
/// `LocalBackend` creates those of `inject.model` and `inject.with_model`.
///
/// `api_key` is the key of the server. The server is checked first; one that cannot be reached is
/// tried again for `startup_timeout_s`.
///
/// # Errors
/// Returns an error if a setting is invalid, [`BpoError::ServerUnusable`] if the server cannot be
/// reached, refuses the key or has no such model, or [`BpoError::NotBuilt`] if a server is set in a
/// build without the feature `server`, or `inject.model` or `inject.with_model` is set.
pub fn open_injector(
    config: &RunConfig,
    api_key: Option<String>,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    let server = open_server(config, api_key)?;
    if let Some(server) = &server {
        check_server(server)?;
    }
    injector_with(config, server, samples)
}

/// Creates the injector of the settings with the client of their server, if they have one.
///
/// # Errors
/// Returns an error if a setting is invalid.
pub(crate) fn injector_with(
    config: &RunConfig,
    server: Option<Server>,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    if config.inject.is_local() {
        // `LocalBackend` has the model
        let what =
            if config.inject.with_model { "`inject.with_model`" } else { "`inject.model` (--inject-model)" };
        return Err(BpoError::NotBuilt { what, feature: "model" });
    }
    match server {
        Some(server) => behind_server(server, &config.inject, samples),
        None => Ok(Box::new(co_occurrence(&config.inject, samples))),
    }
}

/// Creates the injector that swaps words that are common in the answers of `samples`.
fn co_occurrence(section: &InjectSection, samples: &[SftSample]) -> CoOccurrence {
    let answers = samples.iter().map(|sample| sample.answer.as_str());
    CoOccurrence::from_corpus(answers).with_max_edits(section.max_edits)
}

/// Creates the client of the server of the settings, if one is set. The server is not called.
///
/// # Errors
/// Returns [`BpoError::Server`] if a setting of the server is invalid.
#[cfg(feature = "server")]
pub(crate) fn open_server(config: &RunConfig, api_key: Option<String>) -> Result<Option<Server>, BpoError> {
    let Some(server) = &config.inject.server else { return Ok(None) };
    let client = bpo_server::OpenAiClient::new(server.clone(), api_key);
    Ok(Some(client.map_err(|source| BpoError::Server { section: "inject.server", source: source.into() })?))
}

/// Checks that no server is set, because this build has no client.
///
/// # Errors
/// Returns [`BpoError::NotBuilt`] if a server is set.
#[cfg(not(feature = "server"))]
pub(crate) fn open_server(config: &RunConfig, _: Option<String>) -> Result<Option<Server>, BpoError> {
    if config.inject.server.is_none() {
        return Ok(None);
    }
    Err(BpoError::NotBuilt { what: "`inject.server`", feature: "server" })
}

#[cfg(feature = "server")]
fn behind_server(
    server: Server,
    section: &InjectSection,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    by_llm(server, section, samples)
}

/// Creates the injector that asks a language model, with the fallback of the settings.
///
/// # Errors
/// Returns an error if a setting is invalid or a prompt cannot be read.
#[cfg(any(feature = "server", feature = "model"))]
pub(crate) fn by_llm<G: TextGenerator + 'static>(
    generator: G,
    section: &InjectSection,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    let injector = LlmInjector::new(generator, section.llm.clone())?;
    Ok(match section.fallback {
        Fallback::CoOccurrence => Box::new(WithFallback::new(injector, co_occurrence(section, samples))),
        _ => Box::new(injector),
    })
}

#[cfg(not(feature = "server"))]
fn behind_server(
    server: Server,
    _: &InjectSection,
    _: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    match server {}
}

/// Checks that a server can be reached, accepts the API key and has the model.
///
/// # Errors
/// Returns [`BpoError::ServerUnusable`].
#[cfg(feature = "server")]
pub(crate) fn check_server(server: &Server) -> Result<(), BpoError> {
    let (section, flag) = ("inject.server", "--server");
    server.check().map_err(|source| BpoError::ServerUnusable { section, flag, source: source.into() })
}

/// A build without the feature `server` has no server.
#[cfg(not(feature = "server"))]
pub(crate) fn check_server(server: &Server) -> Result<(), BpoError> {
    match *server {}
}
