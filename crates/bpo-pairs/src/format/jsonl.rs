//! JSON Lines: lines of any type, and files of pairs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::{Item, PAIRS, ReadOptions, for_each_item};
use super::{FileKind, Format, json};
use crate::error::PairsError;
use crate::files::{open_input, write_atomic};
use crate::filter::PairFilter;
use crate::limits::Limits;
use crate::pairs::PairSet;
use crate::record::PreferencePair;

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

    /// Returns the number of bytes of the last line that was read.
    pub(super) fn line_bytes(&self) -> usize {
        self.line.len()
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

/// Reads the pairs of a file of any [`Format`], which is detected from its content.
/// [`Container`](super::Container) lists the layouts and compressions.
///
/// A record of scored completions makes all pairs with different scores. A pair with an empty answer,
/// identical answers or a misplaced image token is skipped, and so is a record with a missing key or
/// a value of the wrong type. A pair about a video, or with an image in a row of a Parquet file, is
/// skipped; see [`read_pairs_with`]. The length limit of [`PairFilter`] is not applied.
///
/// # Errors
/// Returns an error if the file cannot be read, is not JSON or Parquet, or repeats an id in
/// `pairs.jsonl`, and [`PairsError::OtherKind`] for annotated data or another file of bpo that
/// holds no pairs. The error names file and line.
pub fn read_pairs(path: impl AsRef<Path>) -> Result<PairSet, PairsError> {
    read_pairs_with(path, &ReadOptions::default())
}

/// Reads pairs as [`read_pairs`] does. `options` can find the frames of videos and name or store images
/// that lie in rows, and can name the format.
///
/// # Errors
/// Returns the errors of [`read_pairs`].
pub fn read_pairs_with(path: impl AsRef<Path>, options: &ReadOptions<'_>) -> Result<PairSet, PairsError> {
    let path = path.as_ref();
    let options = ReadOptions { fallback: Some(Format::Pairs), ..*options };
    let filter = PairFilter::default().with_max_words(usize::MAX);
    let mut set = PairSet::default();
    let read = for_each_item(path, &options, &mut |item| {
        match item {
            // all records of a file have one format
            Ok(Item::Sample(_)) => return Err(FileKind::Samples.instead_of(PAIRS, path)),
            Ok(item) => set.extend(item.into_pairs(&filter)),
            Err(skipped) => set.skipped.push(skipped),
        }
        Ok(())
    });
    match read {
        // `bpo pair` writes an empty file if no pair passes the filter
        Ok(_) | Err(PairsError::Empty { .. }) => Ok(set),
        Err(error) => Err(error),
    }
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
