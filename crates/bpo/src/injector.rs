//! The error injector that the settings ask for.

use bpo_inject::{CoOccurrence, ErrorInjector, LlmInjector, OpenAiClient};
use bpo_pairs::sft::SftSample;

use crate::config::RunConfig;
use crate::error::BpoError;

/// A text model behind the server of the settings, or without one the swapping of words that are common in the answers of
/// `samples`. `api_key` is for the server.
///
/// # Errors
/// If a setting cannot work. The server is not called.
pub fn open(
    config: &RunConfig,
    api_key: Option<String>,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    let section = &config.inject;
    Ok(match &section.server {
        Some(server) => {
            let client =
                OpenAiClient::new(server.clone(), api_key).map_err(|source| BpoError::Server { source })?;
            Box::new(LlmInjector::new(client, section.llm.clone())?)
        }
        None => {
            let answers = samples.iter().map(|sample| sample.answer.as_str());
            Box::new(CoOccurrence::from_corpus(answers).with_max_edits(section.max_edits))
        }
    })
}
