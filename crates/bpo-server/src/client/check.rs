//! The check of a server before the first request: address, API key and model.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use bpo_inject::TextRequest;
use bpo_pairs::Sampling;
use ureq::{RequestBuilder, Timeout};

use super::OpenAiClient;
use super::attempt::read_body;
use crate::address::shown_address;
use crate::chat::Chat;
use crate::error::ServerError;
use crate::wire::{ChatRequest, ModelList};

/// Time limit of each request of [`OpenAiClient::check`].
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait between two attempts to reach a server.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// The response to the request for the list of models.
enum Probe {
    /// The names of the models.
    List(Vec<String>),
    /// Another response.
    Other,
    /// No response in time, or one that is not HTTP.
    Silent,
}

impl OpenAiClient {
    /// Checks that there is a server at the address, that it accepts the API key, and that it has
    /// the model.
    ///
    /// A server that cannot be reached is tried again for `startup_timeout_s`, with a warning after
    /// the first attempt. The check asks for the list of models. A server that answers with another
    /// response than a list is asked at the address of the chat completions, where any response
    /// except a refusal of the key is accepted. A model that is not in the list gets a request for
    /// one token, because some servers accept other names than those that they list.
    ///
    /// # Errors
    /// Returns [`ServerError::Unreachable`] if there is no server at the address,
    /// [`ServerError::Status`] if it answers with status 401 or 403, or
    /// [`ServerError::UnknownModel`] if it neither lists nor accepts the model.
    pub fn check(&self) -> Result<(), ServerError> {
        let (start, longest) = (Instant::now(), self.config.startup_timeout()?);
        let mut has_warned = false;
        loop {
            let checked = self.check_once();
            let Err(ServerError::Unreachable { url, source, .. }) = &checked else { return checked };
            let left = longest.saturating_sub(start.elapsed());
            if left.is_zero() {
                return checked;
            }
            if !has_warned {
                let seconds = longest.as_secs_f64();
                tracing::warn!(error = %source, "cannot reach {url}, trying again for up to {seconds} s");
            }
            has_warned = true;
            thread::sleep(left.min(BETWEEN_ATTEMPTS));
        }
    }

    fn check_once(&self) -> Result<(), ServerError> {
        match self.models()? {
            Probe::Silent => {
                let url = &self.endpoint;
                tracing::warn!(%url, "the server does not answer the check; requests are sent all the same");
                Ok(())
            }
            Probe::Other => match self.probe(&self.request_url)? {
                Some((status @ (401 | 403), body)) => Err(self.refused(status, &body)),
                _ => Ok(()),
            },
            Probe::List(models) if models.contains(&self.config.model) => Ok(()),
            Probe::List(models) => self.try_model(models),
        }
    }

    /// Asks for the list of models.
    fn models(&self) -> Result<Probe, ServerError> {
        match self.probe(&self.config.models_address()?)? {
            None => Ok(Probe::Silent),
            // status 403 may refuse the list only
            Some((401, body)) => Err(self.refused(401, &body)),
            Some((200, body)) => {
                let list = serde_json::from_slice::<ModelList>(&body).ok();
                Ok(list.map_or(Probe::Other, |list| Probe::List(list.into_names())))
            }
            Some(_) => Ok(Probe::Other),
        }
    }

    /// Sends a GET request without retry, and returns the status and the body of the response.
    /// Returns `None` if the server is slow or does not send HTTP.
    fn probe(&self, address: &str) -> Result<Option<(u16, Vec<u8>)>, ServerError> {
        self.answered(self.agent.get(address), |request| {
            let mut response = request.call()?;
            Ok((response.status().as_u16(), read_body(&mut response).unwrap_or_default()))
        })
    }

    /// Requests one token of the model, which the server does not list among `models`.
    fn try_model(&self, models: Vec<String>) -> Result<(), ServerError> {
        let sampling = Sampling::greedy(1);
        let chat = Chat::from(&TextRequest { system: None, prompt: "Hello".to_owned(), sampling });
        let answer = self.answered(self.agent.post(&self.request_url), |call| {
            let mut response = call.send_json(ChatRequest::new(&self.config.model, &chat))?;
            Ok((response.status().as_u16(), read_body(&mut response).unwrap_or_default()))
        })?;
        match answer {
            Some((status @ (401 | 403), body)) => Err(self.refused(status, &body)),
            Some((status @ 400..=499, body)) if !matches!(status, 408 | 429) => {
                Err(ServerError::UnknownModel {
                    url: self.endpoint.clone(),
                    model: self.redactor.clean(&self.config.model).into_owned(),
                    models: models.iter().map(|name| self.redactor.clean(name).into_owned()).collect(),
                    status,
                    excerpt: self.excerpt(&body),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns the error for a key that the server refuses.
    fn refused(&self, status: u16, body: &[u8]) -> ServerError {
        ServerError::Status { url: self.endpoint.clone(), status, attempts: 1, excerpt: self.excerpt(body) }
    }

    /// Sends a request of the check with the API key and a short time limit.
    fn answered<B>(
        &self,
        mut request: RequestBuilder<B>,
        send: impl FnOnce(RequestBuilder<B>) -> Result<(u16, Vec<u8>), ureq::Error>,
    ) -> Result<Option<(u16, Vec<u8>)>, ServerError> {
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let longest = self.config.timeout()?.min(CHECK_TIMEOUT);
        // A connection that takes half of this time is none.
        let request = request.config().timeout_global(Some(longest)).timeout_connect(Some(longest / 2));
        match send(request.build()) {
            Ok(answer) => Ok(Some(answer)),
            Err(source) if is_unreachable(&source) => Err(ServerError::Unreachable {
                url: self.shown_route(),
                seconds: self.config.startup_timeout_s,
                source: Box::new(self.without_secrets(source)),
            }),
            Err(_) => Ok(None),
        }
    }

    /// Returns the address of the chat completions and that of the proxy, without their secrets.
    fn shown_route(&self) -> String {
        match &self.config.proxy {
            None => self.endpoint.clone(),
            Some(proxy) => format!("{} (by the proxy {})", self.endpoint, shown_address(proxy)),
        }
    }
}

/// Returns whether an error means that there was no connection. A server that is slow, that closes
/// the connection or that does not send HTTP exists.
fn is_unreachable(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
        ),
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        _ => false,
    }
}
