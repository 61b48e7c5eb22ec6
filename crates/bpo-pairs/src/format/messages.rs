//! The messages of a record, under the keys of several programs.
//!
//! - `conversations` or `messages`: LLaVA, OpenAI
//! - `conversation`, with `human` and `assistant` in each turn: ms-swift
//! - `query`, `response` and `history`: ms-swift
//! - `instruction`, `input`, `output` and `history`: Alpaca
//! - `question` and `answer`: data sets for visual question answering

use super::conversation::{Conversation, NamedMessage, take_messages};
use super::fields::{Fields, list, object, text, turns, wrong};
use super::input::Answers;
use super::value::Value;
use crate::skipped::{SkipCause, SkipReason};
use crate::video::VideoFrames;

/// The keys of a question in the Alpaca form.
pub(super) const ALPACA: &[&str] = &["instruction", "input"];

/// Keys of a question, and the key of its answer.
const QUESTIONS: [(&[&str], &str); 3] =
    [(&["query"], "response"), (ALPACA, "output"), (&["question"], "answer")];

/// Returns whether a record has messages in any form, and no rejected answer beside a question.
pub(super) fn has_messages(fields: &Fields) -> bool {
    let is_pair = fields.has("chosen") || fields.has("rejected");
    has_turns(fields) || has_conversation(fields) || !is_pair && question_keys(fields).is_some()
}

fn has_turns(fields: &Fields) -> bool {
    fields.has("messages") || fields.has("conversations")
}

/// Returns whether a record has the turns of ms-swift. Other data have a name under this key.
fn has_conversation(fields: &Fields) -> bool {
    matches!(fields.get("conversation"), Some(Value::Array(_)))
}

/// Returns whether a record has a question, with or without its answer.
pub(super) fn has_question(fields: &Fields) -> bool {
    QUESTIONS.iter().any(|(question, _)| fields.has(question[0]))
}

/// Returns the keys of the first question that has its answer.
fn question_keys(fields: &Fields) -> Option<(&'static [&'static str], &'static str)> {
    QUESTIONS.into_iter().find(|(question, answer)| fields.has(question[0]) && fields.has(answer))
}

/// Reads the conversation of a record, in any form.
pub(super) fn read_conversation(
    fields: &mut Fields,
    videos: &dyn VideoFrames,
    answers: Answers,
) -> Result<Conversation, SkipCause> {
    let messages = take_any_messages(fields, answers)?;
    Conversation::of(fields, messages, videos, answers)
}

/// Takes the messages in any form. They end with an answer if answers are used.
pub(super) fn take_any_messages(
    fields: &mut Fields,
    answers: Answers,
) -> Result<Vec<NamedMessage>, SkipCause> {
    if has_turns(fields) {
        return take_messages(fields);
    }
    if has_conversation(fields) {
        return conversation(fields.take("conversation"), answers);
    }
    // without an answer, the error names its key
    let of_question = || QUESTIONS.into_iter().find(|(question, _)| fields.has(question[0]));
    match question_keys(fields).or_else(of_question) {
        None => take_messages(fields),
        Some((keys, answer)) => {
            let mut messages = question(fields, keys)?;
            if answers == Answers::Required {
                messages.push(assistant(answer.to_owned(), fields.text("", answer)?));
            }
            Ok(messages)
        }
    }
}

/// Returns the messages of turns that have a question and its answer each. That of the last one is left
/// out if answers are not used.
fn conversation(value: Option<Value>, answers: Answers) -> Result<Vec<NamedMessage>, SkipCause> {
    let mut messages = Vec::new();
    let turns = turns("conversation", 1, value)?;
    if turns.is_empty() {
        return Err(SkipReason::NoTurns.into());
    }
    let last = turns.len() - 1;
    for (i, turn) in turns.into_iter().enumerate() {
        let at = format!("conversation[{i}]");
        let mut turn = object(&at, Some(turn))?;
        let (at, key) = (format!("{at}."), "human");
        messages.push((format!("{at}{key}"), message("user", turn.text(&at, key)?)));
        if i < last || answers == Answers::Required {
            messages.push(assistant(format!("{at}assistant"), turn.text(&at, "assistant")?));
        }
    }
    Ok(messages)
}

/// Takes a question, which may be divided among keys, and the pairs of texts under `history` as
/// messages. A part without text is left out.
pub(super) fn question(fields: &mut Fields, keys: &[&str]) -> Result<Vec<NamedMessage>, SkipCause> {
    let parts = keys.iter().map(|key| fields.optional_text(key)).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let history = fields.take_some("history").map(|value| turns("history", 1, Some(value)));
    let mut messages = Vec::new();
    for (i, turn) in history.transpose()?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("history[{i}]");
        let turn = list(&at, "a question and its answer", Some(turn))?;
        let [question, answer] = <[Value; 2]>::try_from(turn)
            .map_err(|turn| wrong(&at, "a question and its answer", Some(&Value::Array(turn))))?;
        for (part, value, role) in [(0, question, "user"), (1, answer, "assistant")] {
            let at = format!("{at}[{part}]");
            let text = text(&at, Some(value))?;
            messages.push((at, message(role, text)));
        }
    }
    messages.push((keys[0].to_owned(), message("user", parts.join("\n"))));
    Ok(messages)
}

/// Returns a message of the assistant.
pub(super) fn assistant(at: String, text: String) -> NamedMessage {
    (at, message("assistant", text))
}

/// Returns a message without its path.
pub(super) fn message(role: &str, text: String) -> Value {
    Value::object([("role", role.into()), ("content", text.into())])
}
