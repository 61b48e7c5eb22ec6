//! Keys that records of several formats share: image, system text, earlier turns and question.

use super::fields::{Fields, describe, object, quoted, turns};
use super::images_field::{take_paths, take_videos};
use super::value::Value;
use crate::history::History;
use crate::image_token::place_in_conversation;
use crate::placeholders::check_question;
use crate::sft::Turn;
use crate::skipped::{SkipCause, SkipReason};
use crate::video::{VideoFrames, insert_frames};

/// Keys of media that a vision-language model cannot process.
const OTHER_MEDIA: [&str; 2] = ["audio", "audios"];

/// The question of a record, a pair or a question file, with its images and the turns before it.
pub(super) struct QuestionFields {
    pub(super) images: Vec<String>,
    pub(super) system: Option<String>,
    pub(super) history: History,
    pub(super) prompt: String,
}

impl QuestionFields {
    /// Takes the values from a record whose question is under `key`, and places the image
    /// tokens in the conversation.
    pub(super) fn take(fields: &mut Fields, key: &str, videos: &dyn VideoFrames) -> Result<Self, SkipCause> {
        let mut fields = Self::take_unplaced(fields, key, videos)?;
        let mut history = fields.history.to_vec();
        place_in_conversation(&mut history, &mut fields.prompt, fields.images.len())?;
        Ok(Self { history: history.into(), ..fields })
    }

    /// Takes the values without moving image tokens. Frames of videos are inserted.
    pub(super) fn take_unplaced(
        fields: &mut Fields,
        key: &str,
        videos: &dyn VideoFrames,
    ) -> Result<Self, SkipCause> {
        refuse_other_media(fields)?;
        let (images, videos) = (take_paths(fields)?, take_videos(fields, videos)?);
        let system = take_system(fields)?.map(|(key, text)| check_question(&key, &text).map(|()| text));
        let system = system.transpose()?;
        let history = fields.take_some("history").map(|value| turns("history", 1, Some(value)));
        let history = history.transpose()?.unwrap_or_default().into_iter().enumerate();
        let turn = |(i, value)| {
            let at = format_args!("history[{i}]");
            let mut turn = object(at, Some(value))?;
            let at = format_args!("{at}.");
            Ok(Turn { prompt: turn.text(at, "prompt")?, answer: turn.text(at, "answer")? })
        };
        let mut history: Vec<Turn> = history.map(turn).collect::<Result<_, SkipCause>>()?;
        let mut prompt = fields.text("", key)?;
        let mut questions: Vec<&mut String> =
            history.iter_mut().map(|turn| &mut turn.prompt).chain([&mut prompt]).collect();
        let images = insert_frames(&mut questions, images, videos)?;
        let history = History::from(history);
        check_question(key, &prompt)?;
        Ok(Self { images, system, history, prompt })
    }
}

/// Fails with [`SkipReason::OtherMedia`] if the record has audio.
pub(super) fn refuse_other_media(fields: &mut Fields) -> Result<(), SkipCause> {
    for key in OTHER_MEDIA {
        let found = fields.take_some(key).filter(|value| !is_nothing(value));
        if found.is_some() {
            return Err(other_media(key, found.as_ref()));
        }
    }
    Ok(())
}

/// Returns whether a value stands for "no media": null, false, an empty text, object or list, or a
/// list of such values.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(fields) => fields.keys().next().is_none(),
        _ => false,
    }
}

pub(super) fn other_media(key: &str, found: Option<&Value>) -> SkipCause {
    SkipCause::new(
        SkipReason::OtherMedia,
        format_args!("`{key}`: expected images or videos and nothing else, found {}", describe(found)),
    )
}

/// A key and its text.
pub(super) type Keyed = (String, String);

/// Takes the system text under `system` or `system_prompt`. A text of white space is ignored.
pub(super) fn take_system(fields: &mut Fields) -> Result<Option<Keyed>, SkipCause> {
    let mut take =
        |key: &str| Ok::<_, SkipCause>(fields.optional_text(key)?.map(|text| (key.to_owned(), text)));
    one_system(take("system")?, take("system_prompt")?)
}

/// Merges two optional system texts. Two different texts are an error.
pub(super) fn one_system(one: Option<Keyed>, other: Option<Keyed>) -> Result<Option<Keyed>, SkipCause> {
    let some = |keyed: Option<Keyed>| keyed.filter(|(_, text)| !text.trim().is_empty());
    match (some(one), some(other)) {
        (Some((_, one)), Some((key, other))) if one != other => Err(SkipCause::new(
            SkipReason::Malformed,
            format_args!(
                "`{key}`: expected no second system text beside {}, found {}",
                quoted(&one),
                quoted(&other)
            ),
        )),
        (one, other) => Ok(one.or(other)),
    }
}
