//! What can go wrong on this side of error injection.

use crate::template::PromptForm;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// A prompt template does not parse.
    #[error("the {form} template does not parse")]
    TemplateSyntax {
        /// Which template.
        form: PromptForm,
        /// Line and reason.
        source: minijinja::Error,
    },
    /// A prompt template asks for a variable that injection does not have.
    #[error("the {form} template asks for `{found}`; known are `question` and `answer`")]
    TemplateVariable {
        /// Which template.
        form: PromptForm,
        /// The name it uses.
        found: String,
    },
    /// A prompt template never shows the answer that is to be rewritten.
    #[error("the {form} template does not use `answer`, the text to rewrite")]
    TemplateWithoutAnswer {
        /// Which template.
        form: PromptForm,
    },
    /// A prompt template fails on this question and answer.
    #[error("the {form} template does not render")]
    TemplateRender {
        /// Which template.
        form: PromptForm,
        /// Line and reason.
        source: minijinja::Error,
    },
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
    /// A text generator gave fewer results than it got requests.
    #[error("the text generator gave {found} results for {expected} requests")]
    MissingResult {
        /// Requests sent.
        expected: usize,
        /// Results received.
        found: usize,
    },
    /// The server could not be reached, or the connection broke.
    #[cfg(feature = "openai")]
    #[error("no answer from {url} after {attempts} attempt(s)")]
    Connection {
        /// The address called.
        url: String,
        /// How often.
        attempts: u32,
        /// SkipReason of the last failure.
        source: Box<ureq::Error>,
    },
    /// The server answered with a status that is not a success.
    #[cfg(feature = "openai")]
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
    #[cfg(feature = "openai")]
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
    #[cfg(feature = "openai")]
    #[error("{url} answered without any choice: {excerpt}")]
    NoChoice {
        /// The address called.
        url: String,
        /// Beginning of the body.
        excerpt: String,
    },
}
