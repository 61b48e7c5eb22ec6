//! From a conversation to the text a model was trained on.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::{Environment, Value, context};
use serde::Deserialize;

use super::files::{read_json, read_text};
use super::special::SpecialTokens;
use super::text::strip_end;
use super::{IMAGE_TOKEN, ProcessorError, jinja};

/// LLaVA's `conv_vicuna_v1`, with which LLaVA-1.5 was trained, as a template.
///
/// Source: `conv_vicuna_v1` in `llava/conversation.py` (separators `" "` and `"</s>"`); `conv_llava_v1` beside it says
/// "human" for "user".
const VICUNA_V1: &str = "\
{% if not messages or messages[0]['role'] != 'system' %}\
{{ 'A chat between a curious user and an artificial intelligence assistant. ' }}\
{{ \"The assistant gives helpful, detailed, and polite answers to the user's questions. \" }}\
{% endif %}\
{% for message in messages %}\
{% set text = message['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join %}\
{% if message['role'] == 'system' %}{{ text + ' ' }}\
{% elif message['role'] == 'user' %}\
{% set images = message['content'] | selectattr('type', 'equalto', 'image') | list %}\
{{ 'USER: ' + ('<image>\\n' + text if images and text else '<image>' if images else text) + ' ' }}\
{% else %}{{ 'ASSISTANT: ' + text + eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// The role of the message that comes before a conversation.
const SYSTEM: &str = "system";

/// What the user said and the assistant answered, earlier in the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The user's text, with `<image>` in it or not.
    pub prompt: String,
    /// The assistant's text.
    pub answer: String,
}

impl Turn {
    /// A finished turn.
    pub fn new(prompt: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), answer: answer.into() }
    }
}

/// A rendered conversation that ends with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Everything up to where the answer begins.
    pub prompt: String,
    /// The answer as it follows the prompt, with the space between them and with EOS once at its end.
    pub answer: String,
}

/// The form in which a template takes what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// A list of `{type: image}` and `{type: text, text}`.
    Parts,
    /// One string, with `<image>` and a new line in front.
    Text,
}

/// The chat template of a checkpoint, or LLaVA's own conversation where it has none.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    origin: String,
    content: Content,
    takes_system: bool,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, `chat_template.json`, or the `chat_template` of `processor_config.json` or
    /// `tokenizer_config.json`, in this order; of several templates the one called `default`. Where there is none, the
    /// conversation is LLaVA's vicuna v1.
    ///
    /// # Errors
    /// [`ProcessorError::Read`] and [`ProcessorError::Json`] for a file, [`ProcessorError::Value`] for a list without a
    /// `default`, and those of [`new`](Self::new).
    pub fn from_dir(dir: impl AsRef<Path>, special: &SpecialTokens) -> Result<Self, ProcessorError> {
        match find(dir.as_ref())? {
            Some((source, file)) => Self::new(&source, file, special),
            None => Self::vicuna_v1(special),
        }
    }

    /// LLaVA's vicuna v1 conversation.
    ///
    /// # Errors
    /// None that a user could cause; see [`new`](Self::new).
    pub fn vicuna_v1(special: &SpecialTokens) -> Result<Self, ProcessorError> {
        Self::new(VICUNA_V1, "LLaVA's vicuna v1", special)
    }

    /// Compiles a template, and finds out by rendering whether it takes lists of parts or strings, and whether it has a
    /// place for a system message.
    ///
    /// # Errors
    /// [`ProcessorError::Template`] if it does not compile or render, [`ProcessorError::TemplateDropsText`] if what the
    /// user says is not in the result.
    pub fn new(
        source: &str,
        origin: impl Into<String>,
        special: &SpecialTokens,
    ) -> Result<Self, ProcessorError> {
        let origin = origin.into();
        let environment = jinja::compile(source)
            .map_err(|source| ProcessorError::Template { origin: origin.clone(), source })?;
        let bos = special.bos.as_ref().map(|token| token.text.clone()).unwrap_or_default();
        let mut chat = Self {
            environment,
            origin,
            content: Content::Parts,
            takes_system: false,
            bos,
            eos: special.eos.text.clone(),
        };
        chat.content = chat.detect_content()?;
        chat.takes_system = chat.detect_system();
        Ok(chat)
    }

    /// Whether the template has a place for a system message. One that refuses the role, or does not print what such a
    /// message says, has none.
    #[must_use]
    pub fn takes_system(&self) -> bool {
        self.takes_system
    }

    /// The text up to where the next answer begins.
    ///
    /// `<image>` is taken out of the prompts wherever it is, as LLaVA does. With `image`, it is given to the template
    /// as part of the first turn. `system` is the text of a system message in front of the conversation.
    ///
    /// # Errors
    /// [`ProcessorError::NoSystem`] for a system message where the template [takes none](Self::takes_system);
    /// [`ProcessorError::Template`] if the template refuses the conversation.
    pub fn render(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        image: bool,
    ) -> Result<String, ProcessorError> {
        self.run(self.messages(system, history, prompt, image)?, true)
    }

    /// The text up to where the answer begins, and the answer as the template puts it there, with EOS once at its end.
    ///
    /// # Errors
    /// [`ProcessorError::EmptyAnswer`]; [`ProcessorError::AnswerNotAppended`] if the conversation with the answer does
    /// not begin like the one that asks for it; those of [`render`](Self::render).
    pub fn render_with_answer(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        answer: &str,
        image: bool,
    ) -> Result<Rendered, ProcessorError> {
        let answer = strip_end(answer, &self.eos);
        if answer.trim().is_empty() {
            return Err(ProcessorError::EmptyAnswer);
        }
        let mut messages = self.messages(system, history, prompt, image)?;
        let prompt = self.run(messages.clone(), true)?;
        messages.push(self.message("assistant", answer, false));
        let with_answer = self.run(messages, false)?;
        match with_answer.strip_prefix(&prompt) {
            Some(rest) => {
                Ok(Rendered { answer: format!("{}{}", strip_end(rest, &self.eos), self.eos), prompt })
            }
            None => {
                Err(ProcessorError::AnswerNotAppended { origin: self.origin.clone(), prompt, with_answer })
            }
        }
    }

    fn messages(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        image: bool,
    ) -> Result<Vec<Value>, ProcessorError> {
        let mut messages = Vec::with_capacity(2 * history.len() + 3);
        if let Some(system) = system {
            if !self.takes_system {
                return Err(ProcessorError::NoSystem { origin: self.origin.clone() });
            }
            messages.push(self.message(SYSTEM, system, false));
        }
        for (i, turn) in history.iter().enumerate() {
            messages.push(self.message("user", &without_image_token(&turn.prompt), image && i == 0));
            messages.push(self.message("assistant", strip_end(&turn.answer, &self.eos), false));
        }
        messages.push(self.message("user", &without_image_token(prompt), image && history.is_empty()));
        Ok(messages)
    }

    fn message(&self, role: &str, text: &str, image: bool) -> Value {
        let content = match self.content {
            Content::Parts => {
                let image = image.then(|| context! { type => "image" });
                let text = context! { type => "text", text };
                Value::from(image.into_iter().chain([text]).collect::<Vec<_>>())
            }
            Content::Text if image => Value::from(format!("{IMAGE_TOKEN}\n{text}")),
            Content::Text => Value::from(text),
        };
        context! { role, content }
    }

    fn run(&self, messages: Vec<Value>, add_generation_prompt: bool) -> Result<String, ProcessorError> {
        let context = context! {
            messages, add_generation_prompt, bos_token => &self.bos, eos_token => &self.eos,
        };
        let rendered =
            self.environment.get_template(jinja::NAME).and_then(|template| template.render(context));
        rendered.map_err(|source| ProcessorError::Template { origin: self.origin.clone(), source })
    }

    /// Renders a system message in front of a prompt, and looks for what it says.
    fn detect_system(&self) -> bool {
        const SAID: &str = "bpo-system";
        let messages = vec![self.message(SYSTEM, SAID, false), self.message("user", "bpo-said", false)];
        self.run(messages, true).is_ok_and(|text| text.contains(SAID))
    }

    /// A template that wants strings fails on a list, or prints it. A list printed shows a key that no template reads.
    fn detect_content(&self) -> Result<Content, ProcessorError> {
        const SAID: &str = "bpo-said";
        const HIDDEN: &str = "bpo-hidden";
        let ask = |content: Value| self.run(vec![context! { role => "user", content }], true);
        let part = context! { type => "text", text => SAID, unread => HIDDEN };
        let parts = ask(Value::from(vec![part]));
        if parts.as_ref().is_ok_and(|text| text.contains(SAID) && !text.contains(HIDDEN)) {
            return Ok(Content::Parts);
        }
        match ask(Value::from(SAID)) {
            Ok(text) if text.contains(SAID) => Ok(Content::Text),
            Ok(_) => parts.and(Err(ProcessorError::TemplateDropsText { origin: self.origin.clone() })),
            Err(error) => Err(error),
        }
    }
}

/// LLaVA's `preprocess_multimodal`: with the token go the line break or space beside it.
fn without_image_token(text: &str) -> String {
    if !text.contains(IMAGE_TOKEN) {
        return text.to_owned();
    }
    text.replace(IMAGE_TOKEN, "").trim().to_owned()
}

/// The forms in which a `chat_template` is written in JSON.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a template, a list of {name, template}, or a map from names to templates"
)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
    Map(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Templates {
    /// The template to chat with, or the names of those that are there.
    fn into_default(self) -> Result<String, String> {
        const DEFAULT: &str = "default";
        let mut named = match self {
            Self::One(template) => return Ok(template),
            Self::Named(list) => list.into_iter().map(|t| (t.name, t.template)).collect(),
            Self::Map(map) => map,
        };
        named.remove(DEFAULT).ok_or_else(|| format!("{:?}", named.keys().collect::<Vec<_>>()))
    }
}

/// The checkpoint's template and the name of its file.
fn find(dir: &Path) -> Result<Option<(String, &'static str)>, ProcessorError> {
    #[derive(Deserialize)]
    struct Holder {
        chat_template: Option<Templates>,
    }
    const JINJA: &str = "chat_template.jinja";
    if let Some(source) = read_text(&dir.join(JINJA))? {
        return Ok(Some((source, JINJA)));
    }
    for name in ["chat_template.json", "processor_config.json", "tokenizer_config.json"] {
        let path = dir.join(name);
        let Some(templates) = read_json::<Holder>(&path)?.and_then(|holder| holder.chat_template) else {
            continue;
        };
        return match templates.into_default() {
            Ok(source) => Ok(Some((source, name))),
            Err(found) => Err(ProcessorError::Value {
                path,
                key: "chat_template",
                expected: "a template named default",
                found,
            }),
        };
    }
    Ok(None)
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
