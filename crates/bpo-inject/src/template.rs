//! Prompts that request a wrong but plausible answer.
//!
//! The two built-in prompts for errors of the kind [`Free`](ErrorKind::Free) request the same as the
//! authors' two, in our words. The description prompt has the description alone. The question-answer
//! prompt describes a similar image and has six examples. Source:
//! `data_generation/error_injection.py` of
//! <https://github.com/pipilurj/bootstrapped-preference-optimization-BPO>, and section 3.2 of the
//! paper (arXiv 2403.08730). The prompts for the other kinds are ours.

mod set;
mod texts;

use std::fmt;
use std::path::PathBuf;

use minijinja::context;
use serde::{Deserialize, Serialize};

use crate::{ErrorKind, InjectError};
pub use set::{PromptSet, PromptVariables};
pub use texts::PromptTexts;

/// The prompt that an answer is rewritten with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptForm {
    /// The answer describes the whole image.
    Description,
    /// The answer is the reply to a question about the image.
    QuestionAnswer,
}

impl fmt::Display for PromptForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// First words of an instruction to describe the image.
const DESCRIBE: &[&str] =
    &["caption", "characterize", "depict", "describe", "illustrate", "narrate", "portray", "summarize"];
/// First words of an instruction to describe the image, if it has one of [`IMAGE_NOUNS`].
const ABOUT_IMAGE: &[&str] = &[
    "analyze", "break", "clarify", "create", "examine", "explain", "give", "offer", "present", "provide",
    "relay", "render", "share", "tell", "walk", "write",
];
const IMAGE_NOUNS: &[&str] = &["image", "photo", "photograph", "picture", "scene"];
const POLITE: &[&str] = &["can", "could", "please", "would", "you"];
const OPEN_QUESTIONS: &[&str] =
    &["what do you see", "what can you see", "what is happening", "what's happening"];

impl PromptForm {
    /// Returns the form for a question: [`Description`](Self::Description) for an instruction to
    /// describe the image, [`QuestionAnswer`](Self::QuestionAnswer) for anything else.
    ///
    /// ```
    /// use bpo_inject::PromptForm;
    ///
    /// assert_eq!(PromptForm::of("Describe the image."), PromptForm::Description);
    /// assert_eq!(PromptForm::of("What color is the cat?"), PromptForm::QuestionAnswer);
    /// ```
    pub fn of(question: &str) -> Self {
        let question = without_image_token(question).to_lowercase();
        let words: Vec<&str> = question
            .split(|c: char| !c.is_alphanumeric() && c != '\'')
            .filter(|word| !word.is_empty())
            .skip_while(|word| POLITE.contains(word))
            .collect();
        let Some(first) = words.first() else { return Self::QuestionAnswer };
        let names_image = || words.iter().any(|word| IMAGE_NOUNS.contains(word));
        let open = || OPEN_QUESTIONS.iter().any(|start| words.join(" ").starts_with(start));
        if DESCRIBE.contains(first) || (ABOUT_IMAGE.contains(first) && names_image()) || open() {
            Self::Description
        } else {
            Self::QuestionAnswer
        }
    }

    /// Both forms.
    pub const ALL: [Self; 2] = [Self::Description, Self::QuestionAnswer];

    /// Returns the name of the prompt.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::QuestionAnswer => "question-answer",
        }
    }
}

/// Settings of the prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TemplateConfig {
    /// The form for every question, for errors of the kind [`ErrorKind::Free`]. Default:
    /// [`PromptForm::of`] the question.
    pub form: Option<PromptForm>,
    /// Directory with prompts, or one prompt file. Default: none.
    ///
    /// A file `NAME.j2` replaces the built-in prompt NAME: `description`, `question-answer` or the
    /// name of an [`ErrorKind`]. Other files in the directory are ignored, except for those with
    /// the ending `.j2`, which are an error. The texts are Jinja templates with the variables
    /// `question` and `answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Jinja text of the description prompt, which takes precedence over files. Its variables are
    /// `question` and `answer`.
    pub description: Option<String>,
    /// Jinja text of the question-answer prompt, with the same variables.
    pub question_answer: Option<String>,
}

impl TemplateConfig {
    /// Uses one form for every question.
    pub fn with_form(mut self, form: PromptForm) -> Self {
        self.form = Some(form);
        self
    }

    /// Sets the directory with prompts, or the prompt file.
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Replaces the text of one form.
    pub fn with_text(mut self, form: PromptForm, text: impl Into<String>) -> Self {
        match form {
            PromptForm::Description => self.description = Some(text.into()),
            PromptForm::QuestionAnswer => self.question_answer = Some(text.into()),
        }
        self
    }

    /// Returns the texts of all prompts, those of files and settings in place of built-in ones.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is no prompt.
    pub fn texts(&self) -> Result<PromptTexts, InjectError> {
        let mut texts = PromptTexts::built_in();
        if let Some(path) = &self.path {
            texts.read(path)?;
        }
        for (form, text) in [
            (PromptForm::Description, &self.description),
            (PromptForm::QuestionAnswer, &self.question_answer),
        ] {
            if let Some(text) = text {
                texts.set(form.as_str(), text.clone());
            }
        }
        Ok(texts)
    }
}

/// The variables of each prompt.
const VARIABLES: PromptVariables = PromptVariables { known: &["question", "answer"], required: &["answer"] };

/// The parsed prompts of error injection.
#[derive(Debug)]
pub struct Templates {
    prompts: PromptSet,
    form: Option<PromptForm>,
}

impl Templates {
    /// Reads and parses the prompts.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or a text does not parse, uses an unknown variable
    /// or does not use `answer`.
    pub fn new(config: &TemplateConfig) -> Result<Self, InjectError> {
        let prompts = PromptSet::new(&config.texts()?, |_| VARIABLES)?;
        Ok(Self { prompts, form: config.form })
    }

    /// Returns the form for a question.
    pub fn form(&self, question: &str) -> PromptForm {
        self.form.unwrap_or_else(|| PromptForm::of(question))
    }

    /// Renders the prompt for a wrong version of `answer` with a kind of error. `<image>` is removed
    /// from the question.
    ///
    /// # Errors
    /// Returns [`InjectError::TemplateRender`] if the template fails for these values.
    pub fn render(&self, kind: ErrorKind, question: &str, answer: &str) -> Result<String, InjectError> {
        let name = match kind {
            ErrorKind::Free => self.form(question).as_str(),
            kind => kind.as_str(),
        };
        let question = without_image_token(question);
        self.prompts.render(name, context! { question => question, answer => answer.trim() })
    }
}

/// Returns a question without the `<image>` token, which training data has at its start or end.
pub(crate) fn without_image_token(question: &str) -> String {
    question.replace("<image>", "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_form_depends_on_the_question() {
        let descriptions = [
            "<image>\nDescribe the image in detail.",
            "Can you describe this picture?",
            "Provide a brief description of the given image.\n<image>",
            "What do you see happening in this image?",
            "Walk through the important details of the image",
        ];
        for question in descriptions {
            assert_eq!(PromptForm::of(question), PromptForm::Description, "{question}");
        }
        let questions =
            ["Is there a dog in the picture?", "Give the price of the knife.", "", "<image>", "Écrivez ?"];
        for question in questions {
            assert_eq!(PromptForm::of(question), PromptForm::QuestionAnswer, "{question}");
        }
    }

    #[test]
    fn built_in_prompts_end_with_the_answer_and_have_no_image_token() {
        let templates = Templates::new(&TemplateConfig::default()).unwrap();
        let prompt = templates.render(ErrorKind::Free, "<image>\nHow many coins?", " 24. ").unwrap();
        assert!(prompt.ends_with("Question: How many coins? Response: 24. Modified response:"), "{prompt}");
        assert!(!prompt.contains("<image>"));
        let prompt = templates.render(ErrorKind::Free, "Describe the image.", "A cat.").unwrap();
        assert!(prompt.ends_with("Description: A cat.\nModified description:"), "{prompt}");
        assert!(!prompt.contains("Describe the image."));
    }

    #[test]
    fn markup_in_an_answer_is_not_escaped() {
        let templates = Templates::new(&TemplateConfig::default()).unwrap();
        let prompt = templates.render(ErrorKind::Free, "What?", "{{ question }} & <b>").unwrap();
        assert!(prompt.contains("Response: {{ question }} & <b> Modified"), "{prompt}");
    }

    #[test]
    fn custom_text_replaces_the_built_in_prompt() {
        let config = TemplateConfig::default()
            .with_form(PromptForm::Description)
            .with_text(PromptForm::Description, "{{ question }}|{{ answer }}");
        let templates = Templates::new(&config).unwrap();
        assert_eq!(templates.render(ErrorKind::Free, "How many?", "two").unwrap(), "How many?|two");
    }

    #[test]
    fn invalid_templates_are_errors() {
        let with = |text: &str| {
            Templates::new(&TemplateConfig::default().with_text(PromptForm::QuestionAnswer, text))
                .unwrap_err()
        };
        assert!(matches!(with("{{ answer"), InjectError::TemplateSyntax { name: "question-answer", .. }));
        assert!(
            matches!(with("{{ answer }} {{ respose }}"), InjectError::TemplateVariable { found, .. } if found == "respose")
        );
        assert!(matches!(with("{{ question }}"), InjectError::TemplateWithout { required: "answer", .. }));
    }

    #[test]
    fn template_that_fails_to_render_is_an_error() {
        let config =
            TemplateConfig::default().with_text(PromptForm::QuestionAnswer, "{{ answer.missing.deeper }}");
        let templates = Templates::new(&config).unwrap();
        assert!(matches!(
            templates.render(ErrorKind::Free, "Who?", "x"),
            Err(InjectError::TemplateRender { .. })
        ));
    }
}
