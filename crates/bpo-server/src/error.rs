//! Errors of the client.

use bpo_pairs::Untrusted;

/// An error of a server, or of the settings of its client. No field contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting has an invalid value.
    #[error("`{key}` must be {expected}, found {}", Untrusted(found))]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// The valid values.
        expected: &'static str,
        /// The value of the setting, or a note that it is not shown.
        found: String,
    },
    /// There was no connection to the server before the first request.
    #[error("no server can be reached at {}{}", Untrusted(url), tried_for(*seconds))]
    Unreachable {
        /// Address of the chat completions.
        url: String,
        /// Time for which the server was tried, in seconds: `startup_timeout_s`.
        seconds: f64,
        /// Error of the last attempt.
        source: Box<ureq::Error>,
    },
    /// The connection failed, or the response was too large or not HTTP.
    #[error("no answer from {} after {}", Untrusted(url), counted(*attempts))]
    Connection {
        /// Address of the chat completions.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Error of the last attempt.
        source: Box<ureq::Error>,
    },
    /// The server answered with a status that is not a success.
    #[error(
        "{} answered with status {status} after {}: {}",
        Untrusted(url),
        counted(*attempts),
        Untrusted(excerpt)
    )]
    Status {
        /// Address of the chat completions.
        url: String,
        /// HTTP status of the last response.
        status: u16,
        /// Number of attempts.
        attempts: u32,
        /// Start of the body of the last response.
        excerpt: String,
    },
    /// The server does not list the model, and refuses a request to it.
    #[error(
        "{} has no model {:?} (status {status}: {}); it lists {}: set `model` to one of them",
        Untrusted(url),
        Untrusted(model),
        Untrusted(excerpt),
        listed(models)
    )]
    UnknownModel {
        /// Address of the chat completions.
        url: String,
        /// The model of the settings.
        model: String,
        /// Names of the models that the server lists.
        models: Vec<String>,
        /// HTTP status of the refusal.
        status: u16,
        /// Start of the body of the refusal.
        excerpt: String,
    },
    /// The body of the response is not a chat completion.
    #[error("{} did not answer with a chat completion: {}", Untrusted(url), Untrusted(excerpt))]
    Body {
        /// Address of the chat completions.
        url: String,
        /// Start of the body.
        excerpt: String,
        /// Error of the JSON parser.
        source: serde_json::Error,
    },
    /// A request cannot be written as JSON.
    #[error("the request cannot be written as JSON")]
    Encode {
        /// The cause.
        source: serde_json::Error,
    },
    /// The chat completion has no choice.
    #[error("{} answered without any choice: {}", Untrusted(url), Untrusted(excerpt))]
    NoChoice {
        /// Address of the chat completions.
        url: String,
        /// Start of the body.
        excerpt: String,
    },
}

impl ServerError {
    /// Returns whether the server refuses the request itself, so that a repetition would also fail:
    /// status 400 (bad request), 413 (content too large) or 422 (unprocessable content).
    pub fn is_of_request(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 422, .. })
    }
}

/// Describes a number of attempts, with the settings that change it.
fn counted(attempts: u32) -> String {
    match attempts {
        1 => "1 attempt".to_owned(),
        _ => format!("{attempts} attempts (`max_retries` and `backoff_max_ms` set how long it is tried)"),
    }
}

/// Describes the time for which a server was tried, with the setting that changes it.
fn tried_for(seconds: f64) -> String {
    if seconds > 0.0 { format!(" within {seconds} s (`startup_timeout_s`)") } else { String::new() }
}

/// Maximum number of models in a message.
const SHOWN_MODELS: usize = 10;

/// Lists the first models.
fn listed(models: &[String]) -> String {
    if models.is_empty() {
        return "no model".to_owned();
    }
    let shown = models.iter().take(SHOWN_MODELS).map(|name| format!("{:?}", Untrusted(name)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match models.len().saturating_sub(SHOWN_MODELS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_has_a_character_that_controls_a_terminal() {
        let text = || {
            "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}".to_owned()
        };
        let json = serde_json::from_str::<u8>("x").unwrap_err();
        let errors = [
            ServerError::Setting { key: "model", expected: "a name", found: text() },
            ServerError::Unreachable {
                url: text(),
                seconds: 1.5,
                source: Box::new(ureq::Error::HostNotFound),
            },
            ServerError::Connection { url: text(), attempts: 1, source: Box::new(ureq::Error::HostNotFound) },
            ServerError::Status { url: text(), status: 500, attempts: 1, excerpt: text() },
            ServerError::UnknownModel {
                url: text(),
                model: text(),
                models: vec![text(); 11],
                status: 404,
                excerpt: text(),
            },
            ServerError::Body { url: text(), excerpt: text(), source: json },
            ServerError::NoChoice { url: text(), excerpt: text() },
        ];
        for error in errors {
            let shown = error.to_string();
            assert!(!shown.chars().any(Untrusted::is_unsafe) && shown.contains("forged"), "{shown:?}");
        }
    }
}
