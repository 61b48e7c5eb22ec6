//! The messages of a record, under the keys of several programs.
//!
//! - `conversations` or `messages`: LLaVA, OpenAI
//! - `conversation`, with `human` and `assistant` in each turn: ms-swift
//! - `query`, `response` and `history`: ms-swift
//! - `instruction`, `input`, `output` and `history`: Alpaca
//! - `question` and `answer`: data sets for visual question answering

use super::conversation::{Conversation, NamedMessage, named, take_messages};
use super::fields::{Fields, list, object, text, turns};
use super::value::Value;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// The keys of a question in the Alpaca form.
pub(super) const ALPACA: &[&str] = &["instruction", "input"];

/// Keys of a question, and the key of its answer.
const QUESTIONS: [(&[&str], &str); 3] =
    [(&["query"], "response"), (ALPACA, "output"), (&["question"], "answer")];

/// Returns whether a record has messages in any form.
pub(super) fn has_messages(fields: &Fields) -> bool {
    let has = |key: &str| fields.has(key);
    ["conversations", "messages", "conversation"].into_iter().any(has)
        || QUESTIONS.iter().any(|(question, answer)| has(question[0]) && has(answer))
}

/// Reads the conversation of a record, in any form.
pub(super) fn read_conversation(
    fields: &mut Fields,
    videos: &dyn VideoFrames,
) -> Result<Conversation, SkipCause> {
    let messages = take_any_messages(fields)?;
    Conversation::of(fields, messages, videos)
}

/// Takes the messages in any form. They end with an answer.
pub(super) fn take_any_messages(fields: &mut Fields) -> Result<Vec<NamedMessage>, SkipCause> {
    if let Some(value) = fields.take_some("conversation") {
        return conversation(value);
    }
    let has_messages = fields.has("messages") || fields.has("conversations");
    match QUESTIONS.into_iter().find(|(question, _)| fields.has(question[0]) && !has_messages) {
        None => take_messages(fields),
        Some((keys, answer)) => {
            let mut messages = question(fields, keys)?;
            messages.push(assistant(answer.to_owned(), fields.text("", answer)?));
            Ok(messages)
        }
    }
}

/// Returns the messages of turns that have a question and its answer each.
fn conversation(value: Value) -> Result<Vec<NamedMessage>, SkipCause> {
    let mut messages = Vec::new();
    for (i, turn) in turns("conversation", 1, Some(value))?.into_iter().enumerate() {
        let at = format!("conversation[{i}]");
        let mut turn = object(&at, Some(turn))?;
        let (at, key) = (format!("{at}."), "human");
        messages.push((format!("{at}{key}"), message("user", turn.text(&at, key)?)));
        messages.push(assistant(format!("{at}assistant"), turn.text(&at, "assistant")?));
    }
    Ok(messages)
}

/// Takes a question, which may be divided among keys, and the pairs of texts under `history` as
/// messages. A part without text is left out.
pub(super) fn question(fields: &mut Fields, keys: &[&str]) -> Result<Vec<NamedMessage>, SkipCause> {
    let parts = keys.iter().map(|key| fields.optional_text(key)).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let history = fields.take_some("history").map(|value| list("history", "a list of turns", Some(value)));
    let mut messages = Vec::new();
    for (i, turn) in history.transpose()?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("history[{i}]");
        for (part, role) in
            list(&at, "a question and its answer", Some(turn))?.into_iter().zip(["user", "assistant"])
        {
            messages.push(message(role, text(&at, Some(part))?));
        }
    }
    messages.push(message("user", parts.join("\n")));
    named(keys[0], Some(Value::Array(messages)))
}

/// Returns a message of the assistant.
pub(super) fn assistant(at: String, text: String) -> NamedMessage {
    (at, message("assistant", text))
}

/// Returns a message without its path.
pub(super) fn message(role: &str, text: String) -> Value {
    Value::object([("role", role.into()), ("content", text.into())])
}
