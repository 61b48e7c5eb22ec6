//! A client of OpenAI-compatible servers (`/v1/chat/completions`).

mod check;

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bpo_inject::{OnText, TextGenerator, TextRequest};
use bpo_pairs::{Generated, Limits, RequestFailure, Untrusted};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ureq::http::{HeaderMap, Response, Uri};

use crate::address::{is_exposed, secrets_in, shown_address};
use crate::config::OpenAiConfig;
use crate::error::ServerError;
use crate::redact::Redactor;
use crate::wire::{ChatRequest, ChatResponse};

/// Maximum number of characters of a body in an error.
const EXCERPT_CHARS: usize = 300;
/// Number of bytes at the start of a body that an excerpt can include.
const SEARCHED_BYTES: usize = 64 << 10;

/// A blocking client with bounded concurrency and retries, which implements [`TextGenerator`].
///
/// [`generate`](TextGenerator::generate) starts up to `max_concurrency` threads, which end before
/// it returns. Each request carries its seed and sampling settings; whether the same seed gives the
/// same text depends on the server. Redirects are not followed: status 3xx is an error. A body of
/// more than 16 MiB is an error.
pub struct OpenAiClient {
    config: OpenAiConfig,
    request_url: String,
    /// The request URL without its secrets.
    endpoint: String,
    authorization: Option<String>,
    redactor: Redactor,
    agent: ureq::Agent,
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

/// The result of one attempt.
enum Attempt {
    Done(Result<Generated, ServerError>),
    /// A failure that may not occur again, with the `Retry-After` of the server.
    Retry {
        error: ServerError,
        after: Option<Duration>,
    },
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

    /// Sends a request until it succeeds or no retry is left. `retries` counts the retries of the
    /// whole batch. The first one is logged as a warning.
    fn complete(&self, request: &TextRequest, retries: &AtomicUsize) -> Result<Generated, ServerError> {
        let mut random = ChaCha8Rng::seed_from_u64(request.sampling.seed);
        let mut attempt = 1;
        loop {
            let (error, after) = match self.attempt(request, attempt) {
                Attempt::Done(result) => return result,
                Attempt::Retry { error, after } => (error, after),
            };
            let too_long = after.is_some_and(|after| after.as_secs() > self.config.max_retry_after_s);
            if attempt > self.config.max_retries || too_long {
                return Err(error);
            }
            let wait = after.unwrap_or_else(|| self.config.backoff(attempt, random.random()));
            match retries.fetch_add(1, Ordering::Relaxed) {
                0 => tracing::warn!(%error, attempt, ?wait, "request failed, trying again"),
                _ => tracing::debug!(%error, attempt, ?wait, "request failed, trying again"),
            }
            std::thread::sleep(wait);
            attempt += 1;
        }
    }

    fn attempt(&self, request: &TextRequest, attempt: u32) -> Attempt {
        let mut call = self.agent.post(&self.request_url);
        if let Some(authorization) = &self.authorization {
            call = call.header("Authorization", authorization);
        }
        let received = call
            .send_json(ChatRequest::new(&self.config.model, request))
            .and_then(|mut response| Ok((read_body(&mut response)?, response)));
        let (body, response) = match received {
            Ok(received) => received,
            Err(source) => return self.connection_failed(source, attempt),
        };
        let status = response.status();
        if !status.is_success() {
            let excerpt = self.excerpt(&body);
            let error = ServerError::Status {
                url: self.endpoint.clone(),
                status: status.as_u16(),
                attempts: attempt,
                excerpt,
            };
            return match status.as_u16() {
                408 | 429 | 500..=599 => Attempt::Retry { error, after: retry_after(response.headers()) },
                _ => Attempt::Done(Err(error)),
            };
        }
        Attempt::Done(self.parse(&body))
    }

    fn connection_failed(&self, source: ureq::Error, attempts: u32) -> Attempt {
        // A wrong address or request fails the same way in every attempt.
        let is_transient = matches!(
            source,
            ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::Protocol(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::ConnectProxyFailed(_)
        );
        let source = Box::new(self.without_secrets(source));
        let error = ServerError::Connection { url: self.endpoint.clone(), attempts, source };
        if is_transient { Attempt::Retry { error, after: None } } else { Attempt::Done(Err(error)) }
    }

    /// Removes secrets and control characters from an error of the connection, which may quote an
    /// address or the text of a server or proxy.
    fn without_secrets(&self, source: ureq::Error) -> ureq::Error {
        let text = source.to_string();
        let shown = self.shown(&text);
        if shown == text && !self.redactor.finds(&format!("{source:?}")) {
            return source;
        }
        ureq::Error::Other(shown.into())
    }

    fn parse(&self, body: &[u8]) -> Result<Generated, ServerError> {
        let url = || self.endpoint.clone();
        let response: ChatResponse = serde_json::from_slice(body).map_err(|source| {
            // The message quotes values of the body.
            let message = source.to_string();
            let shown = self.shown(&message);
            let source = if shown == message { source } else { serde::de::Error::custom(shown) };
            ServerError::Body { url: url(), excerpt: self.excerpt(body), source }
        })?;
        let mut generated = response
            .into_generated()
            .ok_or_else(|| ServerError::NoChoice { url: url(), excerpt: self.excerpt(body) })?;
        if let Cow::Owned(cleaned) = self.redactor.clean_answer(&generated.text) {
            generated.text = cleaned;
        }
        Ok(generated)
    }

    /// Removes secrets from a text, escapes its control characters and limits its length.
    fn shown(&self, text: &str) -> String {
        Untrusted(&self.redactor.clean(text)).to_string()
    }

    /// Returns the start of a body, without secrets and with control characters escaped.
    fn excerpt(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(&body[..body.len().min(SEARCHED_BYTES)]);
        // Secrets are removed before the text is cut: a cut could leave a part of one.
        let text = self.redactor.clean(text.trim());
        match text.char_indices().nth(EXCERPT_CHARS) {
            Some((end, _)) => format!("{}…", Untrusted(&text[..end])),
            None if text.is_empty() => "(no body)".to_owned(),
            None => Untrusted(&text).to_string(),
        }
    }
}

impl TextGenerator for OpenAiClient {
    type Error = ServerError;

    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, ServerError>> {
        let mut results: Vec<Option<Result<Generated, ServerError>>> =
            requests.iter().map(|_| None).collect();
        self.generate_each(requests, &mut |place, answer| {
            results[place] = Some(answer.map_err(|failure| failure.error));
            ControlFlow::Continue(())
        });
        results.into_iter().flatten().collect()
    }

    fn generate_each(&mut self, requests: &[TextRequest], on_answer: &mut OnText<'_, ServerError>) {
        let client = &*self;
        let (next, retries) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let is_stopped = AtomicBool::new(false);
        let claim = || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if is_stopped.load(Ordering::Relaxed) { None } else { Some((index, requests.get(index)?)) }
        };
        let mut hand_out = |index, result: Result<Generated, ServerError>| {
            let answer = result.map_err(|error| {
                let is_request_error = client.is_request_error(&error);
                RequestFailure { error, is_request_error }
            });
            if on_answer(index, answer).is_break() {
                is_stopped.store(true, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let (claim, retries) = (&claim, &retries);
            for _ in 0..client.config.max_concurrency.min(requests.len()) {
                let sender = sender.clone();
                let work = move || {
                    while let Some((index, request)) = claim() {
                        // The receiver lives until all senders are dropped.
                        let _ = sender.send((index, client.complete(request, retries)));
                    }
                };
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    tracing::warn!(%error, "cannot start another thread; fewer requests are concurrent");
                    break;
                }
            }
            drop(sender);
            receiver.iter().for_each(|(index, result)| hand_out(index, result));
            // If no thread started, this thread sends the requests.
            while let Some((index, request)) = claim() {
                hand_out(index, client.complete(request, retries));
            }
        });
        let retries = retries.into_inner();
        if retries > 1 {
            tracing::warn!(retries, requests = requests.len(), "requests were tried again");
        }
    }

    /// Returns whether an error has status 400 (bad request), 413 (content too large) or 422
    /// (unprocessable content).
    fn is_request_error(&self, error: &ServerError) -> bool {
        matches!(error, ServerError::Status { status: 400 | 413 | 422, .. })
    }
}

fn read_body(response: &mut Response<ureq::Body>) -> Result<Vec<u8>, ureq::Error> {
    response.body_mut().with_config().limit(Limits::DEFAULT.reply_bytes).read_to_vec()
}

/// Reads `Retry-After` in seconds. Its form with a date, which model servers do not send, is
/// ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_error_has_no_secret() {
        let config = OpenAiConfig::new("http://h", "m");
        let client = OpenAiClient::new(config, Some("sk-secret-1234".into())).unwrap();
        let error = client.without_secrets(ureq::Error::BadUri("http://h/?key=sk-secret-1234".into()));
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(shown.contains("[API key removed]") && !shown.contains("secret"), "{shown}");
        }
        let other = client.without_secrets(ureq::Error::HostNotFound);
        assert!(matches!(other, ureq::Error::HostNotFound));
    }
}
