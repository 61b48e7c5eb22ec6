//! The hub, its cache and its token, as the environment sets them.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpo_pairs::files::read_text;
use ureq::http::Uri;

use super::error::HubError;

/// The hub without `HF_ENDPOINT`.
const ENDPOINT: &str = "https://huggingface.co";
/// Maximum size of a token file in bytes.
const TOKEN_BYTES: u64 = 4096;
/// Time before the second attempt. Each further attempt waits twice as long.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A Hugging Face hub and the local cache of its models.
///
/// The cache has the layout of Python's `huggingface_hub`, so that both read what the other one has
/// downloaded.
#[derive(Clone)]
pub struct Hub {
    pub(super) endpoint: String,
    pub(super) cache: PathBuf,
    pub(super) token: Option<String>,
    pub(super) offline: bool,
    pub(super) retry_delay: Duration,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "<redacted>"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Creates a hub for the server at the address `endpoint` and the cache directory `cache`,
    /// without a token.
    ///
    /// # Errors
    /// Returns [`HubError::Endpoint`] if `endpoint` is not the address of a server.
    pub fn new(endpoint: &str, cache: &Path) -> Result<Self, HubError> {
        let endpoint = endpoint.trim_end_matches('/');
        let is_server = endpoint.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && uri.query().is_none()
        });
        // a name and password would appear in errors
        if !is_server || endpoint.contains('@') {
            return Err(HubError::Endpoint { found: endpoint.to_owned() });
        }
        Ok(Self {
            endpoint: endpoint.to_owned(),
            cache: cache.to_owned(),
            token: None,
            offline: false,
            retry_delay: RETRY_DELAY,
        })
    }

    /// Creates the hub that the environment describes, with the variables of `huggingface_hub`:
    ///
    /// - `HF_ENDPOINT`: address of the server. Default: `https://huggingface.co`.
    /// - `HF_HUB_CACHE`: directory of the cache. Default: `hub` in `HF_HOME`.
    /// - `HF_HOME`: default: `huggingface` in `XDG_CACHE_HOME`, or in `.cache` of the home
    ///   directory.
    /// - `HF_TOKEN`: the token. Default: the content of the file `HF_TOKEN_PATH`, by default
    ///   `token` in `HF_HOME`, which `hf auth login` writes.
    /// - `HF_HUB_OFFLINE`: `1`, `on`, `yes` or `true` to use only the cache.
    ///
    /// An empty variable counts as not set.
    ///
    /// # Errors
    /// Returns an error if a variable cannot be used or there is no home directory.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(
        get: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let get = |name| get(name).filter(|value| !value.is_empty());
        let text = |name| get(name).map(|value| value.to_string_lossy().trim().to_owned());
        let path = |name| get(name).map(PathBuf::from);
        let default_home = || {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")))?;
            Some(caches.join("huggingface"))
        };
        let hf_home = path("HF_HOME").or_else(default_home);
        let in_home = |name| hf_home.as_ref().map(|dir| dir.join(name));
        let cache = path("HF_HUB_CACHE").or_else(|| in_home("hub")).ok_or(HubError::NoCache)?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let of_file = || {
            let file = path("HF_TOKEN_PATH").or_else(|| in_home("token"))?;
            // as in huggingface_hub, a file that is missing or cannot be read is no token
            Some(read_text(&file, TOKEN_BYTES).ok()?.trim().to_owned())
        };
        let is_on =
            |value: String| ["1", "on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word));
        Self::new(&endpoint, &cache)?
            .with_offline(text("HF_HUB_OFFLINE").is_some_and(is_on))
            .with_token(text("HF_TOKEN").or_else(of_file).filter(|token| !token.is_empty()))
    }

    /// Replaces the token, which is sent to the hub and to no other server.
    ///
    /// # Errors
    /// Returns [`HubError::Token`] if the token has characters other than printable ASCII.
    pub fn with_token(mut self, token: Option<String>) -> Result<Self, HubError> {
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(HubError::Token);
        }
        self.token = token;
        Ok(self)
    }

    /// Sets whether only the cache is used.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Sets the time before the second attempt of a request that failed. Default: 1 second.
    #[must_use]
    pub fn with_retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Result<Hub, HubError> {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Hub::from_variables(get, Some("/home/u".into()))
    }

    #[test]
    fn the_cache_is_that_of_huggingface_hub() {
        let cache = |variables: &[(&str, &str)]| hub(variables).unwrap().cache;
        assert_eq!(cache(&[]), Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert!(matches!(Hub::from_variables(|_| None, None), Err(HubError::NoCache)));
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| hub(variables).unwrap().token;
        assert_eq!(token(&[("HF_HOME", home)]), None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(dir.path().join("other"), "hf_other").unwrap();
        assert_eq!(token(&[("HF_HOME", home)]).unwrap(), "hf_file");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")]).unwrap(), "hf_variable");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "")]).unwrap(), "hf_file");
        let other = dir.path().join("other");
        assert_eq!(token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).unwrap(), "hf_other");
        let secret = hub(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{secret:?}").contains("hf_secret"));
        assert!(matches!(hub(&[("HF_TOKEN", "a\nb")]), Err(HubError::Token)));
    }

    #[test]
    fn the_endpoint_is_an_address() {
        assert_eq!(hub(&[]).unwrap().endpoint, ENDPOINT);
        assert_eq!(hub(&[("HF_ENDPOINT", "http://h:1/hf/")]).unwrap().endpoint, "http://h:1/hf");
        for bad in ["h", "ftp://h", "http://", "http://h?x=1", "https://u:p@h"] {
            assert!(matches!(hub(&[("HF_ENDPOINT", bad)]), Err(HubError::Endpoint { .. })), "{bad}");
        }
        let offline = |value| hub(&[("HF_HUB_OFFLINE", value)]).unwrap().offline;
        assert!(offline("1") && offline("True") && !offline("0") && !offline(""));
    }
}
