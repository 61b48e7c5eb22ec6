//! Keys that bpo adds to the pairs of other programs, which ignore them.

use serde::Serialize;

use super::conversation::{Conversation, NamedMessage, answer};
use super::fields::Fields;
use super::images_field::paths;
use super::input::Answers;
use super::question_fields::QuestionFields;
use super::value::Value;
use crate::pair_ref::PairRef;
use crate::provenance::Provenance;
use crate::record::{CompletionKind, PreferencePair};
use crate::sft::Turn;
use crate::skipped::{SkipCause, SkipReason};
use crate::video::VideoFrames;

/// Kind of a rejected answer whose source is not known.
const UNKNOWN: &str = "unknown";

/// The sources, margin, beta and contrast of a pair. In files they are the optional keys `kind`,
/// `chosen_kind`, `provenance`, `margin`, `beta`, `contrast_images` and `contrast_answer`.
#[derive(Debug)]
pub(super) struct PairKeys {
    pub(super) kind: CompletionKind,
    pub(super) chosen_kind: Option<CompletionKind>,
    pub(super) provenance: Option<Provenance>,
    pub(super) margin: Option<f64>,
    pub(super) beta: Option<f64>,
    pub(super) contrast_images: Vec<String>,
    pub(super) contrast_answer: Option<String>,
}

impl PairKeys {
    /// Takes the keys. Other programs may use them differently, so a value of another type is
    /// ignored. The keys of the contrast have names that no other program has, and are checked.
    pub(super) fn take(fields: &mut Fields) -> Result<Self, SkipCause> {
        let (contrast_images, contrast_answer) = take_contrast(fields)?;
        let mut text = |key| fields.take(key).and_then(|value| Some(value.as_str()?.to_owned()));
        let (kind, chosen_kind) = (text("kind"), text("chosen_kind"));
        let provenance = provenance(fields);
        let mut number = |key| fields.take(key)?.as_f64().filter(|number| number.is_finite());
        Ok(Self {
            kind: CompletionKind::from(kind.unwrap_or_else(|| UNKNOWN.to_owned())),
            chosen_kind: chosen_kind.map(CompletionKind::from),
            provenance,
            margin: number("margin"),
            beta: number("beta"),
            contrast_images,
            contrast_answer,
        })
    }

    /// Makes a pair from the last turn of a conversation, whose answer is the chosen one. The pair has
    /// no id yet.
    pub(super) fn pair(
        self,
        conversation: Conversation,
        rejected: String,
    ) -> Result<PreferencePair, SkipCause> {
        let Conversation { images, system, mut turns } = conversation;
        let Some(Turn { prompt, answer: chosen }) = turns.pop() else {
            return Err(SkipReason::NoTurns.into());
        };
        let question = QuestionFields { images, system, history: turns.into(), prompt };
        self.pair_of(question, chosen, rejected)
    }

    /// Makes a pair from a question and its answers, and checks its contrast. The pair has no id yet.
    pub(super) fn pair_of(
        self,
        question: QuestionFields,
        chosen: String,
        rejected: String,
    ) -> Result<PreferencePair, SkipCause> {
        let QuestionFields { images, system, history, prompt } = question;
        let Self { kind, chosen_kind, provenance, margin, beta, contrast_images, contrast_answer } = self;
        let id = String::new();
        let pair = PreferencePair {
            id,
            images,
            system,
            history,
            prompt,
            chosen,
            rejected,
            kind,
            chosen_kind,
            provenance,
            margin,
            beta,
            contrast_images,
            contrast_answer,
        };
        pair.check_contrast().map(|()| pair)
    }
}

/// Takes the keys `contrast_images` and `contrast_answer`.
pub(super) fn take_contrast(fields: &mut Fields) -> Result<(Vec<String>, Option<String>), SkipCause> {
    let images = paths("contrast_images", fields.take("contrast_images"))?;
    Ok((images, fields.optional_text("contrast_answer")?))
}

/// Takes the key `provenance`. Other programs may use it differently, so a value that is none is
/// ignored.
pub(super) fn provenance(fields: &mut Fields) -> Option<Provenance> {
    // serde would also accept a list as the fields in order
    let value = fields.take("provenance").filter(|value| matches!(value, Value::Object(_)))?;
    let provenance: Provenance = serde_json::from_value(value.into()).ok()?;
    (!provenance.distortion.is_empty() || provenance.error.is_some()).then_some(provenance)
}

/// Makes a pair from messages that end with the chosen answer, and from the rejected answer, each with
/// its path in the record.
pub(super) fn pair_of_messages(
    mut fields: Fields,
    messages: Vec<NamedMessage>,
    rejected: NamedMessage,
    videos: &dyn VideoFrames,
) -> Result<PreferencePair, SkipCause> {
    let keys = PairKeys::take(&mut fields)?;
    let conversation = Conversation::of(&mut fields, messages, videos, Answers::Required)?;
    keys.pair(conversation, answer(&rejected.0, rejected.1)?)
}

/// The keys of a pair in the files of other programs.
#[derive(Serialize)]
pub(super) struct PairKeysOut<'a> {
    id: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<&'a Provenance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    contrast_images: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    contrast_answer: Option<&'a str>,
}

impl<'a> PairKeysOut<'a> {
    pub(super) fn new(pair: &'a PairRef<'a>) -> Self {
        Self {
            id: &pair.id,
            kind: pair.kind.as_str(),
            chosen_kind: pair.chosen_kind.map(CompletionKind::as_str),
            provenance: pair.provenance,
            margin: pair.margin,
            beta: pair.beta,
            contrast_images: pair.contrast_images,
            contrast_answer: pair.contrast_answer,
        }
    }

    /// Leaves out the margin, for a program that uses a key of this name.
    pub(super) fn without_margin(self) -> Self {
        Self { margin: None, ..self }
    }
}

/// Returns the cause for a pair that a format cannot hold.
pub(super) fn not_in_format(expected: &str, found: impl std::fmt::Display) -> SkipCause {
    SkipCause::new(SkipReason::NotInFormat, format_args!("expected {expected}, found {found}"))
}
