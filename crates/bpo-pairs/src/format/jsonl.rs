//! JSON Lines: `pairs.jsonl` and the files of the stages.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::PairsError;
use crate::files::{open_input, write_atomic};
use crate::filter::PairFilter;
use crate::format::bpo;
use crate::format::fields::{Fields, JsonRecord, describe, object};
use crate::format::json::{self, Layout};
use crate::format::question_fields::QuestionFields;
use crate::ids::id_or_index;
use crate::limits::Limits;
use crate::pairs::{PairSet, make_pairs};
use crate::placeholders::check_answers;
use crate::provenance::Provenance;
use crate::record::{CompletionKind, PreferencePair};
use crate::skipped::{SkipCause, SkipReason};

/// An iterator over the records of a JSON Lines file and their line numbers, from 1. Blank lines
/// are ignored. The iterator ends after the first error.
#[derive(Debug)]
pub struct JsonLines<T, R> {
    path: PathBuf,
    reader: R,
    line: Vec<u8>,
    line_number: usize,
    record: usize,
    finished: bool,
    records: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T, BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PairsError> {
        let path = path.as_ref();
        Ok(Self::new(path, BufReader::new(open_input(path)?)))
    }
}

impl<T: DeserializeOwned, R: BufRead> JsonLines<T, R> {
    /// Reads from `reader`. `path` is only used in errors.
    pub fn new(path: &Path, reader: R) -> Self {
        Self {
            path: path.to_owned(),
            reader,
            line: Vec::new(),
            line_number: 0,
            record: 0,
            finished: false,
            records: PhantomData,
        }
    }

    fn read_record(&mut self) -> Result<Option<(usize, T)>, PairsError> {
        loop {
            self.line.clear();
            let limit = Limits::DEFAULT.record_bytes;
            let read = read_line(&mut self.reader, &mut self.line, limit);
            if read.map_err(PairsError::io("read", &self.path))? == 0 {
                return Ok(None);
            }
            self.line_number += 1;
            if self.line.len() > limit {
                let (path, record, line) = (self.path.clone(), self.record + 1, self.line_number);
                return Err(PairsError::RecordTooLarge { path, record, line, limit });
            }
            let text = self.line.trim_ascii_end();
            if text.is_empty() {
                continue;
            }
            self.record += 1;
            return match json::from_text(text) {
                Ok(record) => Ok(Some((self.line_number, record))),
                Err((key, source)) => {
                    Err(PairsError::json(&self.path, self.record, self.line_number, &key, source))
                }
            };
        }
    }
}

impl<T: DeserializeOwned, R: BufRead> Iterator for JsonLines<T, R> {
    type Item = Result<(usize, T), PairsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.read_record().transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Reads a line with its newline, up to one byte more than `limit`, and returns the number of
/// bytes.
pub(crate) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
    reader.take(limit as u64 + 1).read_until(b'\n', line)
}

/// Serializes a record as a line with its newline.
pub(crate) fn encode_line<T: Serialize>(
    path: &Path,
    id: &dyn std::fmt::Display,
    record: &T,
) -> Result<Vec<u8>, PairsError> {
    let mut line = serde_json::to_vec(record).map_err(|source| PairsError::Encode {
        path: path.to_owned(),
        record: id.to_string(),
        source,
    })?;
    line.push(b'\n');
    Ok(line)
}

/// Reads pairs from JSON Lines (`pairs.jsonl`), or makes pairs from records in the authors' format,
/// in a JSON array or in JSON Lines. The content decides, not the file name.
///
/// The authors' records make all pairs with different scores. In both formats a pair with an empty
/// answer, identical answers or a misplaced image token is skipped, and so is a record with a
/// missing key or a value of the wrong type. The length limit of [`PairFilter`] is not applied.
///
/// # Errors
/// Returns an error if the file cannot be read, is not JSON, or repeats an id in JSON Lines. The
/// error names file and line.
pub fn read_pairs(path: impl AsRef<Path>) -> Result<PairSet, PairsError> {
    let path = path.as_ref();
    read_pairs_from(path, BufReader::new(open_input(path)?))
}

/// Reads pairs from a reader; see [`read_pairs`]. `path` is only used in errors.
///
/// # Errors
/// Returns the errors of [`read_pairs`].
pub fn read_pairs_from(path: &Path, reader: impl BufRead) -> Result<PairSet, PairsError> {
    let (layout, reader) = json::detect(path, reader)?;
    let filter = PairFilter::default().with_max_words(usize::MAX);
    if layout == Layout::Array {
        return read_authors_pairs(path, reader, &filter);
    }
    let (first, reader) = first_line(path, reader)?;
    let text = first.strip_prefix(json::BYTE_ORDER_MARK).unwrap_or(&first);
    let is_authors = serde_json::from_slice::<AuthorsKeys>(text).is_ok_and(|keys| keys.completions.is_some());
    let reader = first.as_slice().chain(reader);
    if is_authors {
        return read_authors_pairs(path, reader, &filter);
    }
    let mut set = PairSet::default();
    let mut ids = HashSet::new();
    for (index, item) in JsonLines::<JsonRecord, _>::new(path, reader).enumerate() {
        let (line, record) = item?;
        let (id, read) = record.read_named(read_pair);
        if let Some(id) = id.as_ref().filter(|id| !ids.insert(id.0.clone())) {
            return Err(PairsError::DuplicateId { path: path.to_owned(), line, id: id.0.clone() });
        }
        let id = id_or_index(id, index);
        match read {
            Ok(pair) => {
                match filter.check(&pair).map_err(SkipCause::from).and_then(|()| check_answers(&pair)) {
                    Ok(()) => set.pairs.push(PreferencePair { id, ..pair }),
                    Err(cause) => set.skipped.push(cause.of(id)),
                }
            }
            Err(cause) => set.skipped.push(cause.in_record(index + 1).of(id)),
        }
    }
    Ok(set)
}

/// The key that tells the authors' records from pairs.
#[derive(Deserialize)]
struct AuthorsKeys {
    completions: Option<IgnoredAny>,
}

/// Takes the first line that is not blank, at most as long as a record may be.
fn first_line<R: BufRead>(path: &Path, mut reader: R) -> Result<(Vec<u8>, R), PairsError> {
    let limit = Limits::DEFAULT.record_bytes;
    let mut line = Vec::new();
    while line.trim_ascii().is_empty() && line.len() < limit {
        let mut bounded = reader.by_ref().take((limit - line.len()) as u64);
        if bounded.read_until(b'\n', &mut line).map_err(PairsError::io("read", path))? == 0 {
            break;
        }
    }
    Ok((line, reader))
}

/// Reads all of a pair except its id, which is required. Unknown keys are an error, because they
/// may be misspelled.
fn read_pair(mut fields: Fields, named: bool) -> Result<PreferencePair, SkipCause> {
    if !named {
        return Err(SkipCause::new(
            SkipReason::Malformed,
            "`id`: expected text or an integer, found no such key",
        ));
    }
    let QuestionFields { images, system, history, prompt } = QuestionFields::take(&mut fields, "prompt")?;
    let (chosen, rejected) = (fields.text("", "chosen")?, fields.text("", "rejected")?);
    let kind = CompletionKind::from(fields.text("", "kind")?);
    let provenance = fields.take_some("provenance").map(provenance).transpose()?;
    let (margin, beta) = (fields.optional_number("margin")?, fields.optional_number("beta")?);
    if let Some((key, value)) = fields.first_left() {
        let found = describe(Some(value));
        return Err(SkipCause::new(
            SkipReason::Malformed,
            format_args!("{key:?} is not a key of a pair, found {found}"),
        ));
    }
    Ok(PreferencePair {
        id: String::new(),
        images,
        system,
        history,
        prompt,
        chosen,
        rejected,
        kind,
        provenance,
        margin,
        beta,
    })
}

fn provenance(value: Value) -> Result<Provenance, SkipCause> {
    // serde would also accept a list as the fields in order
    object("provenance", Some(value.clone()))?;
    serde_json::from_value(value)
        .map_err(|error| SkipCause::new(SkipReason::Malformed, format_args!("`provenance`: {error}")))
}

fn read_authors_pairs(path: &Path, reader: impl BufRead, filter: &PairFilter) -> Result<PairSet, PairsError> {
    let mut set = PairSet::default();
    bpo::for_each(path, reader, |item| {
        match item {
            Ok(record) => set.extend(make_pairs(&record, filter)),
            Err(skipped) => set.skipped.push(skipped),
        }
        Ok(())
    })?;
    Ok(set)
}

/// Writes pairs as JSON Lines (`pairs.jsonl`). An existing file is replaced only when the new one
/// is complete.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_pairs(path: impl AsRef<Path>, pairs: &[PreferencePair]) -> Result<(), PairsError> {
    let path = path.as_ref();
    write_atomic(path, |writer| {
        for pair in pairs {
            let line = encode_line(path, &pair.id, pair)?;
            writer.write_all(&line).map_err(PairsError::io("write", path))?;
        }
        Ok(())
    })
}
