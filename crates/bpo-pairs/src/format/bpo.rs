//! The preference JSON of the BPO authors.
//!
//! A file is a JSON array, or has one object per line, of records of this form, with the image
//! token at the start or end of the prompt:
//!
//! ```json
//! {"prompt": "..", "image": "..", "completions": [{"score": 1, "response": "..", "type": "gt"}]}
//! ```
//!
//! Unknown keys are ignored unless they look like misspelt ones. bpo adds optional keys: `id`
//! (default: the position of the record in the file, from 0), `system` and `history` of a record,
//! `images` for several images in place of `image`, and `provenance` of a completion. A
//! `provenance` that is not a [`Provenance`] is ignored.
//!
//! A record that cannot be used is skipped with a reason that names the key, the value and what was
//! expected.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::PairsError;
use crate::files::write_atomic;
use crate::format::Format;
use crate::format::fields::{Fields, JsonRecord, list, number, object};
use crate::format::input::{Item, ReadOptions, for_each_item};
use crate::format::misspelt;
use crate::format::pair_keys::{not_in_format, provenance};
use crate::format::question_fields::QuestionFields;
use crate::format::value::Value;
use crate::ids::{UniqueIds, id_or_index};
use crate::provenance::Provenance;
use crate::record::{Completion, CompletionKind, PreferencePair, Record};
use crate::sft::{SftSample, Turn};
use crate::skipped::{SkipCause, Skipped};
use crate::video::VideoFrames;

/// The records of a file, and the skipped records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `records` and `skipped`")]
pub struct BpoData {
    /// Usable records, in file order.
    pub records: Vec<Record>,
    /// Skipped records, in file order.
    pub skipped: Vec<Skipped>,
}

/// Reads all records of a file. A record with a video is skipped.
///
/// # Errors
/// Returns an error if the file cannot be read, is empty, or is neither JSON nor Parquet. The error
/// names file, record, line and column.
pub fn read(path: impl AsRef<Path>) -> Result<BpoData, PairsError> {
    let mut data = BpoData::default();
    let options = ReadOptions { format: Some(Format::Bpo), ..ReadOptions::default() };
    for_each_item(path.as_ref(), &options, &mut |item| {
        match item.and_then(Item::into_record) {
            Ok(record) => data.records.push(record),
            Err(skipped) => data.skipped.push(skipped),
        }
        Ok(())
    })?;
    Ok(data)
}

/// Makes a record with the annotated answer of a sample, with score 1.
pub(super) fn of_sample(sample: SftSample) -> Record {
    let SftSample { id, images, system, history, prompt, answer } = sample;
    let completions = vec![annotated(answer, 1.0)];
    Record { id, images, system, history, prompt, completions }
}

/// Makes a record with both answers of a pair. The score of the rejected answer is 0, and that of the
/// chosen one is the margin, or 1.
pub(super) fn of_pair(pair: PreferencePair) -> Result<Record, Skipped> {
    if let Some(beta) = pair.beta {
        return Err(not_in_format("no beta of the pair", beta).of(pair.id));
    }
    if pair.contrast_answer.is_some() {
        return Err(not_in_format("no contrast of the pair", "one").of(pair.id));
    }
    let score = pair.margin.filter(|margin| *margin > 0.0).unwrap_or(1.0);
    let rejected =
        Completion { response: pair.rejected, score: 0.0, kind: pair.kind, provenance: pair.provenance };
    Ok(Record {
        id: pair.id,
        images: pair.images,
        system: pair.system,
        history: pair.history,
        prompt: pair.prompt,
        completions: vec![
            Completion {
                kind: pair.chosen_kind.unwrap_or(CompletionKind::Annotated),
                ..annotated(pair.chosen, score)
            },
            rejected,
        ],
    })
}

fn annotated(response: String, score: f64) -> Completion {
    Completion { response, score, kind: CompletionKind::Annotated, provenance: None }
}

/// Writes records as a JSON array with one record per line. An existing file is replaced only when
/// the new one is complete.
///
/// # Errors
/// Returns an error if the file cannot be written or a score is not finite.
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

/// Converts the entry at `index`, from 0.
pub(super) fn record(
    entry: JsonRecord,
    index: usize,
    ids: &mut UniqueIds,
    videos: &dyn VideoFrames,
) -> Result<Record, Skipped> {
    let (id, read) = entry.read(|fields| {
        misspelt::check(&fields, Format::Bpo)?;
        read_record(fields, videos)
    });
    let id = ids.claim_one(&id_or_index(id, index));
    match read {
        Ok(record) => Ok(Record { id, ..record }),
        Err(cause) => Err(cause.in_record(index + 1).of(id)),
    }
}

/// Reads all of a record except its id.
fn read_record(mut fields: Fields, videos: &dyn VideoFrames) -> Result<Record, SkipCause> {
    let QuestionFields { images, system, history, prompt } =
        QuestionFields::take(&mut fields, "prompt", videos)?;
    let completions = list("completions", "a list of completions", fields.take("completions"))?;
    let completions = completions.into_iter().enumerate();
    let completions = completions.map(|(i, value)| completion(format_args!("completions[{i}]"), value));
    let completions = completions.collect::<Result<_, _>>()?;
    Ok(Record { id: String::new(), images, system, history, prompt, completions })
}

/// Reads a completion. Unknown keys are ignored.
fn completion(at: fmt::Arguments<'_>, value: Value) -> Result<Completion, SkipCause> {
    let mut fields = object(at, Some(value))?;
    let within = format_args!("{at}.");
    let score = number(format_args!("{at}.score"), fields.take("score"))?;
    let response = fields.text(within, "response")?;
    let kind = CompletionKind::from(fields.text(within, "type")?);
    Ok(Completion { response, score, kind, provenance: provenance(&mut fields) })
}

#[derive(Serialize)]
pub(super) struct EntryOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    images: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Turn]>::is_empty")]
    history: &'a [Turn],
    completions: Vec<CompletionOut<'a>>,
}

/// A [`Completion`] with the keys in the authors' order.
#[derive(Serialize)]
struct CompletionOut<'a> {
    #[serde(serialize_with = "short_number")]
    score: f64,
    response: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<&'a Provenance>,
}

impl<'a> EntryOut<'a> {
    pub(super) fn new(index: usize, record: &'a Record) -> Self {
        let completion = |completion: &'a Completion| CompletionOut {
            score: completion.score,
            response: &completion.response,
            kind: completion.kind.as_str(),
            provenance: completion.provenance.as_ref(),
        };
        // the authors have one image
        let (image, images) = match record.images.as_slice() {
            [image] => (Some(image.as_str()), &[][..]),
            images => (None, images),
        };
        Self {
            id: (record.id != index.to_string()).then_some(record.id.as_str()),
            prompt: &record.prompt,
            image,
            images,
            system: record.system.as_deref(),
            history: &record.history,
            completions: record.completions.iter().map(completion).collect(),
        }
    }
}

/// Serializes whole numbers without a fraction (`1`, not `1.0`), as in the authors' files.
fn short_number<S: Serializer>(score: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // Whole f64 values below 1e15 are exact as i64. -0.0 would lose its sign.
    let whole = score.fract() == 0.0 && score.abs() < 1e15 && !(*score == 0.0 && score.is_sign_negative());
    if whole { serializer.serialize_i64(*score as i64) } else { serializer.serialize_f64(*score) }
}
