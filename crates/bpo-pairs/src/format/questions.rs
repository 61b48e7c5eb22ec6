//! Questions about images, without answers.
//!
//! A file is a JSON array, or has one object per line, of `{"id", "image", "prompt"}` with optional
//! `history` and `system`; `images` is a list of several. POPE's `question_id` and `text` are
//! accepted for `id` and `prompt`, and AMBER's `query` for `prompt`. Unknown keys are ignored unless
//! they look like misspelt ones. A record that cannot be used is skipped with a reason that names
//! the key, the value and what was expected.

use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::files::open_input;
use crate::format::FileKind;
use crate::format::fields::{Fields, JsonRecord, wrong};
use crate::format::question_fields::QuestionFields;
use crate::format::{json, misspelt};
use crate::history::History;
use crate::ids::{Id, id_or_index};
use crate::image_paths::one_or_several;
use crate::image_token::place_in_conversation;
use crate::skipped::{SkipCause, Skipped};
use crate::video::VideoFrames;

/// The name of questions in messages.
const QUESTIONS: &str = "questions";

/// A question about any number of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a question: an object with `images` and `prompt`")]
pub struct Question {
    /// Id of the question and of its answer. Without one, the position of the question in its file,
    /// from 0, is used.
    #[serde(default)]
    pub id: Option<Id>,
    /// Paths of the images, relative to the image root, in the order of the conversation. Empty for
    /// a text without an image.
    #[serde(default, alias = "image", deserialize_with = "one_or_several")]
    pub images: Vec<String>,
    /// System text, if the question has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Turns before the question, oldest first.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub history: History,
    /// The question, with or without the image token.
    pub prompt: String,
}

impl Question {
    /// Creates a question about one image, without id, system text and history.
    pub fn new(image: impl Into<String>, prompt: impl Into<String>) -> Self {
        let (images, prompt) = (vec![image.into()], prompt.into());
        Self { id: None, images, system: None, history: History::default(), prompt }
    }

    /// Returns the id, or `place` as text if the question has none. `place` is the position of the
    /// question in its file, from 0.
    pub fn id_at(&self, place: usize) -> String {
        self.id.as_ref().map_or_else(|| place.to_string(), |id| id.0.clone())
    }
}

/// The questions of a file, and the skipped records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuestionData {
    /// Usable questions, each with an id, in file order.
    pub questions: Vec<Question>,
    /// Skipped records, in file order.
    pub skipped: Vec<Skipped>,
}

/// Reads all questions of a file. `videos` finds the frames of videos.
///
/// # Errors
/// Returns an error if the file cannot be read, is empty, or is not JSON, and
/// [`PairsError::OtherKind`] for another file of bpo that has no questions. The error names file,
/// record, line and column.
pub fn read(path: impl AsRef<Path>, videos: &dyn VideoFrames) -> Result<QuestionData, PairsError> {
    let path = path.as_ref();
    let file = open_input(path)?;
    let (mut data, mut index) = (QuestionData::default(), 0);
    let read = json::for_each(path, BufReader::new(file), &mut |record: JsonRecord| {
        let kind = record.fields().and_then(FileKind::of_fields).filter(|_| index == 0);
        let (id, read) = record.read_named(|fields, named| question(fields, named, videos));
        match read {
            Ok((own, question)) => {
                let id = Some(Id(id_or_index(id.or(own), index)));
                data.questions.push(Question { id, ..question });
            }
            Err(cause) => match kind {
                Some(found) if found != FileKind::Questions => return Err(found.instead_of(QUESTIONS, path)),
                _ => data.skipped.push(cause.in_record(index + 1).of(id_or_index(id, index))),
            },
        }
        index += 1;
        Ok(())
    });
    // pairs have questions, too
    read.map_err(|error| error.or_other_kind(path, QUESTIONS, &[FileKind::Questions, FileKind::Pairs]))?;
    Ok(data)
}

/// Returns the key of the question: `prompt`, or POPE's `text`.
pub(super) fn question_key(fields: &mut Fields) -> Result<&'static str, SkipCause> {
    if !fields.has("text") {
        return Ok("prompt");
    }
    if fields.has("prompt") {
        let found = fields.take("text");
        return Err(wrong("text", "no second question beside `prompt`", found.as_ref()));
    }
    Ok("text")
}

/// Reads all of a question except `id`. Returns `question_id` if the record has no `id`.
fn question(
    mut fields: Fields,
    named: bool,
    videos: &dyn VideoFrames,
) -> Result<(Option<Id>, Question), SkipCause> {
    misspelt::check_question(&fields)?;
    let id = if named { None } else { fields.id("question_id")? };
    let key = match question_key(&mut fields)? {
        // a query with a response is annotated data
        "prompt" if !fields.has("prompt") && fields.has("query") && !fields.has("response") => "query",
        key => key,
    };
    let QuestionFields { images, system, history, prompt } =
        QuestionFields::take_unplaced(&mut fields, key, videos)?;
    // Checks that the image tokens can be placed. The question itself stays unchanged, because
    // answers repeat it.
    place_in_conversation(&mut history.to_vec(), &mut prompt.clone(), images.len())?;
    Ok((id, Question { id: None, images, system, history, prompt }))
}
