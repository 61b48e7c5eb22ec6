//! Conversations about images: LLaVA's visual-instruction JSON and the `messages` format of other
//! programs.
//!
//! A file is a JSON array, or has one object per line. A record has one of these forms; unknown
//! keys are ignored unless they look like misspelt ones:
//!
//! - `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}` (LLaVA)
//! - `{"id", "images": [..], "messages": [{"role": "user" | "assistant", "content"}]}` (ms-swift,
//!   LLaMA-Factory, TRL), where `content` is text or a list of `{"type": "text" | "image"}` parts
//!   (OpenAI)
//! - `{"id", "image", "question", "answer"}` (visual question answering), or `query` and `response`
//!   (ms-swift), `instruction`, `input` and `output` (Alpaca), each with an optional `history` of pairs
//! - `{"id", "image", "conversation": [{"human", "assistant"}]}` (ms-swift)
//!
//! Keys and roles of the first two forms can be mixed. An image is a path, or an object with `path` or
//! `url`. A video (`video`, `videos`, or a part) is a path, too, and becomes its frames. A system text
//! is the first message, with the role `system`, or the value of `system` or `system_prompt`.
//!
//! A conversation with several turns becomes several samples with the ids `{id}#0`, `{id}#1`, and
//! so on. Each sample holds the turns before it as history. A record or turn that cannot be used is
//! skipped with a reason that names the key, the value and what was expected.

use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::PairsError;
use crate::fingerprint::Fingerprint;
use crate::format::Format;
use crate::format::conversation::{Conversation, named};
use crate::format::fields::{Fields, JsonRecord};
use crate::format::input::{Answers, Item, ReadOptions, for_each_item_with_fingerprint};
use crate::format::llama_factory::Message;
use crate::format::messages::{has_messages, has_question, read_conversation};
use crate::format::misspelt;
use crate::format::question_fields::QuestionFields;
use crate::format::questions::question_key;
use crate::format::value::Value;
use crate::history::History;
use crate::ids::{UniqueIds, id_or_index};
use crate::image_token::strip_image_tokens;
use crate::sft::{SftSample, Turn};
use crate::skipped::{SkipCause, SkipReason, Skipped};
use crate::video::VideoFrames;

/// The samples of a file, and the skipped conversations and turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `samples` and `skipped`")]
pub struct SftData {
    /// Usable samples, in file order.
    pub samples: Vec<SftSample>,
    /// Skipped conversations and turns, in file order.
    pub skipped: Vec<Skipped>,
}

/// Reads all samples of a file of any [`Format`], which is detected from its content. A conversation
/// about a video is skipped. The answer of a sample is the annotated one, the chosen one of a pair, or
/// the completion with the highest score.
///
/// # Errors
/// Returns an error if the file cannot be read, is empty, or is neither JSON nor Parquet. The error
/// names file, record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<SftData, PairsError> {
    Ok(read_with_fingerprint(path, &ReadOptions::default())?.0)
}

/// Reads all samples of a file and computes the fingerprint of its bytes in the same pass. `options`
/// find the frames of videos and name or store images that lie in rows.
///
/// # Errors
/// Returns the errors of [`read`].
pub fn read_with_fingerprint(
    path: impl AsRef<Path>,
    options: &ReadOptions<'_>,
) -> Result<(SftData, Fingerprint), PairsError> {
    let mut data = SftData::default();
    let fingerprint = for_each_sample(path, options, &mut |item| {
        match item {
            Ok(sample) => data.samples.push(sample),
            Err(skipped) => data.skipped.push(skipped),
        }
        Ok(())
    })?;
    Ok((data, fingerprint))
}

/// Calls `each` with every sample and every skipped conversation or turn of a file, without holding
/// the file in memory, and returns the fingerprint of its bytes.
///
/// # Errors
/// Returns the errors of [`read`] and of `each`.
pub fn for_each_sample(
    path: impl AsRef<Path>,
    options: &ReadOptions<'_>,
    each: &mut dyn FnMut(Result<SftSample, Skipped>) -> Result<(), PairsError>,
) -> Result<Fingerprint, PairsError> {
    let options = ReadOptions { fallback: Some(Format::Llava), ..*options };
    for_each_item_with_fingerprint(path.as_ref(), &options, &mut |item| {
        each(item.and_then(Item::into_sample))
    })
}

/// What a record holds.
enum Content {
    Conversation(Conversation),
    /// A question without an answer.
    Question(QuestionFields),
}

/// Converts the record at `index`, from 0.
pub(super) fn samples(
    record: JsonRecord,
    index: usize,
    ids: &mut UniqueIds,
    videos: &dyn VideoFrames,
    answers: Answers,
) -> Vec<Result<SftSample, Skipped>> {
    let skipped = |id: String, cause: SkipCause| Err(cause.in_record(index + 1).of(id));
    let mut own = None;
    let (id, read) = record.read_named(|mut fields, named| {
        misspelt::check(&fields, Format::Llava)?;
        let is_question = (fields.has("prompt") || fields.has("text")) && !has_question(&fields);
        if answers == Answers::Required || has_messages(&fields) || !is_question {
            return read_conversation(&mut fields, videos, answers).map(Content::Conversation);
        }
        own = if named { None } else { fields.id("question_id")? };
        unanswered(fields, videos)
    });
    let id = id_or_index(id.or(own), index);
    match read {
        Ok(Content::Conversation(conversation)) => {
            split(&ids.claim(&id, conversation.turns.len()), conversation, answers, &skipped)
        }
        Ok(Content::Question(QuestionFields { images, system, history, prompt })) => {
            let sample = |id| SftSample {
                id,
                images: images.clone(),
                system: system.clone(),
                history: history.clone(),
                prompt: prompt.clone(),
                answer: String::new(),
            };
            ids.claim(&id, 1).into_iter().map(|id| Ok(sample(id))).collect()
        }
        Err(cause) => ids.claim(&id, 1).into_iter().map(|id| skipped(id, cause.clone())).collect(),
    }
}

/// Reads a record of a file of questions, or a list of messages under `prompt`.
fn unanswered(mut fields: Fields, videos: &dyn VideoFrames) -> Result<Content, SkipCause> {
    let key = question_key(&mut fields)?;
    if matches!(fields.get(key), Some(Value::Array(_))) {
        let messages = named(key, fields.take(key))?;
        let read = Conversation::of(&mut fields, messages, videos, Answers::Unused);
        return read.map(Content::Conversation);
    }
    let question = QuestionFields::take(&mut fields, key, videos)?;
    if strip_image_tokens(&question.prompt).is_empty() {
        return Err(SkipReason::EmptyPrompt.into());
    }
    Ok(Content::Question(question))
}

/// Makes one sample per turn. After a turn that is skipped, all later turns are skipped too.
fn split(
    ids: &[String],
    conversation: Conversation,
    answers: Answers,
    skipped: &dyn Fn(String, SkipCause) -> Result<SftSample, Skipped>,
) -> Vec<Result<SftSample, Skipped>> {
    let Conversation { images, system, turns } = conversation;
    let turns = History::from(turns);
    let mut broken = false;
    let last = turns.len().saturating_sub(1);
    let sample = |(k, (id, turn)): (usize, (&String, &Turn))| {
        let cause = if broken { Some(SkipReason::BrokenHistory) } else { cause(turn) };
        // later turns would have an empty answer in their history
        let may_be_empty = answers == Answers::Unused && k == last;
        let cause = cause.filter(|cause| *cause != SkipReason::EmptyAnswer || !may_be_empty);
        if let Some(reason) = cause {
            broken = true;
            return skipped(id.clone(), reason.into());
        }
        Ok(SftSample {
            id: id.clone(),
            images: images.clone(),
            system: system.clone(),
            history: turns.prefix(k),
            prompt: turn.prompt.clone(),
            answer: turn.answer.clone(),
        })
    };
    ids.iter().zip(&turns).enumerate().map(sample).collect()
}

fn cause(turn: &Turn) -> Option<SkipReason> {
    if strip_image_tokens(&turn.prompt).is_empty() {
        Some(SkipReason::EmptyPrompt)
    } else if turn.answer.trim().is_empty() {
        Some(SkipReason::EmptyAnswer)
    } else {
        None
    }
}

/// A conversation with the keys of LLaVA.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(rename = "conversations", serialize_with = "messages")]
    turns: Vec<Turn>,
}

impl Row {
    /// Starts the conversation of a sample. Reading it makes a sample of each turn.
    pub(super) fn new(sample: SftSample) -> Self {
        let SftSample { id, mut images, system, history, prompt, answer } = sample;
        let mut turns = history.to_vec();
        turns.push(Turn { prompt, answer });
        // LLaVA has one image
        let image = if images.len() == 1 { images.pop() } else { None };
        Self { id, image, images, system, turns }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Adds a sample if it is the next turn of the conversation, and returns it if not.
    pub(super) fn add(&mut self, sample: SftSample) -> Option<SftSample> {
        let images = self.image.iter().chain(&self.images);
        let base = self.id.strip_suffix("#0").unwrap_or(&self.id);
        let follows = sample.history[..] == self.turns[..]
            && sample.id == format!("{base}#{}", self.turns.len())
            && images.eq(&sample.images)
            && sample.system == self.system;
        if !follows {
            return Some(sample);
        }
        self.id.truncate(base.len());
        self.turns.push(Turn { prompt: sample.prompt, answer: sample.answer });
        None
    }
}

fn messages<S: Serializer>(turns: &[Turn], serializer: S) -> Result<S::Ok, S::Error> {
    let messages = turns.iter().flat_map(|turn| [Message::human(&turn.prompt), Message::gpt(&turn.answer)]);
    serializer.collect_seq(messages)
}
