//! Reads one conversation about images in any of the supported forms.

use std::fmt;

use super::fields::{self, Fields, TURNS, describe, object, quoted, text, wrong};
use super::images_field::{frames, path, take_paths, take_videos};
use super::input::Answers;
use super::question_fields::{one_system, other_media, refuse_other_media, take_system};
use super::value::Value;
use crate::image_token::{in_answer, place_images};
use crate::placeholders::{check_answer, check_question};
use crate::sft::{IMAGE_TOKEN, Turn};
use crate::skipped::{SkipCause, SkipReason};
use crate::video::{VIDEO_TOKEN, VideoFrames, insert_frames};

const ROLES: &str = "human, user, gpt, assistant or system";

/// A valid conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) images: Vec<String>,
    pub(super) system: Option<String>,
    /// The turns, with an image token for each image.
    pub(super) turns: Vec<Turn>,
}

impl Conversation {
    /// Reads a conversation from messages, which end with an answer if answers are used, and from the
    /// other keys of their record.
    pub(super) fn of(
        fields: &mut Fields,
        messages: Vec<NamedMessage>,
        videos: &dyn VideoFrames,
        answers: Answers,
    ) -> Result<Self, SkipCause> {
        refuse_other_media(fields)?;
        let mut images = take_paths(fields)?;
        let mut clips = take_videos(fields, videos)?;
        let mut system = take_system(fields)?;
        let mut messages = messages;
        if answers == Answers::Unused && messages.last().is_some_and(|(_, last)| is_answer(last)) {
            messages.pop();
        }
        let messages = messages.into_iter().map(|(at, value)| message(&at, value));
        let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
        let in_parts: Vec<String> = messages.iter_mut().flat_map(|message| message.paths.drain(..)).collect();
        if images != in_parts {
            images.extend(in_parts);
        }
        let in_parts: Vec<String> =
            messages.iter_mut().flat_map(|message| message.videos.drain(..)).collect();
        let in_parts = frames(&in_parts, videos)?;
        if clips != in_parts {
            clips.extend(in_parts);
        }
        let questions = messages.iter_mut().filter(|message| message.role == Role::User);
        let mut questions: Vec<&mut String> = questions.map(|message| &mut message.text).collect();
        let images = insert_frames(&mut questions, images, clips)?;
        if messages.first().is_some_and(|first| first.role == Role::System) {
            let Message { key, text, .. } = messages.remove(0);
            system = one_system(system, Some((key, text)))?;
        }
        let system = system.map(|(key, text)| check_question(&key, &text).map(|()| text)).transpose()?;
        let turns = turns(messages, images.len(), answers)?;
        Ok(Self { images, system, turns })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    User,
    Assistant,
    System,
}

/// A message of one role.
struct Message {
    role: Role,
    /// Path of the text in the record, for errors.
    key: String,
    text: String,
    /// Image paths in the parts of the message.
    paths: Vec<String>,
    /// Video paths in the parts of the message.
    videos: Vec<String>,
}

/// Reads an answer of the assistant that is not part of a conversation. `at` is its path in the
/// record.
pub(super) fn answer(at: &str, value: Value) -> Result<String, SkipCause> {
    let Message { role, key, text, .. } = message(at, value)?;
    if role != Role::Assistant {
        let expected = "an answer of the assistant";
        return Err(SkipCause::new(
            SkipReason::TurnOrder,
            format_args!("`{at}`: expected {expected}, found a turn of another role"),
        ));
    }
    if text.contains(IMAGE_TOKEN) {
        return Err(in_answer());
    }
    check_answer(&key, &text).map(|()| text)
}

/// The path of a message in the record, and its value.
pub(super) type NamedMessage = (String, Value);

/// Takes the messages under `conversations` or `messages`.
pub(super) fn take_messages(fields: &mut Fields) -> Result<Vec<NamedMessage>, SkipCause> {
    let null = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_null);
    let (key, value) = match (fields.take("conversations"), fields.take("messages")) {
        (turns, messages) if null(&turns) && null(&messages) => {
            let found = describe(turns.or(messages).as_ref());
            return Err(SkipCause::new(
                SkipReason::NoTurns,
                format_args!(
                    "expected {TURNS} under `conversations` or `messages`, or `question` and `answer`, found {found}"
                ),
            ));
        }
        (turns, messages) if null(&messages) => ("conversations", turns),
        (turns, messages) if null(&turns) => ("messages", messages),
        (_, found) => {
            return Err(wrong("messages", "no second conversation beside `conversations`", found.as_ref()));
        }
    };
    named(key, value)
}

/// Returns the messages of a list that must not be empty.
pub(super) fn named(key: &str, value: Option<Value>) -> Result<Vec<NamedMessage>, SkipCause> {
    let turns = fields::turns(key, 2, value)?;
    if turns.is_empty() {
        return Err(SkipCause::new(
            SkipReason::NoTurns,
            format_args!("`{key}`: expected {TURNS}, found an empty list"),
        ));
    }
    Ok(turns.into_iter().enumerate().map(|(i, turn)| (format!("{key}[{i}]"), turn)).collect())
}

/// Returns whether a message is one of the assistant.
fn is_answer(message: &Value) -> bool {
    let Value::Object(fields) = message else { return false };
    let is_assistant = |key| matches!(fields.get(key).and_then(Value::as_str), Some("gpt" | "assistant"));
    is_assistant("from") || is_assistant("role")
}

fn message(at: &str, turn: Value) -> Result<Message, SkipCause> {
    let mut fields = object(at, Some(turn))?;
    let (key, value) = first_of(&mut fields, ["from", "role"]);
    let role = match text(format_args!("{at}.{key}"), value)?.as_str() {
        "human" | "user" => Role::User,
        "gpt" | "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            return Err(SkipCause::new(
                SkipReason::UnknownRole,
                format_args!("`{at}.{key}`: expected {ROLES}, found {}", quoted(other)),
            ));
        }
    };
    let (key, value) = first_of(&mut fields, ["value", "content"]);
    let key = format!("{at}.{key}");
    let (mut paths, mut videos) = (Vec::new(), Vec::new());
    let text = match value {
        Some(Value::Array(parts)) => joined(&key, parts, &mut paths, &mut videos)?,
        value => text(&key, value)?,
    };
    Ok(Message { role, key, text, paths, videos })
}

/// Takes two keys, and returns the first with a value that is not null, or else the first.
fn first_of<'a>(fields: &mut Fields, keys: [&'a str; 2]) -> (&'a str, Option<Value>) {
    let [first, second] = keys;
    match (fields.take(first), fields.take(second)) {
        (None | Some(Value::Null), Some(value)) => (second, Some(value)),
        (value, _) => (first, value),
    }
}

/// Joins the text of a list of parts. Each image or video becomes a token on a separate line.
fn joined(
    key: &str,
    parts: Vec<Value>,
    paths: &mut Vec<String>,
    videos: &mut Vec<String>,
) -> Result<String, SkipCause> {
    let (mut all, mut after_media) = (String::new(), false);
    for (i, part) in parts.into_iter().enumerate() {
        let at = format_args!("{key}[{i}]");
        let (mut fields, kind) = match part {
            Value::String(text) => (Fields::default(), Part::Text(text)),
            part => {
                let mut fields = object(at, Some(part))?;
                let kind = part_kind(at, &mut fields)?;
                (fields, kind)
            }
        };
        match kind {
            Part::Text(text) => {
                if after_media && !text.starts_with('\n') {
                    all.push('\n');
                }
                all.push_str(&text);
                after_media = false;
            }
            Part::Image | Part::Video => {
                if !(all.is_empty() || all.ends_with('\n')) {
                    all.push('\n');
                }
                let (token, paths) = match kind {
                    Part::Video => (VIDEO_TOKEN, &mut *videos),
                    _ => (IMAGE_TOKEN, &mut *paths),
                };
                all.push_str(token);
                after_media = true;
                for name in ["image", "image_url", "video", "video_url", "path", "url"] {
                    let found = fields.take_some(name);
                    paths.extend(
                        found.map(|value| path(format_args!("{at}.{name}"), value)).transpose()?.flatten(),
                    );
                }
            }
        }
    }
    Ok(all)
}

enum Part {
    Text(String),
    Image,
    Video,
}

fn part_kind(at: fmt::Arguments<'_>, fields: &mut Fields) -> Result<Part, SkipCause> {
    let within = format_args!("{at}.");
    match fields.text(within, "type")?.as_str() {
        "text" => Ok(Part::Text(fields.text(within, "text")?)),
        "image" | "image_url" => Ok(Part::Image),
        "video" | "video_url" => Ok(Part::Video),
        other if other.contains("audio") => {
            Err(other_media(&format!("{at}.type"), Some(&Value::from(other))))
        }
        other => Err(wrong(format_args!("{at}.type"), "text, image or video", Some(&Value::from(other)))),
    }
}

/// Pairs questions with answers and places the tokens of `images` images. If answers are not used, a
/// question at the end has an empty one.
fn turns(messages: Vec<Message>, images: usize, answers: Answers) -> Result<Vec<Turn>, SkipCause> {
    let mut turns = Vec::with_capacity(messages.len() / 2);
    let mut messages = messages.into_iter();
    while let Some(question) = messages.next() {
        let answer = messages.next();
        match answer {
            Some(answer) if question.role == Role::User && answer.role == Role::Assistant => {
                check_question(&question.key, &question.text)?;
                check_answer(&answer.key, &answer.text)?;
                turns.push(Turn { prompt: question.text, answer: answer.text });
            }
            Some(answer) => {
                let (turn, expected) = match question.role {
                    Role::User => (answer, "an answer of the assistant"),
                    _ => (question, "a question of the user"),
                };
                return Err(out_of_order(&turn, expected));
            }
            None if question.role == Role::User && answers == Answers::Unused => {
                check_question(&question.key, &question.text)?;
                turns.push(Turn { prompt: question.text, answer: String::new() });
            }
            None if question.role == Role::User => {
                return Err(SkipCause::new(
                    SkipReason::TurnOrder,
                    format_args!(
                        "`{}`: expected an answer after it, found the end; only `--chosen own` takes questions \
                         without one",
                        question.key
                    ),
                ));
            }
            None => return Err(out_of_order(&question, "a question of the user")),
        }
    }
    let Some(Turn { mut prompt, answer }) = turns.pop() else {
        return Err(SkipCause::new(
            SkipReason::NoTurns,
            "expected a question and its answer, found a system text alone",
        ));
    };
    place_images(&mut turns, &mut prompt, images)?;
    if answer.contains(IMAGE_TOKEN) {
        return Err(in_answer());
    }
    turns.push(Turn { prompt, answer });
    Ok(turns)
}

fn out_of_order(found: &Message, expected: &str) -> SkipCause {
    let role = match found.role {
        Role::User => "the user",
        Role::Assistant => "the assistant",
        Role::System => "the system",
    };
    SkipCause::new(
        SkipReason::TurnOrder,
        format_args!("`{}`: expected {expected}, found a turn of {role}", found.key),
    )
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
