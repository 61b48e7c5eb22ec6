//! One attempt of a request, and what follows from its failure.

use std::borrow::Cow;
use std::time::Duration;

use bpo_pairs::{AttemptFailure, Generated, Limits, Untrusted};
use ureq::http::{HeaderMap, Response};

use super::OpenAiClient;
use crate::error::ServerError;
use crate::wire::{ChatResponse, Usage};

/// Maximum number of characters of a body in an error.
const EXCERPT_CHARS: usize = 300;
/// Number of bytes at the start of a body that an excerpt can include.
const SEARCHED_BYTES: usize = 64 << 10;

/// The result of one attempt.
pub(super) enum Attempt {
    Answered(Generated, Usage),
    Failed(Failure),
}

/// A failed attempt.
pub(super) struct Failure {
    pub error: ServerError,
    pub cause: AttemptFailure,
    pub remedy: Remedy,
    /// The `Retry-After` of the server.
    pub after: Option<Duration>,
}

/// What may help after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Another attempt, and fewer requests at a time.
    Wait,
    /// Another attempt, if the server has answered another request: the response is not that of a
    /// chat server, but may come from a gateway in front of one.
    Repeat,
    /// None: the same request fails again.
    Nothing,
}

impl OpenAiClient {
    /// Sends the body of a request. `attempt` counts from 1.
    pub(super) fn attempt(&self, body: &[u8], attempt: u32) -> Attempt {
        let mut call = self.agent.post(&self.request_url).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            call = call.header("Authorization", authorization);
        }
        let received = call.send(body).and_then(|mut response| Ok((read_body(&mut response)?, response)));
        let (body, response) = match received {
            Ok(received) => received,
            Err(source) => return Attempt::Failed(self.connection_failed(source, attempt)),
        };
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let excerpt = self.excerpt(&body);
            let error =
                ServerError::Status { url: self.endpoint.clone(), status, attempts: attempt, excerpt };
            let remedy = match status {
                408 | 429 | 500..=599 => Remedy::Wait,
                300..=399 => Remedy::Repeat,
                _ => Remedy::Nothing,
            };
            let after = retry_after(response.headers());
            return Attempt::Failed(Failure { error, cause: AttemptFailure::Status(status), remedy, after });
        }
        match self.parse(&body) {
            Ok((generated, usage)) => Attempt::Answered(generated, usage),
            Err(error) => {
                let cause = AttemptFailure::Unreadable;
                Attempt::Failed(Failure { error, cause, remedy: Remedy::Repeat, after: None })
            }
        }
    }

    fn connection_failed(&self, source: ureq::Error, attempts: u32) -> Failure {
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
        let cause = match source {
            ureq::Error::Timeout(_) => AttemptFailure::TimedOut,
            _ => AttemptFailure::Disconnected,
        };
        let source = Box::new(self.without_secrets(source));
        let error = ServerError::Connection { url: self.endpoint.clone(), attempts, source };
        let remedy = if is_transient { Remedy::Wait } else { Remedy::Nothing };
        Failure { error, cause, remedy, after: None }
    }

    /// Removes secrets and control characters from an error of the connection, which may quote an
    /// address or the text of a server or proxy.
    pub(super) fn without_secrets(&self, source: ureq::Error) -> ureq::Error {
        let text = source.to_string();
        let shown = self.shown(&text);
        if shown == text && !self.redactor.finds(&format!("{source:?}")) {
            return source;
        }
        ureq::Error::Other(shown.into())
    }

    fn parse(&self, body: &[u8]) -> Result<(Generated, Usage), ServerError> {
        let url = || self.endpoint.clone();
        let response: ChatResponse = serde_json::from_slice(body).map_err(|source| {
            // The message quotes values of the body.
            let message = source.to_string();
            let shown = self.shown(&message);
            let source = if shown == message { source } else { serde::de::Error::custom(shown) };
            ServerError::Body { url: url(), excerpt: self.excerpt(body), source }
        })?;
        let (mut generated, usage) = response
            .into_generated()
            .ok_or_else(|| ServerError::NoChoice { url: url(), excerpt: self.excerpt(body) })?;
        if let Cow::Owned(cleaned) = self.redactor.clean_answer(&generated.text) {
            generated.text = cleaned;
        }
        Ok((generated, usage))
    }

    /// Removes secrets from a text, escapes its control characters and limits its length.
    fn shown(&self, text: &str) -> String {
        Untrusted(&self.redactor.clean(text)).to_string()
    }

    /// Returns the start of a body, without secrets and with control characters escaped.
    pub(super) fn excerpt(&self, body: &[u8]) -> String {
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

pub(super) fn read_body(response: &mut Response<ureq::Body>) -> Result<Vec<u8>, ureq::Error> {
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
    use crate::OpenAiConfig;

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
