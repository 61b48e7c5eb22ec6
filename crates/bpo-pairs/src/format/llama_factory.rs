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

use super::conversation::take_messages;
use super::fields::Fields;
use super::messages::{ALPACA, message, question};
use super::pair_keys::{PairKeysOut, pair_of_messages};
use super::value::Value;
use crate::pair_ref::PairRef;
use crate::record::PreferencePair;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// Reads a pair, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    let mut messages =
        if fields.has("instruction") { question(&mut fields, ALPACA)? } else { take_messages(&mut fields)? };
    let [chosen, rejected] =
        ["chosen", "rejected"].map(|key| (key.to_owned(), answer_value(fields.take(key))));
    messages.push(chosen);
    pair_of_messages(fields, messages, rejected, videos)
}

/// Returns an answer as a message. In the Alpaca form it is text.
fn answer_value(value: Option<Value>) -> Value {
    match value {
        Some(Value::String(text)) => message("assistant", text),
        value => value.unwrap_or(Value::Null),
    }
}

/// A record of the ShareGPT preference format.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    conversations: Vec<Message<'a>>,
    chosen: Message<'a>,
    rejected: Message<'a>,
    /// Empty without a system text: LLaMA-Factory fails on a column of its list that a file lacks.
    system: &'a str,
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
    pub(super) fn before_answer(pair: &'a PairRef<'a>) -> Vec<Self> {
        let turns = pair.history.iter().flat_map(|turn| [Self::human(&turn.prompt), Self::gpt(&turn.answer)]);
        turns.chain([Self::human(pair.prompt)]).collect()
    }
}

impl<'a> Row<'a> {
    pub(super) fn new(pair: &'a PairRef<'a>) -> Self {
        Self {
            keys: PairKeysOut::new(pair),
            conversations: Message::before_answer(pair),
            chosen: Message::gpt(pair.chosen),
            rejected: Message::gpt(pair.rejected),
            system: pair.system.unwrap_or_default(),
            images: pair.images,
        }
    }
}
