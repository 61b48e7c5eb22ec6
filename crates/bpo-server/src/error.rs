//! Errors of the client.

/// An error of a server, or of the settings of its client. No field contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting has an invalid value.
    #[error("`{key}` must be {expected}, found {found}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// The valid values.
        expected: &'static str,
        /// The value of the setting, or a note that it is not shown.
        found: String,
    },
    /// The connection failed, or the response was too large or not HTTP.
    #[error("no answer from {url} after {attempts} attempt(s)")]
    Connection {
        /// Address of the chat completions.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Error of the last attempt.
        source: Box<ureq::Error>,
    },
    /// The server answered with a status that is not a success.
    #[error("{url} answered with status {status} after {attempts} attempt(s): {excerpt}")]
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
    /// The body of the response is not a chat completion.
    #[error("{url} did not answer with a chat completion: {excerpt}")]
    Body {
        /// Address of the chat completions.
        url: String,
        /// Start of the body.
        excerpt: String,
        /// Error of the JSON parser.
        source: serde_json::Error,
    },
    /// The chat completion has no choice.
    #[error("{url} answered without any choice: {excerpt}")]
    NoChoice {
        /// Address of the chat completions.
        url: String,
        /// Start of the body.
        excerpt: String,
    },
}
