//! Requests to a hub.

use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::error::HubError;
use super::etag::Etag;
use super::name::HubModel;
use super::settings::Hub;

/// Maximum number of redirects of a request.
const MOST_REDIRECTS: usize = 10;
/// Maximum number of attempts without progress.
pub(super) const ATTEMPTS: u32 = 5;
/// Maximum size of a list of files in bytes.
const LISTING_BYTES: u64 = 16 << 20;
/// Maximum number of files of a model.
const MOST_FILES: usize = 100_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time without a byte.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A client for one model.
pub(super) struct Client<'a> {
    pub(super) hub: &'a Hub,
    pub(super) model: &'a HubModel,
    agent: Agent,
}

/// The files of a revision.
pub(super) struct Listing {
    /// The commit of the revision: 40 hexadecimal digits.
    pub(super) commit: String,
    pub(super) files: Vec<Listed>,
}

/// A file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The path, which is not checked.
    pub(super) name: String,
    /// Size in bytes, if the server lists it.
    pub(super) size: Option<u64>,
}

/// A file that can be downloaded.
pub(super) struct Remote<'a> {
    pub(super) name: &'a str,
    pub(super) url: String,
    pub(super) etag: Etag,
    pub(super) size: u64,
}

#[derive(Deserialize)]
struct WireListing {
    sha: String,
    #[serde(default)]
    siblings: Vec<WireFile>,
}

#[derive(Deserialize)]
struct WireFile {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
}

/// An attempt that failed.
pub(super) enum Failure {
    /// The next attempt may succeed.
    Transient(Box<dyn std::error::Error + Send + Sync>),
    /// Every attempt fails.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, model: &'a HubModel) -> Self {
        let agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("bpo/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { hub, model, agent }
    }

    /// Requests the list of files, in at most `attempts` attempts.
    pub(super) fn listing(&self, attempts: u32) -> Result<Listing, HubError> {
        // `blobs=true` asks for the sizes
        let revision = self.model.revision().replace('/', "%2F");
        let url =
            format!("{}/api/models/{}/revision/{revision}?blobs=true", self.hub.endpoint, self.model.id());
        let what = "the list of files";
        let bytes = self.with_attempts(what, attempts, || {
            let (mut response, host) = self.send(Method::Get, &url, what, None)?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(&response, what, host, true));
            }
            let body = response.body_mut().with_config().limit(LISTING_BYTES);
            body.read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(limit) => {
                    self.listing_error(format!("it is larger than {limit} bytes")).into()
                }
                error => Failure::Transient(error.into()),
            })
        })?;
        let listing: WireListing =
            serde_json::from_slice(&bytes).map_err(|error| self.listing_error(error.to_string()))?;
        if !is_commit(&listing.sha) {
            return Err(self.listing_error(format!("{:?} is not a commit", listing.sha)));
        }
        if listing.siblings.len() > MOST_FILES {
            return Err(self.listing_error(format!("it has more than {MOST_FILES} files")));
        }
        let listed = |file: WireFile| Listed { name: file.rfilename, size: file.size };
        Ok(Listing { commit: listing.sha, files: listing.siblings.into_iter().map(listed).collect() })
    }

    /// Requests the hash and size of a file of a commit.
    pub(super) fn remote<'f>(&self, commit: &str, file: &'f Listed) -> Result<Remote<'f>, HubError> {
        let name = file.name.as_str();
        let url = format!("{}/{}/resolve/{commit}/{name}", self.hub.endpoint, self.model.id());
        let headers = self.with_attempts(name, ATTEMPTS, || self.head(&url, name))?;
        let header = |header, expected, found: Option<&String>| HubError::Header {
            model: self.model.to_string(),
            file: name.to_owned(),
            header,
            expected,
            found: found.cloned().unwrap_or_default(),
        };
        if headers.commit.as_deref() != Some(commit) {
            return Err(header("X-Repo-Commit", "the commit of the list of files", headers.commit.as_ref()));
        }
        let etag = headers.etag.as_deref().and_then(Etag::parse);
        let etag = etag.ok_or_else(|| header("ETag", "a SHA-256 or a git hash", headers.etag.as_ref()))?;
        let size = headers.size.as_deref().and_then(|size| size.parse().ok()).or(file.size);
        let size = size.ok_or_else(|| header("X-Linked-Size", "a number of bytes", headers.size.as_ref()))?;
        if let Some(expected) = file.size.filter(|listed| *listed != size) {
            let (model, file) = (self.model.to_string(), name.to_owned());
            return Err(HubError::Size { model, file, expected, found: size });
        }
        Ok(Remote { name, url, etag, size })
    }

    /// Requests the bytes of a file from `start` on. Returns the response with the position of its
    /// first byte: `start`, or 0 if the server ignores ranges.
    pub(super) fn bytes(&self, file: &Remote<'_>, start: u64) -> Result<(Response<Body>, u64), Failure> {
        let (response, host) = self.send(Method::Get, &file.url, file.name, Some(start))?;
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                let first =
                    range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok());
                if first != Some(start) {
                    return Err(Failure::Final(HubError::Header {
                        model: self.model.to_string(),
                        file: file.name.to_owned(),
                        header: "Content-Range",
                        expected: "the range that was asked for",
                        found: range,
                    }));
                }
                start
            }
            _ => return Err(self.refused(&response, file.name, host, false)),
        };
        Ok((response, start))
    }

    /// Calls `attempt` until it succeeds, at most `most` times.
    fn with_attempts<T>(
        &self,
        what: &str,
        most: u32,
        attempt: impl Fn() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut attempts = 1;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => self.wait(failure, what, attempts, most)?,
            }
            attempts += 1;
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Returns the error of the failure if there is no further attempt. `attempts` of at most `most`
    /// attempts have failed.
    pub(super) fn wait(
        &self,
        failure: Failure,
        what: &str,
        attempts: u32,
        most: u32,
    ) -> Result<(), HubError> {
        match failure {
            Failure::Final(error) => Err(error),
            Failure::Transient(source) if attempts >= most => Err(HubError::Connection {
                model: self.model.to_string(),
                what: what.to_owned(),
                host: self.hub.endpoint.clone(),
                attempts,
                source,
            }),
            Failure::Transient(source) => {
                tracing::debug!(what, %source, "a request failed and is sent again");
                std::thread::sleep(self.hub.retry_delay * 2u32.pow(attempts - 1));
                Ok(())
            }
        }
    }

    /// Requests the headers of a file. Redirects to another server, which stores the file, are not
    /// followed: the hub sends the headers with the redirect.
    fn head(&self, url: &str, what: &str) -> Result<FileHeaders, Failure> {
        let mut found = FileHeaders::default();
        let mut at: Uri = url.parse().map_err(|_| self.redirect(what, "to an invalid address"))?;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.call(Method::Head, &at, None)?;
            found.add(response.headers(), response.status() == StatusCode::OK);
            if !response.status().is_redirection() {
                if response.status() == StatusCode::OK {
                    return Ok(found);
                }
                return Err(self.refused(&response, what, host(&at), false));
            }
            let next = self.next(&at, &response, what)?;
            if origin(&next) != origin(&at) {
                return Ok(found);
            }
            at = next;
        }
        Err(self.redirect(what, "too many times").into())
    }

    /// Sends a request and follows redirects. Returns the last response and its host.
    fn send(
        &self,
        method: Method,
        url: &str,
        what: &str,
        start: Option<u64>,
    ) -> Result<(Response<Body>, String), Failure> {
        let mut at: Uri = url.parse().map_err(|_| self.redirect(what, "to an invalid address"))?;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.call(method, &at, start)?;
            if !response.status().is_redirection() {
                return Ok((response, host(&at)));
            }
            at = self.next(&at, &response, what)?;
        }
        Err(self.redirect(what, "too many times").into())
    }

    /// Sends one request. Only the hub itself gets the token.
    fn call(&self, method: Method, at: &Uri, start: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            Method::Get => self.agent.get(at),
            Method::Head => self.agent.head(at),
        };
        // sizes and ranges are those of the file, not of a compressed form
        request = request.header(ACCEPT_ENCODING, "identity");
        let is_hub = self.hub.endpoint.parse().is_ok_and(|hub: Uri| origin(&hub) == origin(at));
        if let Some(token) = self.hub.token.as_ref().filter(|_| is_hub) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(start) = start.filter(|start| *start > 0) {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        request.call().map_err(|error| Failure::Transient(error.into()))
    }

    /// Returns the address that a response redirects to.
    fn next(&self, at: &Uri, response: &Response<Body>, what: &str) -> Result<Uri, HubError> {
        let location = text(response.headers(), LOCATION.as_str()).unwrap_or_default();
        let absolute = if location.starts_with("//") {
            format!("{}:{location}", at.scheme_str().unwrap_or("https"))
        } else if location.starts_with('/') {
            format!("{}{location}", host(at))
        } else {
            location
        };
        let next: Uri = absolute.parse().map_err(|_| self.redirect(what, "to an invalid address"))?;
        match (at.scheme_str(), next.scheme_str()) {
            (_, Some("https")) | (Some("http"), Some("http")) if next.host().is_some() => Ok(next),
            (_, Some("http")) => Err(self.redirect(what, "from https to http, which is not followed")),
            _ => Err(self.redirect(what, "to an invalid address")),
        }
    }

    fn redirect(&self, what: &str, reason: &'static str) -> HubError {
        let (model, what) = (self.model.to_string(), what.to_owned());
        HubError::Redirect { model, what, host: self.hub.endpoint.clone(), reason }
    }

    fn listing_error(&self, reason: String) -> HubError {
        HubError::Listing { model: self.model.to_string(), reason }
    }

    /// Describes a status other than success.
    fn refused(&self, response: &Response<Body>, what: &str, host: String, is_listing: bool) -> Failure {
        let (model, endpoint) = (self.model.to_string(), self.hub.endpoint.clone());
        let status = response.status().as_u16();
        let named = |what: &str| if is_listing { model.clone() } else { format!("{what} of {model}") };
        match status {
            // a server that stores files refuses expired addresses: the next attempt gets another
            403 if host != origin_text(&endpoint) => Failure::Transient(format!("{host}: status 403").into()),
            401 => HubError::Unauthorized { model, endpoint, has_token: self.hub.token.is_some() }.into(),
            403 => HubError::Forbidden { id: self.model.id(), model, endpoint }.into(),
            404 => HubError::NotFound { what: named(what), endpoint, is_listing }.into(),
            408 | 416 | 429 | 500..=599 => Failure::Transient(format!("{host}: status {status}").into()),
            _ => HubError::Status { model, what: what.to_owned(), host, status }.into(),
        }
    }
}

/// Headers of a file, from the responses of a chain of redirects.
#[derive(Default)]
struct FileHeaders {
    commit: Option<String>,
    etag: Option<String>,
    size: Option<String>,
    is_linked: bool,
}

impl FileHeaders {
    /// Adds the headers of a response. The headers `X-Linked-*` describe the file that a redirect
    /// leads to, while `ETag` and `Content-Length` describe the response itself.
    fn add(&mut self, headers: &HeaderMap, is_file: bool) {
        let get = |name| text(headers, name);
        self.commit = get("x-repo-commit").or(self.commit.take());
        if let Some(etag) = get("x-linked-etag") {
            *self = Self {
                commit: self.commit.take(),
                etag: Some(etag),
                size: get("x-linked-size"),
                is_linked: true,
            };
        } else if is_file && !self.is_linked {
            self.etag = get(ETAG.as_str());
            self.size = get(CONTENT_LENGTH.as_str());
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns scheme, host and port, which decide whether an address is on the same server.
fn origin(uri: &Uri) -> (Option<String>, Option<String>, Option<u16>) {
    let default = match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    let lower = |text: &str| text.to_ascii_lowercase();
    (uri.scheme_str().map(lower), uri.host().map(lower), uri.port_u16().or(default))
}

/// Returns scheme, host and port as text. The rest of an address may hold secrets.
fn host(uri: &Uri) -> String {
    let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

fn origin_text(url: &str) -> String {
    url.parse().map_or_else(|_| url.to_owned(), |uri| host(&uri))
}
