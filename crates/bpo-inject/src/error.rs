//! Errors of templates, settings and text generators.

use std::path::PathBuf;

use bpo_pairs::files::FileError;
use bpo_pairs::{Untrusted, UntrustedPath};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// A prompt template does not parse.
    #[error("the {name} template does not parse")]
    TemplateSyntax {
        /// Name of the template.
        name: &'static str,
        /// Line and reason.
        source: minijinja::Error,
    },
    /// A prompt template uses an unknown variable.
    #[error("the {name} template asks for `{}`; known are {known}", Untrusted(found))]
    TemplateVariable {
        /// Name of the template.
        name: &'static str,
        /// Name of the variable.
        found: String,
        /// The variables that the template can use.
        known: String,
    },
    /// A prompt template does not use a variable that it needs.
    #[error("the {name} template does not use `{required}`, which it needs")]
    TemplateWithout {
        /// Name of the template.
        name: &'static str,
        /// Name of the variable.
        required: &'static str,
    },
    /// A prompt template does not render for its values.
    #[error("the {name} template does not render")]
    TemplateRender {
        /// Name of the template.
        name: &'static str,
        /// Line and reason.
        source: minijinja::Error,
    },
    /// A prompt file cannot be read.
    #[error("a prompt cannot be read")]
    TemplateFile {
        /// The cause, which names the file.
        source: FileError,
    },
    /// A prompt file has the name of no prompt.
    #[error("{} is no prompt: expected one of {known}", UntrustedPath(path))]
    UnknownTemplate {
        /// The file.
        path: PathBuf,
        /// The names of the prompt files.
        known: String,
    },
    /// A setting has an invalid value.
    #[error("`{key}` must be {expected}, found {}", Untrusted(found))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_has_a_character_that_controls_a_terminal() {
        let found = || {
            "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}".to_owned()
        };
        let errors = [
            InjectError::TemplateVariable { name: "count", found: found(), known: String::new() },
            InjectError::Setting { key: "attempts", expected: "at least 1", found: found() },
        ];
        for error in errors {
            let shown = error.to_string();
            assert!(!shown.chars().any(Untrusted::is_unsafe) && shown.contains("forged"), "{shown:?}");
        }
    }
}
