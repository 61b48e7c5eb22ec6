//! Settings of the client.

use std::fmt;
use std::time::Duration;

use bpo_pairs::Limits;
use serde::{Deserialize, Serialize};

use crate::error::ServerError;
use crate::redact::shown_address;

/// Where a server is and how to treat it. Defaults are ours.
///
/// A library reads no environment: `api_key_env` is for the application, which resolves it and gives the key to
/// [`OpenAiClient::new`](crate::OpenAiClient::new).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OpenAiConfig {
    /// Address of the server: `http://host:8080`, with or without `/v1`. Any other path is taken as it stands.
    pub base_url: String,
    /// Name of the model to ask for. Servers with one model take any.
    pub model: String,
    /// Name of the environment variable that holds the key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Proxy as a URL (`http://user:password@host:port`, `socks5://..`); none goes straight to the server.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Longest wait for one answer, in seconds.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// Requests in flight at a time, at least 1.
    #[serde(default = "default_max_concurrency")]
    pub max_concurrency: usize,
    /// Further attempts after status 408, 429 or 5xx, a lost connection or a time-out.
    #[serde(default = "default_max_retries")]
    pub max_retries: u32,
    /// Wait before the first retry in milliseconds; it doubles with each one, less a random part of up to half.
    #[serde(default = "default_backoff_initial_ms")]
    pub backoff_initial_ms: u64,
    /// Longest wait before a retry in milliseconds, where the server names none.
    #[serde(default = "default_backoff_max_ms")]
    pub backoff_max_ms: u64,
    /// Longest `Retry-After` that is waited for, in seconds. If the server asks for more, the request fails at once.
    #[serde(default = "default_max_retry_after_s")]
    pub max_retry_after_s: u64,
}

impl OpenAiConfig {
    /// Keys that say where the server is and how it is asked. They do not affect its answers.
    pub const TRANSPORT_KEYS: [&'static str; 9] = [
        "base_url",
        "api_key_env",
        "proxy",
        "timeout_s",
        "max_concurrency",
        "max_retries",
        "backoff_initial_ms",
        "backoff_max_ms",
        "max_retry_after_s",
    ];
}

impl fmt::Debug for OpenAiConfig {
    /// Shows no password, no query of an address, and no key that stands where the name of a variable belongs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let api_key_env =
            self.api_key_env.as_deref().map(|name| if is_name(name) { name } else { "[removed]" });
        f.debug_struct("OpenAiConfig")
            .field("base_url", &shown_address(&self.base_url))
            .field("model", &self.model)
            .field("api_key_env", &api_key_env)
            .field("proxy", &self.proxy.as_deref().map(shown_address))
            .field("timeout_s", &self.timeout_s)
            .field("max_concurrency", &self.max_concurrency)
            .field("max_retries", &self.max_retries)
            .field("backoff_initial_ms", &self.backoff_initial_ms)
            .field("backoff_max_ms", &self.backoff_max_ms)
            .field("max_retry_after_s", &self.max_retry_after_s)
            .finish()
    }
}

fn default_timeout_s() -> f64 {
    120.0
}

fn default_max_concurrency() -> usize {
    8
}

fn default_max_retries() -> u32 {
    5
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

impl OpenAiConfig {
    /// A server and a model, everything else by default.
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
        }
    }

    /// Sets the longest wait for one answer, in seconds.
    pub fn with_timeout_s(mut self, seconds: f64) -> Self {
        self.timeout_s = seconds;
        self
    }

    /// Sets the number of requests in flight at a time.
    pub fn with_max_concurrency(mut self, requests: usize) -> Self {
        self.max_concurrency = requests;
        self
    }

    /// Sets the number of further attempts and the waits between them, in milliseconds.
    pub fn with_retries(mut self, max_retries: u32, initial_ms: u64, max_ms: u64) -> Self {
        self.max_retries = max_retries;
        self.backoff_initial_ms = initial_ms;
        self.backoff_max_ms = max_ms;
        self
    }

    /// The address that requests are posted to.
    ///
    /// # Errors
    /// When the base is no `http` or `https` address.
    pub fn endpoint(&self) -> Result<String, ServerError> {
        let base = self.base_url.trim().trim_end_matches('/');
        let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://")).unwrap_or("");
        if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
            return Err(ServerError::Setting {
                key: "base_url",
                expected: "an address that begins with http:// or https://",
                found: format!("`{}`", shown_address(&self.base_url)),
            });
        }
        let version = if host.contains('/') { "" } else { "/v1" };
        Ok(format!("{base}{version}/chat/completions"))
    }

    /// Checks the settings without asking the server anything.
    ///
    /// # Errors
    /// [`ServerError::Setting`] for the first that cannot work.
    pub fn validate(&self) -> Result<(), ServerError> {
        self.endpoint()?;
        self.timeout()?;
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
        check("max_retry_after_s", seconds <= limits.timeout.as_secs(), expected, seconds.to_string())
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

    /// The wait after failed attempt `attempt` (from 1), where `jitter` is in 0..=1.
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
    fn every_way_to_write_the_base_gives_one_endpoint() {
        for base in ["http://h:80", "http://h:80/", "http://h:80/v1", "http://h:80/v1/"] {
            assert_eq!(OpenAiConfig::new(base, "m").endpoint().unwrap(), "http://h:80/v1/chat/completions");
        }
        let own = OpenAiConfig::new("https://h/api/v3/", "m").endpoint().unwrap();
        assert_eq!(own, "https://h/api/v3/chat/completions");
        for bad in ["", "localhost:8080", "http://", "ftp://h", "http:///v1"] {
            let error = OpenAiConfig::new(bad, "m").endpoint().unwrap_err();
            assert!(error.to_string().contains("base_url"), "{bad}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_lose_at_most_half() {
        let config = OpenAiConfig::new("http://h", "m").with_retries(9, 100, 1000);
        let waits: Vec<u128> = (1..=5).map(|attempt| config.backoff(attempt, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000]);
        assert_eq!(config.backoff(2, 1.0).as_millis(), 100);
        assert_eq!(config.backoff(u32::MAX, 0.0).as_millis(), 1000);
    }

    #[test]
    fn address_and_model_are_required_and_typos_refused() {
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
        config.api_key_env = Some("OPENAI_API_KEY".into());
        assert!(format!("{config:?}").contains("OPENAI_API_KEY"));
    }

    #[test]
    fn numbers_above_any_limit_are_refused() {
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
    }

    #[test]
    fn time_outs_that_cannot_be_are_refused() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 604_801.0, 1e19] {
            assert!(OpenAiConfig::new("http://h", "m").with_timeout_s(seconds).timeout().is_err());
        }
    }
}
