//! A client of OpenAI-compatible servers (`/v1/chat/completions`).

mod attempt;
mod check;
mod inbox;
mod queue;

use std::fmt;
use std::num::NonZeroUsize;

use bpo_inject::{TextGenerator, TextQueue, TextRequest};
use bpo_pairs::{Generated, RequestSlice, UsageMeter};
use ureq::http::Uri;

use crate::address::{is_exposed, secrets_in, shown_address};
use crate::config::OpenAiConfig;
use crate::error::ServerError;
use crate::redact::Redactor;
use crate::slots::Slots;

/// A blocking client with adaptive concurrency and retries, which implements [`TextGenerator`] and
/// answers [conversations with images](Self::answer_queue).
///
/// It starts up to `max_concurrency` threads, which end before a call returns. Each request carries
/// its seed and sampling settings; whether the same seed gives the same text depends on the server.
/// Redirects are not followed: status 3xx is an error. A body of more than 16 MiB is an error.
pub struct OpenAiClient {
    config: OpenAiConfig,
    request_url: String,
    /// The request URL without its secrets.
    endpoint: String,
    authorization: Option<String>,
    redactor: Redactor,
    agent: ureq::Agent,
    meter: UsageMeter,
    slots: Slots,
}

impl fmt::Debug for OpenAiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiClient")
            .field("endpoint", &self.endpoint)
            .field("model", &self.config.model)
            .field("authorization", &self.authorization.as_ref().map(|_| "<redacted>"))
            .finish_non_exhaustive()
    }
}

impl OpenAiClient {
    /// Creates a client. `api_key` is sent in the `Authorization` header.
    ///
    /// Errors and answers never contain the key or a secret of an address: in plain text, base64,
    /// hexadecimal or escaped, they are replaced with `[API key removed]`, and the acceptance rules
    /// reject such an answer. A key or password that would leave this computer unencrypted (`http`)
    /// is logged as a warning.
    ///
    /// # Errors
    /// Returns [`ServerError::Setting`] for an invalid setting. The server is not called.
    pub fn new(config: OpenAiConfig, api_key: Option<String>) -> Result<Self, ServerError> {
        config.validate()?;
        let request_url = config.endpoint()?;
        if api_key.as_deref().is_some_and(|key| key.is_empty() || !key.chars().all(|c| c.is_ascii_graphic()))
        {
            let (expected, found) = ("visible ASCII characters", "something else (not shown)".to_owned());
            return Err(ServerError::Setting { key: "api_key", expected, found });
        }
        let endpoint = shown_address(&request_url);
        let has_secret = api_key.is_some() || !secrets_in(&request_url).is_empty();
        if has_secret && request_url.parse::<Uri>().is_ok_and(|uri| is_exposed(&uri)) {
            tracing::warn!(url = %endpoint, "the API key is sent unencrypted; https encrypts it");
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.timeout()?))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(config.proxy()?)
            .max_idle_connections_per_host(config.max_concurrency)
            .max_idle_connections(config.max_concurrency)
            .user_agent(concat!("bpo-server/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let addresses = [config.base_url.as_str(), config.proxy.as_deref().unwrap_or_default()];
        Ok(Self {
            meter: UsageMeter::new(config.prices()),
            slots: Slots::new(),
            redactor: Redactor::new(api_key.as_deref(), &addresses),
            authorization: api_key.map(|key| format!("Bearer {key}")),
            endpoint,
            request_url,
            agent,
            config,
        })
    }

    /// Returns the address of the chat completions, without its secrets.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the counts of the requests so far.
    pub fn usage(&self) -> UsageMeter {
        self.meter.clone()
    }
}

impl TextGenerator for OpenAiClient {
    type Error = ServerError;

    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, ServerError>> {
        let mut queue = RequestSlice::new(requests);
        self.answer_queue(&mut queue, &|request| Ok(request.into()));
        queue.into_answers().into_iter().map(|answer| answer.map_err(|failure| failure.error)).collect()
    }

    /// The number of concurrent requests follows the server, not `at_a_time`.
    fn generate_queue(&mut self, queue: &mut TextQueue<'_, ServerError>, _: NonZeroUsize) {
        self.answer_queue(queue, &|request| Ok(request.into()));
    }

    /// Returns whether an error has status 400 (bad request), 413 (content too large) or 422
    /// (unprocessable content).
    fn is_request_error(&self, error: &ServerError) -> bool {
        error.is_of_request()
    }

    fn usage(&self) -> Option<UsageMeter> {
        Some(self.meter.clone())
    }
}
