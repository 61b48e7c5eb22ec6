//! Chat templates: from a conversation to the text that a model was trained on.

use std::path::Path;

use bpo_pairs::Turn;
use minijinja::{Value, context};

use super::jinja::Template;
use super::sources::chat_template;
use super::special::{SpecialToken, SpecialTokens};
use super::{IMAGE_TOKEN, ProcessorError};

/// LLaVA's `conv_vicuna_v1` as a template. LLaVA-1.5 was trained with it.
///
/// Source: `conv_vicuna_v1` in `llava/conversation.py` (separators `" "` and `"</s>"`);
/// `conv_llava_v1` beside it says "human" for "user".
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
{{ 'USER: ' }}\
{% for image in images %}{{ '<image>' + ('\\n' if text or not loop.last else '') }}{% endfor %}\
{{ text + ' ' }}\
{% else %}{{ 'ASSISTANT: ' + text + eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// The role of the system message.
const SYSTEM: &str = "system";
/// The role of answers.
const ASSISTANT: &str = "assistant";

/// A rendered conversation that ends with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text up to where the answer begins.
    pub prompt: String,
    /// The answer as it follows the prompt, with the space between them and one end token at its
    /// end.
    pub answer: String,
}

/// The text that a template writes after an answer.
#[derive(Clone, Debug)]
struct End {
    token: SpecialToken,
    /// The text up to and including the token.
    tail: String,
    /// All of the text, with the white space after the token.
    after: String,
}

/// The form of a message's content that a template expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// A list of `{type: image}` and `{type: text, text}`.
    Parts,
    /// One string, with `<image>` and a line feed in front of the text for each image.
    Text,
}

/// A conversation that ends where an answer begins.
pub(super) struct Conversation {
    messages: Vec<Value>,
    /// The rendered text.
    pub(super) prompt: String,
}

/// The chat template of a checkpoint, or LLaVA's own conversation format where it has none.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    template: Template,
    origin: String,
    content: Content,
    takes_system: bool,
    end: Option<End>,
    special: SpecialTokens,
}

impl ChatTemplate {
    /// Reads the `chat_template` of `processor_config.json`, `chat_template.json`,
    /// `chat_template.jinja`, `additional_chat_templates/default.jinja`, or the `chat_template` of
    /// `tokenizer_config.json`, in this order. Of several templates in a file, the one named
    /// `default` is used. A warning names files that differ. Without a template, the format is
    /// LLaVA's vicuna v1.
    ///
    /// # Errors
    /// [`ProcessorError::Json`] for a file that cannot be used; [`ProcessorError::NoChatTemplate`]
    /// for a language model without one; and those of [`new`](Self::new).
    pub fn from_dir(dir: impl AsRef<Path>, special: &SpecialTokens) -> Result<Self, ProcessorError> {
        let dir = dir.as_ref();
        match chat_template(dir)? {
            Some((source, file)) => Self::new(&source, file, special),
            // LLaVA's format is not that of a language model
            None if special.image.is_none() => Err(ProcessorError::NoChatTemplate { dir: dir.to_owned() }),
            None => Self::vicuna_v1(special),
        }
    }

    /// Creates LLaVA's vicuna v1 template.
    ///
    /// # Errors
    /// None that input can cause; see [`new`](Self::new).
    pub fn vicuna_v1(special: &SpecialTokens) -> Result<Self, ProcessorError> {
        Self::new(VICUNA_V1, "LLaVA's vicuna v1", special)
    }

    /// Compiles a template. Renders test conversations to find out whether the template takes lists
    /// of parts or strings, whether it has a place for a system message, and which token it writes
    /// after an answer.
    ///
    /// # Errors
    /// [`ProcessorError::Template`] if it does not compile or render, or is above a limit;
    /// [`ProcessorError::TemplateDropsText`] if the result does not contain the text of the user.
    pub fn new(
        source: &str,
        origin: impl Into<String>,
        special: &SpecialTokens,
    ) -> Result<Self, ProcessorError> {
        let origin = origin.into();
        let template = Template::compile(source)
            .map_err(|source| ProcessorError::Template { origin: origin.clone(), source })?;
        let special = special.clone();
        let mut chat =
            Self { template, origin, content: Content::Parts, takes_system: false, end: None, special };
        chat.content = chat.detect_content()?;
        chat.takes_system = chat.detect_system();
        chat.end = chat.detect_end();
        if let Some(end) = &chat.end {
            chat.special.set_end(end.token.clone());
        }
        Ok(chat)
    }

    /// Whether the template has a place for a system message: it accepts the role, and writes the
    /// text of the message.
    #[must_use]
    pub fn takes_system(&self) -> bool {
        self.takes_system
    }

    /// The token that the template writes after an answer, if any. It ends a turn.
    #[must_use]
    pub fn end(&self) -> Option<&SpecialToken> {
        self.end.as_ref().map(|end| &end.token)
    }

    /// The file of the template.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Renders the text up to where the next answer begins.
    ///
    /// If there are several `images` and the prompts have an `<image>` for each of them, the images
    /// stand there. Otherwise they are part of the first turn, in front of its text, and `<image>`
    /// is removed from the prompts wherever it is, as LLaVA does. `system` is the text of a system
    /// message in front of the conversation.
    ///
    /// # Errors
    /// [`ProcessorError::NoSystem`] for a system message where the template [has no
    /// place](Self::takes_system) for it; [`ProcessorError::Template`] if the template fails on the
    /// conversation.
    pub fn render(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        images: usize,
    ) -> Result<String, ProcessorError> {
        self.run(self.messages(system, history, prompt, images)?, true)
    }

    /// Renders the text up to where the answer begins, and the answer as the template writes it, up
    /// to and including the [token](Self::end) after it. Text after this token, such as the line
    /// end in ChatML, is left out. Where the template writes no token, the answer ends with EOS.
    ///
    /// # Errors
    /// [`ProcessorError::EmptyAnswer`]; [`ProcessorError::AnswerNotAppended`] if the rendering with
    /// the answer does not begin with the rendering that asks for it; those of
    /// [`render`](Self::render).
    pub fn render_with_answer(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        answer: &str,
        images: usize,
    ) -> Result<Rendered, ProcessorError> {
        let conversation = self.conversation(system, history, prompt, images)?;
        let answer = self.ended_answer(&conversation, answer)?;
        Ok(Rendered { prompt: conversation.prompt, answer })
    }

    /// Renders a conversation up to where the next answer begins. Several answers can be rendered
    /// after it.
    pub(super) fn conversation(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        images: usize,
    ) -> Result<Conversation, ProcessorError> {
        let messages = self.messages(system, history, prompt, images)?;
        let prompt = self.run(messages.clone(), true)?;
        Ok(Conversation { messages, prompt })
    }

    /// Renders an answer after a conversation, up to and including the token that ends it.
    pub(super) fn ended_answer(
        &self,
        conversation: &Conversation,
        answer: &str,
    ) -> Result<String, ProcessorError> {
        let mut answer = self.answer_prefix(conversation, answer)?;
        answer.push_str(self.end.as_ref().map_or(&self.special.eos.text, |end| &end.tail));
        Ok(answer)
    }

    /// Renders an answer after a conversation, without an end token.
    pub(super) fn answer_prefix(
        &self,
        conversation: &Conversation,
        answer: &str,
    ) -> Result<String, ProcessorError> {
        let answer = self.special.strip_end(answer);
        if answer.trim().is_empty() {
            return Err(ProcessorError::EmptyAnswer);
        }
        let Conversation { messages, prompt } = conversation;
        let mut messages = messages.clone();
        messages.push(self.message(ASSISTANT, answer, 0));
        let with_answer = self.run(messages, false)?;
        let Some(rest) = with_answer.strip_prefix(prompt.as_str()) else {
            let (origin, prompt) = (self.origin.clone(), prompt.clone());
            return Err(ProcessorError::AnswerNotAppended { origin, prompt, with_answer });
        };
        let after = self.end.as_ref().map(|end| end.after.as_str());
        let answer = after.and_then(|after| rest.strip_suffix(after));
        Ok(answer.unwrap_or_else(|| self.special.strip_end(rest)).to_owned())
    }

    fn messages(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        images: usize,
    ) -> Result<Vec<Value>, ProcessorError> {
        let mut messages = Vec::with_capacity(2 * history.len() + 3);
        if let Some(system) = system {
            if !self.takes_system {
                return Err(ProcessorError::NoSystem { origin: self.origin.clone() });
            }
            messages.push(self.message(SYSTEM, system, 0));
        }
        let questions = history.iter().map(|turn| turn.prompt.as_str()).chain([prompt]);
        let tokens: usize = questions.map(|question| question.matches(IMAGE_TOKEN).count()).sum();
        let in_place = images > 1 && tokens == images;
        let question = |text: &str, is_first: bool| {
            if in_place {
                return self.message_of("user", pieces(text));
            }
            let images = if is_first { images } else { 0 };
            // a language model has no image token, so the text is nothing but text
            match self.special.image {
                Some(_) => self.message("user", &without_image_token(text), images),
                None => self.message("user", text, images),
            }
        };
        for (i, turn) in history.iter().enumerate() {
            messages.push(question(&turn.prompt, i == 0));
            messages.push(self.message(ASSISTANT, self.special.strip_end(&turn.answer), 0));
        }
        messages.push(question(prompt, history.is_empty()));
        Ok(messages)
    }

    /// Creates a message with images in front of its text.
    fn message(&self, role: &str, text: &str, images: usize) -> Value {
        self.message_of(role, (0..images).map(|_| Piece::Image).chain([Piece::Text(text)]))
    }

    fn message_of<'a>(&self, role: &str, pieces: impl IntoIterator<Item = Piece<'a>>) -> Value {
        let pieces = pieces.into_iter();
        let content = match self.content {
            Content::Parts => {
                let part = |piece| match piece {
                    Piece::Image => context! { type => "image" },
                    Piece::Text(text) => context! { type => "text", text },
                };
                Value::from(pieces.map(part).collect::<Vec<_>>())
            }
            Content::Text => {
                let mut all = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Image => all.extend([IMAGE_TOKEN, "\n"]),
                        Piece::Text(text) => all.push_str(text),
                    }
                }
                Value::from(all)
            }
        };
        context! { role, content }
    }

    fn run(&self, messages: Vec<Value>, add_generation_prompt: bool) -> Result<String, ProcessorError> {
        let (count, bytes) = (messages.len(), messages.iter().map(text_bytes).sum());
        let named = self.special.named.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        // transformers passes `None` for both
        let context = context! {
            messages, add_generation_prompt, tools => (), documents => (),
            ..Value::from_pairs(named)
        };
        let rendered = self.template.render(context, count, bytes);
        rendered.map_err(|source| ProcessorError::Template { origin: self.origin.clone(), source })
    }

    /// Renders messages given in JSON.
    #[cfg(test)]
    pub(super) fn render_messages(&self, messages: &serde_json::Value) -> Result<String, ProcessorError> {
        fn value(json: &serde_json::Value) -> Value {
            match json {
                serde_json::Value::Array(items) => items.iter().map(value).collect(),
                // the recorded order of keys: type of a part, role of a message
                serde_json::Value::Object(map) => {
                    let mut keys: Vec<_> = map.keys().collect();
                    keys.sort_by_key(|key| !["type", "role"].contains(&key.as_str()));
                    Value::from_pairs(keys.into_iter().map(|key| (key.as_str(), value(&map[key]))))
                }
                serde_json::Value::String(text) => Value::from(text.as_str()),
                other => unreachable!("{other}"),
            }
        }
        self.run(messages.as_array().into_iter().flatten().map(value).collect(), true)
    }

    /// Renders a system message in front of a prompt, and searches the output for it.
    fn detect_system(&self) -> bool {
        const SAID: &str = "bpo-system";
        let messages = vec![self.message(SYSTEM, SAID, 0), self.message("user", "bpo-said", 0)];
        self.run(messages, true).is_ok_and(|text| text.contains(SAID))
    }

    /// Renders an answer at the end of a conversation, and searches for the first token after it.
    fn detect_end(&self) -> Option<End> {
        const SAID: &str = "bpo-answer";
        let messages = vec![self.message("user", "bpo-said", 0), self.message(ASSISTANT, SAID, 0)];
        let text = self.run(messages, false).ok()?;
        let after = &text[text.rfind(SAID)? + SAID.len()..];
        let tokens = self.special.added.iter().chain([&self.special.eos]);
        // some tokenizers have white space among their added tokens
        let found = tokens
            .filter(|token| !token.text.trim().is_empty() && Some(*token) != self.special.image.as_ref());
        // the longest of those that begin at the same place
        let found = found.filter_map(|token| Some((after.find(&token.text)?, token)));
        let (at, token) = found.min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.text.len())))?;
        let tail = after[..at + token.text.len()].to_owned();
        Some(End { token: token.clone(), tail, after: after.to_owned() })
    }

    /// Finds the form of content that the template takes. A template that takes strings fails on a
    /// list, or prints it; a printed list shows a key that no template reads.
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

/// Bytes of text of a message.
fn text_bytes(message: &Value) -> usize {
    let len = |value: &Value| value.as_str().map_or(0, str::len);
    let content = message.get_attr("content").unwrap_or_default();
    if content.as_str().is_some() {
        return len(&content);
    }
    let parts = content.try_iter().into_iter().flatten();
    parts.map(|part| part.get_attr("text").as_ref().map_or(0, len)).sum()
}

/// A part of a message.
enum Piece<'a> {
    Image,
    Text(&'a str),
}

/// Splits a question at its image tokens. A line break beside a token is dropped.
fn pieces(question: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut texts = question.split(IMAGE_TOKEN).peekable();
    let mut is_after_image = false;
    while let Some(text) = texts.next() {
        let text = if is_after_image { text.strip_prefix('\n').unwrap_or(text) } else { text };
        let is_before_image = texts.peek().is_some();
        let text = if is_before_image { text.strip_suffix('\n').unwrap_or(text) } else { text };
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        if is_before_image {
            pieces.push(Piece::Image);
        }
        is_after_image = true;
    }
    pieces
}

/// Removes the image token as LLaVA's `preprocess_multimodal` does, with the line break or space
/// beside it.
fn without_image_token(text: &str) -> String {
    if !text.contains(IMAGE_TOKEN) {
        return text.to_owned();
    }
    text.replace(IMAGE_TOKEN, "").trim().to_owned()
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
