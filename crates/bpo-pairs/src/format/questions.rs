//! Questions about images, without answers.
//!
//! An array (or one object a line) of `{"id", "image", "prompt"}`, with `history` and `system` where there are any. POPE's
//! `question_id` and `text` are understood as well, other keys are passed over. What cannot be used is skipped, record by
//! record, with a reason that names the key, the value and what was expected.

use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::files::open_input;
use crate::format::asked::Asked;
use crate::format::fields::{Fields, JsonRecord, wrong};
use crate::format::json;
use crate::ids::{Id, id_or_index};
use crate::image_token::place_in_conversation;
use crate::sft::Turn;
use crate::skipped::{Flaw, Skipped};

/// A question about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a question: an object with `image` and `prompt`")]
pub struct Question {
    /// Of the answer too; its place in the file, counted from 0, where it is not given.
    #[serde(default)]
    pub id: Option<Id>,
    /// Path of the image, relative to the image root.
    pub image: String,
    /// The system text before the conversation, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Turns before the question, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Turn>,
    /// The question, with or without `<image>`.
    pub prompt: String,
}

impl Question {
    /// A question without turns before it; its id is its place.
    pub fn new(image: impl Into<String>, prompt: impl Into<String>) -> Self {
        let (image, prompt) = (image.into(), prompt.into());
        Self { id: None, image, system: None, history: Vec::new(), prompt }
    }

    /// Its id, if it is the question at `place`.
    pub fn id_at(&self, place: usize) -> String {
        self.id.as_ref().map_or_else(|| place.to_string(), |id| id.0.clone())
    }
}

/// The questions of a file, and what it has besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuestionData {
    /// Questions with their ids, in the order of the file.
    pub questions: Vec<Question>,
    /// Records that cannot be used, in the order of the file.
    pub skipped: Vec<Skipped>,
}

/// Reads all questions of a file.
///
/// # Errors
/// If the file cannot be read, is empty, or is not JSON; the error names file, record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<QuestionData, PairsError> {
    let path = path.as_ref();
    let file = open_input(path)?;
    let (mut data, mut index) = (QuestionData::default(), 0);
    json::for_each(path, BufReader::new(file), &mut |record: JsonRecord| {
        let (id, read) = record.read_named(question);
        match read {
            Ok((own, question)) => {
                let id = Some(Id(id_or_index(id.or(own), index)));
                data.questions.push(Question { id, ..question });
            }
            Err(flaw) => data.skipped.push(flaw.in_record(index + 1).of(id_or_index(id, index))),
        }
        index += 1;
        Ok(())
    })?;
    Ok(data)
}

/// A question without its id, and the `question_id` of one that has no other.
fn question(mut fields: Fields, named: bool) -> Result<(Option<Id>, Question), Flaw> {
    let id = if named { None } else { fields.id("question_id")? };
    let key = match (fields.has("prompt"), fields.has("text")) {
        (true, true) => {
            let found = fields.take("text");
            return Err(wrong("text", "no second question beside `prompt`", found.as_ref()));
        }
        (false, true) => "text",
        (_, false) => "prompt",
    };
    let Asked { image, system, history, prompt } = Asked::take_unplaced(&mut fields, key)?;
    // only to see that it can be placed: answers repeat the question as it stands here
    place_in_conversation(&mut history.clone(), &mut prompt.clone())?;
    Ok((id, Question { id: None, image, system, history, prompt }))
}
