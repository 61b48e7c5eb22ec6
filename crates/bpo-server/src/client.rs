//! A [`TextGenerator`] behind any OpenAI-compatible server (`/v1/chat/completions`).

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bpo_inject::{OnText, TextGenerator, TextRequest};
use bpo_pairs::{Generated, RequestFailure, Untrusted};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ureq::http::{HeaderMap, Response};

use crate::config::OpenAiConfig;
use crate::error::ServerError;
use crate::redact::{Redactor, shown_address};
use crate::wire::{ChatRequest, ChatResponse};

/// Longest body that is read: far above any answer, far below what would exhaust memory.
const MAX_BODY_BYTES: u64 = 16 << 20;
/// Longest wait for a sign of life.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a body that an error shows.
const EXCERPT_CHARS: usize = 300;
/// Bytes of a body that are searched for secrets to show an excerpt of it.
const SEARCHED_BYTES: usize = 64 << 10;

/// A blocking client with bounded concurrency and retries.
///
/// Requests of one batch run on up to `max_concurrency` threads that end with the batch. Seeds and sampling go to the
/// server; whether the same seed gives the same text is up to it.
pub struct OpenAiClient {
    config: OpenAiConfig,
    endpoint: String,
    /// The endpoint without user, password and query.
    shown_endpoint: String,
    authorization: Option<String>,
    redactor: Redactor,
    agent: ureq::Agent,
}

impl fmt::Debug for OpenAiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiClient")
            .field("endpoint", &self.shown_endpoint)
            .field("model", &self.config.model)
            .field("authorization", &self.authorization.as_ref().map(|_| "<redacted>"))
            .finish_non_exhaustive()
    }
}

/// What one attempt came to.
enum Attempt {
    Done(Result<Generated, ServerError>),
    /// Worth another try, after the time that the server asks for, if it does.
    Retry {
        error: ServerError,
        after: Option<Duration>,
    },
}

impl OpenAiClient {
    /// A client for one server and model; `api_key` goes into the `Authorization` header and nowhere else.
    ///
    /// Where a server sends the key back, in whatever encoding, or a password of an address, it is replaced with
    /// `[API key removed]` in errors and in answers. The acceptance rules reject such an answer.
    ///
    /// # Errors
    /// When a setting cannot work. The server is not called.
    pub fn new(config: OpenAiConfig, api_key: Option<String>) -> Result<Self, ServerError> {
        let endpoint = config.endpoint()?;
        let setting = |key, expected, found| Err(ServerError::Setting { key, expected, found });
        if config.max_concurrency == 0 {
            return setting("max_concurrency", "at least 1", "0".to_owned());
        }
        if api_key.as_deref().is_some_and(|key| key.is_empty() || !key.chars().all(|c| c.is_ascii_graphic()))
        {
            return setting("api_key", "visible ASCII characters", "something else (not shown)".to_owned());
        }
        let proxy = match config.proxy.as_deref().map(ureq::Proxy::new).transpose() {
            Ok(proxy) => proxy,
            // The address may hold a password.
            Err(_) => return setting("proxy", "the URL of a proxy", "something else (not shown)".to_owned()),
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.timeout()?))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .max_idle_connections_per_host(config.max_concurrency)
            .max_idle_connections(config.max_concurrency)
            .user_agent(concat!("bpo-server/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let addresses = [config.base_url.as_str(), config.proxy.as_deref().unwrap_or_default()];
        Ok(Self {
            shown_endpoint: shown_address(&endpoint),
            redactor: Redactor::new(api_key.as_deref(), &addresses),
            authorization: api_key.map(|key| format!("Bearer {key}")),
            endpoint,
            agent,
            config,
        })
    }

    /// The address that requests are posted to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks the server for a sign of life, without a retry. Any answer is one, an error status too.
    ///
    /// # Errors
    /// [`ServerError::Connection`] if there is no server at the address.
    pub fn check_alive(&self) -> Result<(), ServerError> {
        let patience = self.config.timeout()?.min(ALIVE_TIMEOUT);
        let request = self.agent.get(&self.endpoint).config().timeout_global(Some(patience)).build();
        match request.call() {
            Ok(_) => Ok(()),
            // a server that is slow to answer, or answers something else than HTTP, is there
            Err(
                source @ (ureq::Error::Io(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed),
            ) => {
                let source = Box::new(self.without_secrets(source));
                Err(ServerError::Connection { url: self.shown_endpoint.clone(), attempts: 1, source })
            }
            Err(_) => Ok(()),
        }
    }

    /// Counts in `retries` how often a request of the batch was made again; only the first time is a warning.
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
        let mut call = self.agent.post(&self.endpoint);
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
                url: self.shown_endpoint.clone(),
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
        // What the address or the request itself causes comes back the same however often it is tried.
        let passing = matches!(
            source,
            ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::Protocol(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::ConnectProxyFailed(_)
        );
        let source = Box::new(self.without_secrets(source));
        let error = ServerError::Connection { url: self.shown_endpoint.clone(), attempts, source };
        if passing { Attempt::Retry { error, after: None } } else { Attempt::Done(Err(error)) }
    }

    /// An error of the connection may quote what a server or proxy sent, or an address.
    fn without_secrets(&self, source: ureq::Error) -> ureq::Error {
        let text = format!("{source}");
        if !self.redactor.finds(&text) && !self.redactor.finds(&format!("{source:?}")) {
            return source;
        }
        ureq::Error::Other(self.redactor.clean(&text).into())
    }

    fn parse(&self, body: &[u8]) -> Result<Generated, ServerError> {
        let url = || self.shown_endpoint.clone();
        let response: ChatResponse = serde_json::from_slice(body).map_err(|source| {
            // The reason quotes the value that was not expected.
            let reason = source.to_string();
            let source = match self.redactor.clean(&reason) {
                Cow::Borrowed(_) => source,
                Cow::Owned(cleaned) => serde::de::Error::custom(cleaned),
            };
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

    /// The beginning of a body, without secrets and with control characters escaped. Secrets go first: cutting could
    /// leave a part of one.
    fn excerpt(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(&body[..body.len().min(SEARCHED_BYTES)]);
        let text = self.redactor.clean(text.trim());
        let end = text.char_indices().nth(EXCERPT_CHARS).map(|(end, _)| end);
        let mut excerpt = Untrusted(&text[..end.unwrap_or(text.len())]).to_string();
        if end.is_some() {
            excerpt.push('…');
        }
        if excerpt.is_empty() { "(no body)".to_owned() } else { excerpt }
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
                        // The receiver lives until all senders are gone.
                        let _ = sender.send((index, client.complete(request, retries)));
                    }
                };
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    tracing::warn!(%error, "fewer requests in flight than configured");
                    break;
                }
            }
            drop(sender);
            receiver.iter().for_each(|(index, result)| hand_out(index, result));
            // A system that grants no thread is slower, not broken: this thread makes the remaining requests.
            while let Some((index, request)) = claim() {
                hand_out(index, client.complete(request, retries));
            }
        });
        let retries = retries.into_inner();
        if retries > 1 {
            tracing::warn!(retries, requests = requests.len(), "requests of this batch were made again");
        }
    }

    /// Bad request, content too large, unprocessable: said of this request, and never retried.
    fn is_request_error(&self, error: &ServerError) -> bool {
        matches!(error, ServerError::Status { status: 400 | 413 | 422, .. })
    }
}

fn read_body(response: &mut Response<ureq::Body>) -> Result<Vec<u8>, ureq::Error> {
    response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec()
}

/// `Retry-After` in its form with seconds; with a date, which model servers do not send, back-off decides.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_connection_has_no_secret() {
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
