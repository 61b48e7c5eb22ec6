//! POVID's preference format (arXiv 2402.11411).
//!
//! ```json
//! {"id": "..", "image": "..",
//!  "conversations": [{"from": "human", "value": "<image>\n.."}, {"from": "gpt", "value": ".."}],
//!  "rejected_conversations": [{"from": "human", "value": "<image>\n.."}, {"from": "gpt", "value": ".."}]}
//! ```
//!
//! Each turn whose two answers differ becomes a pair, with the chosen answers of the turns before it
//! as history.

use serde::Serialize;

use super::conversation::{Conversation, named, take_messages};
use super::fields::{Fields, wrong};
use super::input::Answers;
use super::llama_factory::Message;
use super::pair_keys::{PairKeys, PairKeysOut};
use super::value::Value;
use crate::history::History;
use crate::pair_ref::PairRef;
use crate::record::PreferencePair;
use crate::sft::Turn;
use crate::skipped::{SkipCause, SkipReason};
use crate::video::VideoFrames;

/// Reads the pairs of a record, without their ids.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<Vec<PreferencePair>, SkipCause> {
    let rejected = named("rejected_conversations", fields.take("rejected_conversations"))?;
    let chosen = take_messages(&mut fields)?;
    let keys = PairKeys::take(&mut fields)?;
    let mut other = fields.clone();
    let conversation = Conversation::of(&mut fields, chosen, videos, Answers::Required)?;
    let other = Conversation::of(&mut other, rejected, videos, Answers::Required)?;
    let questions = |turns: &[Turn]| turns.iter().map(|turn| turn.prompt.clone()).collect::<Vec<_>>();
    if questions(&conversation.turns) != questions(&other.turns) {
        let found = Value::from(questions(&other.turns));
        return Err(wrong("rejected_conversations", "the questions of `conversations`", Some(&found)));
    }
    let pairs: Vec<_> = differing(conversation, &other.turns, keys)?;
    if pairs.is_empty() { Err(SkipReason::Identical.into()) } else { Ok(pairs) }
}

fn differing(
    conversation: Conversation,
    other: &[Turn],
    keys: PairKeys,
) -> Result<Vec<PreferencePair>, SkipCause> {
    let Conversation { images, system, turns } = conversation;
    let turns = History::from(turns);
    let last = Conversation { images, system, turns: turns.to_vec() };
    let Some(rejected) = other.last() else { return Err(SkipReason::NoTurns.into()) };
    let whole = keys.pair(last, rejected.answer.clone())?;
    let last_turn = turns.len().saturating_sub(1);
    let pair = |(k, (turn, other)): (usize, (&Turn, &Turn))| PreferencePair {
        history: turns.prefix(k),
        prompt: turn.prompt.clone(),
        chosen: turn.answer.clone(),
        rejected: other.answer.clone(),
        // the contrast is about the last question
        contrast_images: if k == last_turn { whole.contrast_images.clone() } else { Vec::new() },
        contrast_answer: whole.contrast_answer.clone().filter(|_| k == last_turn),
        ..whole.clone()
    };
    let both = turns.iter().zip(other).enumerate();
    Ok(both.filter(|(_, (turn, other))| turn.answer != other.answer).map(pair).collect())
}

/// A record.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    images: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    conversations: Vec<Message<'a>>,
    rejected_conversations: Vec<Message<'a>>,
}

impl<'a> Row<'a> {
    pub(super) fn new(pair: &'a PairRef<'a>) -> Self {
        let with = |answer| {
            let mut messages = Message::before_answer(pair);
            messages.push(Message::gpt(answer));
            messages
        };
        // POVID has one image
        let (image, images) = match pair.images {
            [image] => (Some(image.as_str()), &[][..]),
            images => (None, images),
        };
        Self {
            keys: PairKeysOut::new(pair),
            image,
            images,
            system: pair.system,
            conversations: with(pair.chosen),
            rejected_conversations: with(pair.rejected),
        }
    }
}
