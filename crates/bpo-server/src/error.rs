//! Errors of the client.

/// An error of a server, or of the settings of its client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting has a value that cannot work.
    #[error("`{key}` must be {expected}, found {found}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// What would do.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The server could not be reached, or the connection broke.
    #[error("no answer from {url} after {attempts} attempt(s)")]
    Connection {
        /// The address called.
        url: String,
        /// How often.
        attempts: u32,
        /// Reason of the last failure.
        source: Box<ureq::Error>,
    },
    /// The server answered with a status that is not a success.
    #[error("{url} answered with status {status} after {attempts} attempt(s): {excerpt}")]
    Status {
        /// The address called.
        url: String,
        /// HTTP status of the last answer.
        status: u16,
        /// How often it was called.
        attempts: u32,
        /// Beginning of the last answer's body.
        excerpt: String,
    },
    /// The server answered with something that is no chat completion.
    #[error("{url} did not answer with a chat completion: {excerpt}")]
    Body {
        /// The address called.
        url: String,
        /// Beginning of the body.
        excerpt: String,
        /// Where the JSON stops making sense.
        source: serde_json::Error,
    },
    /// The server answered with a chat completion that holds no choice.
    #[error("{url} answered without any choice: {excerpt}")]
    NoChoice {
        /// The address called.
        url: String,
        /// Beginning of the body.
        excerpt: String,
    },
}
