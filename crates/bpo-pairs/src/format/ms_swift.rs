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

use serde::Serialize;
use serde_json::{Value, json};

use super::conversation::{NamedMessage, named, take_messages};
use super::fields::{Fields, wrong};
use super::images_field::paths;
use super::pair_keys::{PairKeysOut, pair_of_messages};
use crate::record::PreferencePair;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// Reads a pair, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    let messages = take_messages(&mut fields)?;
    let rejected = rejected(&mut fields, &messages)?;
    let other = paths("rejected_images", fields.take("rejected_images"))?;
    let pair = pair_of_messages(fields, messages, rejected, videos)?;
    if !other.is_empty() && other != pair.images {
        let expected = "the same images as `images`, because a pair differs only in its answers";
        return Err(wrong("rejected_images", expected, Some(&Value::from(other))));
    }
    Ok(pair)
}

/// Takes the rejected answer as a message.
fn rejected(fields: &mut Fields, messages: &[NamedMessage]) -> Result<NamedMessage, SkipCause> {
    let Some(value) = fields.take_some("rejected_messages") else {
        let text = fields.text("", "rejected_response")?;
        return Ok(("rejected_response".to_owned(), json!({"role": "assistant", "content": text})));
    };
    let mut other = named("rejected_messages", Some(value))?;
    let (last, before) = (other.pop(), messages.split_last().map_or(&[][..], |(_, before)| before));
    let same = other.iter().map(|(_, message)| message).eq(before.iter().map(|(_, message)| message));
    match last {
        Some(last) if same => Ok(last),
        _ => {
            let expected = "the messages of `messages` but for the last one";
            Err(wrong(
                "rejected_messages",
                expected,
                Some(&other.into_iter().map(|(_, value)| value).collect()),
            ))
        }
    }
}

/// A record.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
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
    pub(super) fn new(pair: &'a PreferencePair) -> Self {
        let message = |role, content| Message { role, content };
        let turns = pair.history.iter();
        let turns =
            turns.flat_map(|turn| [message("user", &turn.prompt), message("assistant", &turn.answer)]);
        let system = pair.system.iter().map(|system| message("system", system));
        let last = [message("user", &pair.prompt), message("assistant", &pair.chosen)];
        Self {
            keys: PairKeysOut::new(pair),
            messages: system.chain(turns).chain(last).collect(),
            rejected_response: &pair.rejected,
            images: &pair.images,
        }
    }
}
