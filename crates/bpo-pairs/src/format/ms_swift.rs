//! ms-swift's preference format.
//!
//! ```json
//! {"messages": [{"role": "user", "content": "<image>.."}, {"role": "assistant", "content": ".."}],
//!  "rejected_response": "..", "images": [".."]}
//! ```
//!
//! `messages` ends with the chosen answer. In place of `rejected_response`, a record can have
//! `rejected_messages`, whose earlier messages must be those of `messages`. A pair has the same images
//! on both sides, so `rejected_images` must equal `images`.
//!
//! The margin of a pair is under `score_margin`: ms-swift passes `margin` to its reward loss, and in
//! DPO to the model.
//!
//! The forms that ms-swift converts to `messages` are read, too: `query`, `response` and `history`;
//! `instruction`, `input` and `output`; `conversation` with `human` and `assistant` in each turn.

use serde::Serialize;

use super::conversation::{NamedMessage, named};
use super::fields::{Fields, wrong};
use super::images_field::paths;
use super::input::Answers;
use super::messages::{assistant, take_any_messages};
use super::pair_keys::{PairKeysOut, pair_of_messages};
use super::value::Value;
use crate::pair_ref::PairRef;
use crate::record::PreferencePair;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// The key of a pair's margin.
pub(super) const MARGIN: &str = "score_margin";

/// Reads a pair, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    if let Some(margin) = fields.take(MARGIN) {
        fields.put("margin", margin);
    }
    let messages = take_any_messages(&mut fields, Answers::Required)?;
    let rejected = rejected(&mut fields, &messages)?;
    let other = paths("rejected_images", fields.take("rejected_images"))?;
    let pair = pair_of_messages(fields, messages, rejected, videos)?;
    if !other.is_empty() && other != pair.images {
        let expected = "the same images as `images`, because a pair differs only in its answers";
        return Err(wrong("rejected_images", expected, Some(&Value::from(other))));
    }
    Ok(pair)
}

/// Takes the rejected answer as a message. `rejected_response` is text or a list of one message.
fn rejected(fields: &mut Fields, messages: &[NamedMessage]) -> Result<NamedMessage, SkipCause> {
    let Some(value) = fields.take_some("rejected_messages") else {
        let key = "rejected_response";
        return match fields.take(key) {
            Some(Value::Array(mut list)) if list.len() == 1 => Ok((format!("{key}[0]"), list.remove(0))),
            Some(Value::String(text)) => Ok(assistant(key.to_owned(), text)),
            other => Err(wrong(key, "text or one message", other.as_ref())),
        };
    };
    let mut other = named("rejected_messages", Some(value))?;
    let (last, before) = (other.pop(), messages.split_last().map_or(&[][..], |(_, before)| before));
    let same = other.iter().map(|(_, message)| message).eq(before.iter().map(|(_, message)| message));
    match last {
        Some(last) if same => Ok(last),
        _ => {
            let expected = "the messages of `messages` but for the last one";
            let found = Value::Array(other.into_iter().map(|(_, message)| message).collect());
            Err(wrong("rejected_messages", expected, Some(&found)))
        }
    }
}

/// A record.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score_margin: Option<f64>,
    messages: Vec<Message<'a>>,
    rejected_response: &'a str,
    images: &'a [String],
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> Row<'a> {
    pub(super) fn new(pair: &'a PairRef<'a>) -> Self {
        let message = |role, content| Message { role, content };
        let turns = pair.history.iter();
        let turns =
            turns.flat_map(|turn| [message("user", &turn.prompt), message("assistant", &turn.answer)]);
        let system = pair.system.into_iter().map(|system| message("system", system));
        let last = [message("user", pair.prompt), message("assistant", pair.chosen)];
        Self {
            keys: PairKeysOut::new(pair).without_margin(),
            score_margin: pair.margin,
            messages: system.chain(turns).chain(last).collect(),
            rejected_response: pair.rejected,
            images: pair.images,
        }
    }
}
