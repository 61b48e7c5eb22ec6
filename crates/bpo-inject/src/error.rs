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
}
