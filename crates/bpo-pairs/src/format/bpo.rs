//! The authors' preference JSON.
//!
//! An array (or one object a line) of `{"prompt", "image", "completions": [{"score", "response", "type"}]}` with the image
//! token at the start or end of the prompt. Other keys are passed over. Records that need more than that have `id` (where it
//! is not the record's place, counted from 0) and `history`, and completions `recipe`, which is passed over, too, where it is
//! not a [`Recipe`].

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::atomic::write_atomic;
use crate::error::PairsError;
use crate::format::images_field::Images;
use crate::format::json;
use crate::ids::{Id, UniqueIds, id_or_index};
use crate::image_token::place_in_conversation;
use crate::recipe::Recipe;
use crate::record::{Completion, CompletionKind, Record};
use crate::set_aside::{Reason, SetAside};
use crate::sft::Turn;

/// The records of a file, and what it has besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BpoData {
    /// Records, in the order of the file.
    pub records: Vec<Record>,
    /// Records that cannot be used, in the order of the file.
    pub set_aside: Vec<SetAside>,
}

/// Reads all records of a file.
///
/// # Errors
/// If the file cannot be read or is not JSON of this form; the error names file, record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<BpoData, PairsError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(PairsError::io("open", path))?;
    let mut data = BpoData::default();
    for_each(path, BufReader::new(file), |item| {
        match item {
            Ok(record) => data.records.push(record),
            Err(aside) => data.set_aside.push(aside),
        }
        Ok(())
    })?;
    Ok(data)
}

/// Calls `each` with every record, or with why it cannot be used, without holding the file in memory.
///
/// `path` is only for errors.
///
/// # Errors
/// As [`read`], and what `each` fails with.
pub fn for_each(
    path: &Path,
    reader: impl BufRead,
    mut each: impl FnMut(Result<Record, SetAside>) -> Result<(), PairsError>,
) -> Result<(), PairsError> {
    let mut ids = UniqueIds::default();
    let mut index = 0;
    json::for_each(path, reader, &mut |entry: Entry| {
        let item = entry.record(index, &mut ids);
        index += 1;
        each(item)
    })
}

/// Writes records as an array, one a line; an old file stays until the new one is whole.
///
/// # Errors
/// If the file cannot be written, or a score is not finite.
pub fn write(path: impl AsRef<Path>, records: &[Record]) -> Result<(), PairsError> {
    let path = path.as_ref();
    write_atomic(path, |writer| {
        let io = |source| PairsError::io("write", path)(source);
        for (index, record) in records.iter().enumerate() {
            writer.write_all(if index == 0 { b"[\n" } else { b",\n" }).map_err(io)?;
            let line = encode(path, index, record)?;
            writer.write_all(&line).map_err(io)?;
        }
        writer.write_all(if records.is_empty() { b"[]\n" } else { b"\n]\n" }).map_err(io)
    })
}

fn encode(path: &Path, index: usize, record: &Record) -> Result<Vec<u8>, PairsError> {
    if let Some(bad) = record.completions.iter().find(|completion| !completion.score.is_finite()) {
        return Err(PairsError::Score { path: path.to_owned(), record: record.id.clone(), score: bad.score });
    }
    serde_json::to_vec(&EntryOut::new(index, record)).map_err(|source| PairsError::Encode {
        path: path.to_owned(),
        record: record.id.clone(),
        source,
    })
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    image: Images,
    #[serde(default)]
    history: Vec<Turn>,
    prompt: String,
    completions: Vec<CompletionIn>,
}

/// [`Completion`] that passes over other keys.
#[derive(Deserialize)]
struct CompletionIn {
    score: f64,
    response: String,
    #[serde(rename = "type")]
    kind: CompletionKind,
    #[serde(default, deserialize_with = "recipe_of_ours")]
    recipe: Option<Recipe>,
}

/// The recipe, if it is one that says what was done to the image: others may mean something else by that key.
fn recipe_of_ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Recipe>, D::Error> {
    let value = Some(Value::deserialize(deserializer)?);
    // a list of values would be taken for that of a recipe's
    let recipe = value.filter(Value::is_object).and_then(|value| serde_json::from_value(value).ok());
    Ok(recipe.filter(|recipe: &Recipe| !recipe.distortion.is_empty()))
}

impl From<CompletionIn> for Completion {
    fn from(CompletionIn { score, response, kind, recipe }: CompletionIn) -> Self {
        Self { response, score, kind, recipe }
    }
}

impl Entry {
    fn record(mut self, index: usize, ids: &mut UniqueIds) -> Result<Record, SetAside> {
        let id = ids.claim(&id_or_index(self.id, index), 1).concat();
        let aside = |reason: Reason| SetAside::new(&id, reason);
        let image = self.image.single().map_err(aside)?;
        place_in_conversation(&mut self.history, &mut self.prompt).map_err(aside)?;
        let completions = self.completions.into_iter().map(Completion::from).collect();
        Ok(Record { id, image, history: self.history, prompt: self.prompt, completions })
    }
}

#[derive(Serialize)]
struct EntryOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    prompt: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "<[Turn]>::is_empty")]
    history: &'a [Turn],
    completions: Vec<CompletionOut<'a>>,
}

/// [`Completion`] in the authors' order of keys.
#[derive(Serialize)]
struct CompletionOut<'a> {
    #[serde(serialize_with = "short_number")]
    score: f64,
    response: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<&'a Recipe>,
}

impl<'a> EntryOut<'a> {
    fn new(index: usize, record: &'a Record) -> Self {
        let completion = |completion: &'a Completion| CompletionOut {
            score: completion.score,
            response: &completion.response,
            kind: completion.kind.as_str(),
            recipe: completion.recipe.as_ref(),
        };
        Self {
            id: (record.id != index.to_string()).then_some(record.id.as_str()),
            prompt: &record.prompt,
            image: &record.image,
            history: &record.history,
            completions: record.completions.iter().map(completion).collect(),
        }
    }
}

/// `1` rather than `1.0`, as the authors' files have it.
fn short_number<S: Serializer>(score: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // Up to here every whole f64 is exact as an i64. -0.0 would lose its sign.
    let whole = score.fract() == 0.0 && score.abs() < 1e15 && !(*score == 0.0 && score.is_sign_negative());
    if whole { serializer.serialize_i64(*score as i64) } else { serializer.serialize_f64(*score) }
}
