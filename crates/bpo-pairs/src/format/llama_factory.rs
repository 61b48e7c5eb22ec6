//! LLaMA-Factory's preference formats.
//!
//! ```json
//! {"conversations": [{"from": "human", "value": "<image>\n.."}],
//!  "chosen": {"from": "gpt", "value": ".."}, "rejected": {"from": "gpt", "value": ".."},
//!  "system": "..", "images": [".."]}
//! ```
//!
//! `messages` with `role` and `content` are read, too (its OpenAI form), and so is the Alpaca form:
//! `instruction`, `input`, `history`, `chosen` and `rejected`.

use serde::Serialize;
use serde_json::{Value, json};

use super::conversation::{NamedMessage, named, take_messages};
use super::fields::{Fields, list, text};
use super::pair_keys::{PairKeysOut, pair_of_messages};
use crate::record::PreferencePair;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// Reads a pair, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    let mut messages =
        if fields.has("instruction") { alpaca(&mut fields)? } else { take_messages(&mut fields)? };
    let [chosen, rejected] =
        ["chosen", "rejected"].map(|key| (key.to_owned(), answer_value(fields.take(key))));
    messages.push(chosen);
    pair_of_messages(fields, messages, rejected, videos)
}

/// Returns an answer as a message. In the Alpaca form it is text.
fn answer_value(value: Option<Value>) -> Value {
    match value {
        Some(Value::String(text)) => json!({"from": "gpt", "value": text}),
        value => value.unwrap_or_default(),
    }
}

/// Takes the question and the earlier turns of the Alpaca form as messages.
fn alpaca(fields: &mut Fields) -> Result<Vec<NamedMessage>, SkipCause> {
    let mut question = fields.text("", "instruction")?;
    if let Some(input) = fields.optional_text("input")?.filter(|input| !input.is_empty()) {
        question = format!("{question}\n{input}");
    }
    let history = fields.take_some("history").map(|value| list("history", "a list of turns", Some(value)));
    let mut messages = Vec::new();
    for (i, turn) in history.transpose()?.unwrap_or_default().into_iter().enumerate() {
        let at = format!("history[{i}]");
        for (part, role) in
            list(&at, "a question and its answer", Some(turn))?.into_iter().zip(["human", "gpt"])
        {
            let value = text(&at, Some(part))?;
            messages.push(json!({"from": role, "value": value}));
        }
    }
    messages.push(json!({"from": "human", "value": question}));
    named("instruction", Some(Value::Array(messages)))
}

/// A record of the ShareGPT preference format.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    conversations: Vec<Message<'a>>,
    chosen: Message<'a>,
    rejected: Message<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    images: &'a [String],
}

/// A message with the keys and roles of ShareGPT.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    from: &'static str,
    value: &'a str,
}

impl<'a> Message<'a> {
    pub(super) fn human(value: &'a str) -> Self {
        Self { from: "human", value }
    }

    pub(super) fn gpt(value: &'a str) -> Self {
        Self { from: "gpt", value }
    }

    /// Returns the messages before the answer of a pair.
    pub(super) fn before_answer(pair: &'a PreferencePair) -> Vec<Self> {
        let turns = pair.history.iter().flat_map(|turn| [Self::human(&turn.prompt), Self::gpt(&turn.answer)]);
        turns.chain([Self::human(&pair.prompt)]).collect()
    }
}

impl<'a> Row<'a> {
    pub(super) fn new(pair: &'a PreferencePair) -> Self {
        Self {
            keys: PairKeysOut::new(pair),
            conversations: Message::before_answer(pair),
            chosen: Message::gpt(&pair.chosen),
            rejected: Message::gpt(&pair.rejected),
            system: pair.system.as_deref(),
            images: &pair.images,
        }
    }
}
