//! TRL's preference formats.
//!
//! The conversational format has lists of messages, whose content is a list of parts:
//!
//! ```json
//! {"images": [".."],
//!  "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ".."}]}],
//!  "chosen": [{"role": "assistant", "content": [{"type": "text", "text": ".."}]}],
//!  "rejected": [{"role": "assistant", "content": [{"type": "text", "text": ".."}]}]}
//! ```
//!
//! Content can also be text. Without `prompt`, `chosen` and `rejected` begin with the same messages.
//!
//! The standard format has text under `prompt`, `chosen` and `rejected`. It holds neither a system
//! text nor earlier turns.

use serde::Serialize;

use super::conversation::{NamedMessage, named};
use super::fields::{Fields, wrong};
use super::pair_keys::{PairKeys, PairKeysOut, not_in_format, pair_of_messages};
use super::question_fields::QuestionFields;
use super::value::Value;
use crate::pair_ref::PairRef;
use crate::record::PreferencePair;
use crate::sft::IMAGE_TOKEN;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// Reads a pair of either format, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    if matches!(fields.get("chosen"), Some(Value::String(_))) {
        return plain(fields, videos);
    }
    let mut chosen = named("chosen", fields.take("chosen"))?;
    let mut rejected = named("rejected", fields.take("rejected"))?;
    let Some(last) = rejected.pop() else { return Err(wrong("rejected", "an answer", None)) };
    let mut messages = match fields.take_some("prompt") {
        Some(prompt) => named("prompt", Some(prompt))?,
        None => Vec::new(),
    };
    let values =
        |messages: &[NamedMessage]| messages.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
    let before = &chosen[..chosen.len().saturating_sub(1)];
    if values(before) != values(&rejected) {
        let found = Value::from(values(&rejected));
        return Err(wrong("rejected", "the messages of `chosen` but for the last one", Some(&found)));
    }
    messages.append(&mut chosen);
    pair_of_messages(fields, messages, last, videos)
}

/// Reads a pair of the standard format.
fn plain(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    let keys = PairKeys::take(&mut fields)?;
    let question = QuestionFields::take(&mut fields, "prompt", videos)?;
    let (chosen, rejected) = (fields.text("", "chosen")?, fields.text("", "rejected")?);
    keys.pair_of(question, chosen, rejected)
}

/// A record of the conversational format.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    images: &'a [String],
    prompt: Vec<Message<Vec<Part<'a>>>>,
    chosen: [Message<[Part<'a>; 1]>; 1],
    rejected: [Message<[Part<'a>; 1]>; 1],
}

#[derive(Serialize)]
struct Message<P> {
    role: &'static str,
    content: P,
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl<'a> Row<'a> {
    pub(super) fn new(pair: &'a PairRef<'a>) -> Self {
        let text = |role, text| Message { role, content: vec![Part::text(text)] };
        let answer = |text| [Message { role: "assistant", content: [Part::text(text)] }];
        let question = |text| Message { role: "user", content: parts(text) };
        let system = pair.system.into_iter().map(|system| text("system", system));
        let turns = pair.history.iter();
        let turns = turns.flat_map(|turn| [question(&turn.prompt), text("assistant", &turn.answer)]);
        Self {
            keys: PairKeysOut::new(pair),
            images: pair.images,
            prompt: system.chain(turns).chain([question(pair.prompt)]).collect(),
            chosen: answer(pair.chosen),
            rejected: answer(pair.rejected),
        }
    }
}

impl<'a> Part<'a> {
    fn text(text: &'a str) -> Self {
        Self { kind: "text", text: Some(text) }
    }
}

/// Splits a question at its image tokens. Readers put each image on its own line, so the line feed
/// after a token is left out unless more follow.
fn parts(question: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for (i, text) in question.split(IMAGE_TOKEN).enumerate() {
        let mut text = text;
        if i > 0 {
            parts.push(Part { kind: "image", text: None });
            text = text.strip_prefix('\n').filter(|rest| !rest.starts_with('\n')).unwrap_or(text);
        }
        if !text.is_empty() {
            parts.push(Part::text(text));
        }
    }
    parts
}

/// A record of the standard format.
#[derive(Serialize)]
pub(super) struct PlainRow<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    images: &'a [String],
    prompt: &'a str,
    chosen: &'a str,
    rejected: &'a str,
}

impl<'a> PlainRow<'a> {
    /// Makes the record of a pair without system text and history.
    pub(super) fn new(pair: &'a PairRef<'a>) -> Result<Self, SkipCause> {
        only_question(pair)?;
        Ok(Self {
            keys: PairKeysOut::new(pair),
            images: pair.images,
            prompt: pair.prompt,
            chosen: pair.chosen,
            rejected: pair.rejected,
        })
    }
}

/// Checks that a pair has neither a system text nor earlier turns.
pub(super) fn only_question(pair: &PairRef<'_>) -> Result<(), SkipCause> {
    if pair.system.is_some() {
        return Err(not_in_format("no system text", "one"));
    }
    match pair.history.len() {
        0 => Ok(()),
        turns => Err(not_in_format("no earlier turns", turns)),
    }
}
