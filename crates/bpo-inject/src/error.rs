//! Errors of templates, settings and text generators.

use crate::template::PromptForm;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// A prompt template does not parse.
    #[error("the {form} template does not parse")]
    TemplateSyntax {
        /// Form of the template.
        form: PromptForm,
        /// Line and reason.
        source: minijinja::Error,
    },
    /// A prompt template uses an unknown variable.
    #[error("the {form} template asks for `{found}`; known are `question` and `answer`")]
    TemplateVariable {
        /// Form of the template.
        form: PromptForm,
        /// Name of the variable.
        found: String,
    },
    /// A prompt template does not use `answer`, the text to rewrite.
    #[error("the {form} template does not use `answer`, the text to rewrite")]
    TemplateWithoutAnswer {
        /// Form of the template.
        form: PromptForm,
    },
    /// A prompt template does not render for a question and answer.
    #[error("the {form} template does not render")]
    TemplateRender {
        /// Form of the template.
        form: PromptForm,
        /// Line and reason.
        source: minijinja::Error,
    },
    /// A setting has an invalid value.
    #[error("`{key}` must be {expected}, found {found}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// The valid values.
        expected: &'static str,
        /// The value of the setting.
        found: String,
    },
    /// A text generator returned fewer results than there were requests.
    #[error("the text generator gave {found} results for {expected} requests")]
    MissingResult {
        /// Number of requests.
        expected: usize,
        /// Number of results.
        found: usize,
    },
}
