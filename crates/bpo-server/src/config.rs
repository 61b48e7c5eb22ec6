//! Settings of the client of OpenAI-compatible servers.

use std::fmt;
use std::time::Duration;

use bpo_pairs::{Limits, TokenPrices};
use serde::{Deserialize, Serialize, Serializer};
use ureq::ProxyProtocol;
use ureq::http::Uri;

use crate::address::{self, REMOVED, has_host_and_port, shown_address};
use crate::error::ServerError;

/// The remedy for an address whose secrets were removed from a file.
const WHOLE: &str = "the address with its user, password and query, which files do not store";

/// Settings of an [`OpenAiClient`](crate::OpenAiClient). The defaults are ours.
///
/// The library reads no environment variable: the application reads the one that `api_key_env`
/// names, and passes the key to [`OpenAiClient::new`](crate::OpenAiClient::new).
///
/// Serialization and `Debug` replace the user, the password and the query of an address with
/// `[removed]`, and an `api_key_env` that may be a key. [`validate`](Self::validate) refuses an
/// address with `[removed]` in it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OpenAiConfig {
    /// Address of the server: `http://host:8080`, with or without `/v1`. Any other path is kept. A
    /// user with a password is sent as basic authentication, and a query follows the path of each
    /// request.
    #[serde(serialize_with = "address::serialize")]
    pub base_url: String,
    /// Name of the model. Some servers with one model accept any name.
    pub model: String,
    /// Name of the environment variable that holds the API key. Default: no key.
    #[serde(default, serialize_with = "serialize_variable")]
    pub api_key_env: Option<String>,
    /// Address of an HTTP proxy: `http://user:password@host:port`. Default: no proxy.
    #[serde(default, serialize_with = "address::serialize_optional")]
    pub proxy: Option<String>,
    /// Time limit of one attempt, in seconds. Default: 120.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// Maximum number of concurrent requests, at least 1. Default: 64. Their number starts at 8,
    /// grows while the server answers quickly, and is halved if more than 10 % of the requests are
    /// refused for load, fail or time out.
    #[serde(default = "default_max_concurrency")]
    pub max_concurrency: usize,
    /// Maximum number of retries after status 408, 429 or 5xx, a lost connection or a time-out.
    /// Default: 8. Responses that are not chat completions, such as redirects, are repeated only if the
    /// server has answered another request.
    #[serde(default = "default_max_retries")]
    pub max_retries: u32,
    /// Wait before the first retry, in milliseconds. It doubles with each retry, and a random part
    /// of up to half is subtracted. Default: 500.
    #[serde(default = "default_backoff_initial_ms")]
    pub backoff_initial_ms: u64,
    /// Maximum wait before a retry, in milliseconds, if the server sends no `Retry-After`. Default:
    /// 30,000.
    #[serde(default = "default_backoff_max_ms")]
    pub backoff_max_ms: u64,
    /// Maximum `Retry-After`, in seconds. If the server asks for a longer wait, the request fails
    /// without a retry. Default: 300.
    #[serde(default = "default_max_retry_after_s")]
    pub max_retry_after_s: u64,
    /// Time for which [`check`](crate::OpenAiClient::check) tries to reach the server, in seconds.
    /// 0 tries once. Default: 10.
    #[serde(default = "default_startup_timeout_s")]
    pub startup_timeout_s: f64,
    /// Price of one million tokens of prompts, in any currency. Default: none. With both prices,
    /// the cost of the answers is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_price: Option<f64>,
    /// Price of one million tokens of answers. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_price: Option<f64>,
}

/// Returns the name of an environment variable as it may be shown. A name with other characters
/// than upper-case letters, digits and `_` may be a key.
fn shown_variable(name: &str) -> &str {
    let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if is_name { name } else { REMOVED }
}

fn serialize_variable<S: Serializer>(name: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match name {
        Some(name) => serializer.serialize_some(shown_variable(name)),
        None => serializer.serialize_none(),
    }
}

impl OpenAiConfig {
    /// Names of the settings that do not affect the answers: the address and the settings of its
    /// connections.
    pub const TRANSPORT_KEYS: [&'static str; 12] = [
        "base_url",
        "api_key_env",
        "proxy",
        "timeout_s",
        "max_concurrency",
        "max_retries",
        "backoff_initial_ms",
        "backoff_max_ms",
        "max_retry_after_s",
        "startup_timeout_s",
        "prompt_price",
        "completion_price",
    ];
}

impl fmt::Debug for OpenAiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiConfig")
            .field("base_url", &shown_address(&self.base_url))
            .field("model", &self.model)
            .field("api_key_env", &self.api_key_env.as_deref().map(shown_variable))
            .field("proxy", &self.proxy.as_deref().map(shown_address))
            .field("timeout_s", &self.timeout_s)
            .field("max_concurrency", &self.max_concurrency)
            .field("max_retries", &self.max_retries)
            .field("backoff_initial_ms", &self.backoff_initial_ms)
            .field("backoff_max_ms", &self.backoff_max_ms)
            .field("max_retry_after_s", &self.max_retry_after_s)
            .field("startup_timeout_s", &self.startup_timeout_s)
            .field("prompt_price", &self.prompt_price)
            .field("completion_price", &self.completion_price)
            .finish()
    }
}

fn default_timeout_s() -> f64 {
    120.0
}

fn default_max_concurrency() -> usize {
    64
}

fn default_max_retries() -> u32 {
    8
}

fn default_backoff_initial_ms() -> u64 {
    500
}

fn default_backoff_max_ms() -> u64 {
    30_000
}

fn default_max_retry_after_s() -> u64 {
    300
}

fn default_startup_timeout_s() -> f64 {
    10.0
}

impl OpenAiConfig {
    /// Creates the settings for an address and a model, with the defaults for everything else.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key_env: None,
            proxy: None,
            timeout_s: default_timeout_s(),
            max_concurrency: default_max_concurrency(),
            max_retries: default_max_retries(),
            backoff_initial_ms: default_backoff_initial_ms(),
            backoff_max_ms: default_backoff_max_ms(),
            max_retry_after_s: default_max_retry_after_s(),
            startup_timeout_s: default_startup_timeout_s(),
            prompt_price: None,
            completion_price: None,
        }
    }

    /// Sets the time limit of one attempt, in seconds.
    pub fn with_timeout_s(mut self, seconds: f64) -> Self {
        self.timeout_s = seconds;
        self
    }

    /// Sets the time for which a server that cannot be reached is tried before the first request,
    /// in seconds.
    pub fn with_startup_timeout_s(mut self, seconds: f64) -> Self {
        self.startup_timeout_s = seconds;
        self
    }

    /// Sets the maximum number of concurrent requests.
    pub fn with_max_concurrency(mut self, requests: usize) -> Self {
        self.max_concurrency = requests;
        self
    }

    /// Sets the maximum number of retries, and the first and the maximum wait before a retry in
    /// milliseconds.
    pub fn with_retries(mut self, max_retries: u32, initial_ms: u64, max_ms: u64) -> Self {
        self.max_retries = max_retries;
        self.backoff_initial_ms = initial_ms;
        self.backoff_max_ms = max_ms;
        self
    }

    /// Returns the address of the chat completions, secrets included.
    ///
    /// # Errors
    /// Returns [`ServerError::Setting`] if `base_url` is not an `http` or `https` address of a
    /// host, or if its port is not in 1..=65535.
    pub fn endpoint(&self) -> Result<String, ServerError> {
        self.address_of("chat/completions")
    }

    /// Returns the address of the list of models, secrets included.
    pub(crate) fn models_address(&self) -> Result<String, ServerError> {
        self.address_of("models")
    }

    /// Returns the address of a route of the server.
    fn address_of(&self, route: &str) -> Result<String, ServerError> {
        let refused = |expected| {
            let found = format!("`{}`", shown_address(&self.base_url));
            ServerError::Setting { key: "base_url", expected, found }
        };
        if self.base_url.contains(REMOVED) {
            return Err(refused(WHOLE));
        }
        let address = self.base_url.trim();
        let address = address.split_once('#').map_or(address, |(address, _)| address);
        let (base, query) = address.split_at(address.find('?').unwrap_or(address.len()));
        let base = base.trim_end_matches('/');
        let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
        let is_address = base.parse::<Uri>().is_ok_and(|uri| has_host_and_port(&uri));
        let Some(host) = host.filter(|_| is_address) else {
            return Err(refused(
                "an http:// or https:// address of a host, with a port from 1 to 65535 if any",
            ));
        };
        let version = if host.contains('/') { "" } else { "/v1" };
        Ok(format!("{base}{version}/{route}{query}"))
    }

    /// Checks the settings. The server is not called.
    ///
    /// # Errors
    /// Returns [`ServerError::Setting`] for the first invalid setting.
    pub fn validate(&self) -> Result<(), ServerError> {
        self.endpoint()?;
        self.proxy()?;
        self.timeout()?;
        self.startup_timeout()?;
        let check = |key, holds, expected, found: String| {
            if holds { Ok(()) } else { Err(ServerError::Setting { key, expected, found }) }
        };
        let limits = Limits::DEFAULT;
        let requests = self.max_concurrency;
        let expected = "from 1 to 10000";
        check("max_concurrency", (1..=limits.requests).contains(&requests), expected, requests.to_string())?;
        let retries = self.max_retries;
        check("max_retries", retries as usize <= limits.requests, "at most 10000", retries.to_string())?;
        let longest = limits.timeout.as_millis() as u64;
        for (key, millis) in
            [("backoff_initial_ms", self.backoff_initial_ms), ("backoff_max_ms", self.backoff_max_ms)]
        {
            check(key, millis <= longest, "at most 604800000 (7 days)", millis.to_string())?;
        }
        let seconds = self.max_retry_after_s;
        let expected = "at most 604800 (7 days)";
        check("max_retry_after_s", seconds <= limits.timeout.as_secs(), expected, seconds.to_string())?;
        for (key, price, other) in [
            ("prompt_price", self.prompt_price, self.completion_price),
            ("completion_price", self.completion_price, self.prompt_price),
        ] {
            let price = price.unwrap_or(if other.is_some() { f64::NAN } else { 0.0 });
            let expected = "a number, at least 0, that is set together with the other price";
            let found = if price.is_nan() { "not set".to_owned() } else { price.to_string() };
            check(key, price >= 0.0 && price.is_finite(), expected, found)?;
        }
        Ok(())
    }

    /// Returns the prices of tokens, if they are set.
    pub(crate) fn prices(&self) -> Option<TokenPrices> {
        Some(TokenPrices { prompt: self.prompt_price?, completion: self.completion_price? })
    }

    pub(crate) fn proxy(&self) -> Result<Option<ureq::Proxy>, ServerError> {
        let Some(address) = self.proxy.as_deref() else { return Ok(None) };
        let refused = |expected| {
            let found = format!("`{}`", shown_address(address));
            ServerError::Setting { key: "proxy", expected, found }
        };
        if address.contains(REMOVED) {
            return Err(refused(WHOLE));
        }
        let proxy = ureq::Proxy::new(address).ok().filter(|proxy| {
            matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
                && has_host_and_port(proxy.uri())
        });
        let expected =
            "an http:// or https:// address of a proxy (not SOCKS), with a port from 1 to 65535 if any";
        proxy.map(Some).ok_or_else(|| refused(expected))
    }

    pub(crate) fn timeout(&self) -> Result<Duration, ServerError> {
        let timeout = Duration::try_from_secs_f64(self.timeout_s).ok();
        timeout.filter(|timeout| !timeout.is_zero() && *timeout <= Limits::DEFAULT.timeout).ok_or_else(|| {
            ServerError::Setting {
                key: "timeout_s",
                expected: "a number of seconds above 0 and at most 604800 (7 days)",
                found: self.timeout_s.to_string(),
            }
        })
    }

    pub(crate) fn startup_timeout(&self) -> Result<Duration, ServerError> {
        let timeout = Duration::try_from_secs_f64(self.startup_timeout_s).ok();
        timeout.filter(|timeout| *timeout <= Limits::DEFAULT.timeout).ok_or_else(|| ServerError::Setting {
            key: "startup_timeout_s",
            expected: "a number of seconds, at least 0 and at most 604800 (7 days)",
            found: self.startup_timeout_s.to_string(),
        })
    }

    /// Returns the longest time between the first and the last attempt of a request, apart from the
    /// time of the attempts and from `Retry-After`.
    pub(crate) fn longest_wait(&self) -> Duration {
        (1..=self.max_retries).map(|attempt| self.backoff(attempt, 0.0)).sum()
    }

    /// Returns the wait after failed attempt `attempt` (from 1), where `jitter` is in 0..=1.
    pub(crate) fn backoff(&self, attempt: u32, jitter: f64) -> Duration {
        let doubled = 1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
        let longest = self.backoff_initial_ms.saturating_mul(doubled).min(self.backoff_max_ms);
        Duration::from_millis(longest - (longest as f64 / 2.0 * jitter) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_the_base_url_give_one_endpoint() {
        for base in ["http://h:80", "http://h:80/", "http://h:80/v1", "http://h:80/v1/"] {
            assert_eq!(OpenAiConfig::new(base, "m").endpoint().unwrap(), "http://h:80/v1/chat/completions");
        }
        let own = OpenAiConfig::new("https://h/api/v3/", "m").endpoint().unwrap();
        assert_eq!(own, "https://h/api/v3/chat/completions");
        let query = OpenAiConfig::new("https://h/?key=k#part", "m").endpoint().unwrap();
        assert_eq!(query, "https://h/v1/chat/completions?key=k");
        let models = OpenAiConfig::new("https://h/api/v3/?key=k", "m").models_address().unwrap();
        assert_eq!(models, "https://h/api/v3/models?key=k");
        for bad in ["", "localhost:8080", "http://", "ftp://h", "http:///v1", "http://h:99999", "http://h h"]
        {
            let error = OpenAiConfig::new(bad, "m").endpoint().unwrap_err();
            assert!(error.to_string().contains("base_url"), "{bad}");
        }
    }

    #[test]
    fn waits_double_up_to_the_maximum_with_jitter_of_half() {
        let config = OpenAiConfig::new("http://h", "m").with_retries(9, 100, 1000);
        let waits: Vec<u128> = (1..=5).map(|attempt| config.backoff(attempt, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000]);
        assert_eq!(config.backoff(2, 1.0).as_millis(), 100);
        assert_eq!(config.backoff(u32::MAX, 0.0).as_millis(), 1000);
        assert_eq!(config.longest_wait().as_millis(), 100 + 200 + 400 + 800 + 5 * 1000);
        assert_eq!(OpenAiConfig::new("http://h", "m").longest_wait().as_millis(), 91_500);
    }

    #[test]
    fn missing_address_or_model_and_unknown_keys_are_errors() {
        let config: OpenAiConfig = serde_json::from_str(r#"{"base_url": "http://h", "model": "m"}"#).unwrap();
        assert_eq!(config, OpenAiConfig::new("http://h", "m"));
        assert!(serde_json::from_str::<OpenAiConfig>(r#"{"base_url": "http://h"}"#).is_err());
        assert!(
            serde_json::from_str::<OpenAiConfig>(r#"{"base_url": "h", "model": "m", "retry": 1}"#).is_err()
        );
    }

    #[test]
    fn no_key_or_password_is_shown() {
        let mut config = OpenAiConfig::new("http://me:hunter2@h?key=sk-secret", "m");
        config.api_key_env = Some("sk-secret".into());
        config.proxy = Some("http://me:hunter2@proxy".into());
        let bad = OpenAiConfig::new("ftp://me:hunter2@h", "m").endpoint().unwrap_err();
        for shown in [format!("{config:?}"), bad.to_string(), format!("{bad:?}")] {
            assert!(!shown.contains("secret") && !shown.contains("hunter2"), "{shown}");
        }
        let stored = serde_json::to_string(&config).unwrap();
        assert!(!stored.contains("secret") && !stored.contains("hunter2"), "{stored}");
        let mut read: OpenAiConfig = serde_json::from_str(&stored).unwrap();
        assert!(read.validate().unwrap_err().to_string().contains("base_url"));
        read.base_url = "http://h".into();
        assert!(read.validate().unwrap_err().to_string().contains("proxy"));
        config.api_key_env = Some("OPENAI_API_KEY".into());
        assert!(format!("{config:?}").contains("OPENAI_API_KEY"));
    }

    #[test]
    fn invalid_proxies_are_errors() {
        let proxy = |address: &str| {
            let mut config = OpenAiConfig::new("http://h", "m");
            config.proxy = Some(address.into());
            config.validate()
        };
        for good in ["http://h:80", "https://h", "http://me:pass@h:80", "h:80"] {
            proxy(good).unwrap();
        }
        for bad in ["socks5://h:9", "socks4://h", "ftp://h", "", "http://h:99999", "http://me:hun/ter2@h"] {
            let error = proxy(bad).unwrap_err().to_string();
            assert!(error.contains("`proxy` must be") && !error.contains("ter2"), "{error}");
        }
    }

    #[test]
    fn numbers_above_the_limits_are_errors() {
        let refused = |key: &str, set: fn(&mut OpenAiConfig)| {
            let mut config = OpenAiConfig::new("http://h", "m");
            config.validate().unwrap();
            set(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        };
        refused("max_concurrency", |config| config.max_concurrency = 0);
        refused("max_concurrency", |config| config.max_concurrency = usize::MAX);
        refused("max_retries", |config| config.max_retries = u32::MAX);
        refused("backoff_initial_ms", |config| config.backoff_initial_ms = u64::MAX);
        refused("backoff_max_ms", |config| config.backoff_max_ms = u64::MAX);
        refused("max_retry_after_s", |config| config.max_retry_after_s = u64::MAX);
        refused("prompt_price", |config| config.completion_price = Some(1.0));
        refused("completion_price", |config| {
            (config.prompt_price, config.completion_price) = (Some(1.0), Some(-1.0));
        });
    }

    #[test]
    fn invalid_timeouts_are_errors() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 604_801.0, 1e19] {
            assert!(OpenAiConfig::new("http://h", "m").with_timeout_s(seconds).timeout().is_err());
        }
        let startup = |seconds| OpenAiConfig::new("http://h", "m").with_startup_timeout_s(seconds).validate();
        startup(0.0).unwrap();
        for seconds in [-1.0, f64::NAN, f64::INFINITY, 604_801.0] {
            assert!(startup(seconds).unwrap_err().to_string().contains("`startup_timeout_s`"));
        }
    }
}
