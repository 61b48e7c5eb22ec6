//! JSON Lines files that records are appended to, and the repair of their last line.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::PairsError;
use crate::files::{AppendLog, open_input};
use crate::format::json::from_text;
use crate::format::jsonl::{encode_line, read_line};
use crate::limits::Limits;

/// A JSON Lines file of records in the order in which they were appended.
///
/// Each record is written with one call, so a killed process leaves whole records and at most one
/// torn last line, which opening removes. Any other line that is not a record is an error, and the
/// file is left unchanged, so that a wrong path does not damage a file of another kind. The file is
/// locked while the value exists; no other process can open it.
#[derive(Debug)]
pub struct JsonlLog<T> {
    log: AppendLog,
    records: PhantomData<fn(T)>,
}

impl<T: Serialize + DeserializeOwned> JsonlLog<T> {
    /// Opens or creates a file, and calls `each` with the line number (from 1) of each record and
    /// the record.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or written, is locked by another process, or
    /// has a line that is not a record, and the errors of `each`. The file is then left unchanged.
    pub fn open_each<E: From<PairsError>>(
        path: &Path,
        each: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::from_log(AppendLog::open(path).map_err(PairsError::from)?, each)
    }

    /// Reads a file that is open and locked already, like [`open_each`](Self::open_each).
    ///
    /// # Errors
    /// Returns the errors of [`open_each`](Self::open_each). The file is then left unchanged.
    pub fn from_log<E: From<PairsError>>(
        log: AppendLog,
        mut each: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::open_with(log, |line, record| each(line, record).map(|()| true))
    }

    /// Opens or creates a file, and removes all records after the last one that `keeps` accepts.
    ///
    /// # Errors
    /// Returns the errors of [`open_each`](Self::open_each).
    pub fn open_up_to(path: &Path, mut keeps: impl FnMut(&T) -> bool) -> Result<Self, PairsError> {
        Self::open_with(AppendLog::open(path)?, |_, record| Ok(keeps(&record)))
    }

    fn open_with<E: From<PairsError>>(
        log: AppendLog,
        mut keeps: impl FnMut(usize, T) -> Result<bool, E>,
    ) -> Result<Self, E> {
        let mut keep = 0;
        let reader = log.reader().map_err(PairsError::from)?;
        let Contents { end, tail } = scan(log.path(), reader, |line, end, record| {
            if keeps(line, record)? {
                keep = end;
            }
            Ok::<(), E>(())
        })?;
        let mut log = Self { log, records: PhantomData };
        log.repair(keep, end, tail)?;
        Ok(log)
    }

    /// Reads all records of a file, without a torn last line. The file is not locked.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has another line that is not a record.
    pub fn read(path: &Path) -> Result<Vec<T>, PairsError> {
        let mut records = Vec::new();
        scan(path, BufReader::new(open_input(path)?), |_, _, record| {
            records.push(record);
            Ok::<(), PairsError>(())
        })?;
        Ok(records)
    }

    /// Appends one record. `id` is only used in errors.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written. The file then keeps its earlier content.
    pub fn append(&mut self, id: &dyn fmt::Display, record: &T) -> Result<(), PairsError> {
        let line = encode_line(self.path(), id, record)?;
        Ok(self.log.append(&line)?)
    }

    /// Waits until all records are on disk.
    ///
    /// # Errors
    /// Returns an error if the system call fails.
    pub fn sync(&self) -> Result<(), PairsError> {
        Ok(self.log.sync()?)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// Removes all records. The file stays, empty and locked. Opening has checked that it holds
    /// only records.
    ///
    /// # Errors
    /// Returns an error if the file cannot be truncated.
    pub fn clear(&mut self) -> Result<(), PairsError> {
        Ok(self.log.truncate(0)?)
    }

    /// Removes all records that `keeps` refuses. The lines of the others keep their bytes and their
    /// order, without blank lines between them. A killed process leaves the file with all records
    /// or without these.
    ///
    /// # Errors
    /// Returns the errors of [`AppendLog::replace`].
    pub fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) -> Result<(), PairsError> {
        let path = self.path().to_owned();
        self.log.replace(|mut old, new| {
            let (mut line, mut number) = (Vec::new(), 0);
            loop {
                line.clear();
                let read = read_line(&mut old, &mut line, Limits::DEFAULT.record_bytes);
                if read.map_err(PairsError::io("read", &path))? == 0 {
                    return Ok(());
                }
                number += 1;
                let text = line.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                // opening has checked that each line is a record
                let record = from_text(text)
                    .map_err(|(key, error)| PairsError::json(&path, number, number, &key, error))?;
                if keeps(&record) {
                    new.write_all(&line).map_err(PairsError::io("write", &path))?;
                }
            }
        })
    }

    /// Removes what is after the offset `keep`, or adds the missing newline of the last record.
    fn repair(&mut self, keep: u64, end: u64, tail: Tail) -> Result<(), PairsError> {
        if let Tail::Torn { bytes } = tail {
            let path = tracing::field::display(self.path().display());
            tracing::warn!(path, bytes, "cut off a torn last line");
        }
        // blank lines after the last record are kept
        if tail == Tail::Whole && keep == end {
            return Ok(());
        }
        if tail == Tail::NoNewline && keep == end {
            return Ok(self.log.append(b"\n")?);
        }
        Ok(self.log.truncate(keep)?)
    }
}

/// The end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Whole,
    /// The last record is whole but has no newline.
    NoNewline,
    /// The last line is the start of a record.
    Torn {
        bytes: usize,
    },
}

/// What follows from a pass through a file.
struct Contents {
    /// Offset in bytes of the end of the last whole record.
    end: u64,
    tail: Tail,
}

/// Calls `each` with the line number (from 1) of each record, the offset of its end in bytes, and
/// the record.
fn scan<T: DeserializeOwned, E: From<PairsError>>(
    path: &Path,
    mut reader: impl BufRead,
    mut each: impl FnMut(usize, u64, T) -> Result<(), E>,
) -> Result<Contents, E> {
    let read = |source: io::Error| PairsError::io("read", path)(source);
    let limit = Limits::DEFAULT.record_bytes;
    let mut contents = Contents { end: 0, tail: Tail::Whole };
    let (mut line, mut offset, mut records) = (Vec::new(), 0, 0);
    for number in 1.. {
        line.clear();
        if read_line(&mut reader, &mut line, limit).map_err(read)? == 0 {
            break;
        }
        if line.len() > limit {
            let (path, record, line) = (path.to_owned(), records + 1, number);
            return Err(PairsError::RecordTooLarge { path, record, line, limit }.into());
        }
        match from_text::<T>(line.trim_ascii_end()) {
            Ok(record) => {
                records += 1;
                offset += line.len() as u64;
                contents.end = offset;
                each(number, offset, record)?;
            }
            Err(_) if line.trim_ascii().is_empty() => offset += line.len() as u64,
            Err((key, error)) => {
                if reader.fill_buf().map_err(read)?.is_empty() && is_torn::<T>(&line) {
                    contents.tail = Tail::Torn { bytes: line.len() };
                    break;
                }
                return Err(PairsError::json(path, records + 1, number, &key, error).into());
            }
        }
        contents.tail = if line.ends_with(b"\n") { Tail::Whole } else { Tail::NoNewline };
    }
    Ok(contents)
}

/// Returns whether a last line is the start of a record. Trailing zeros are ignored, because some
/// file systems fill unwritten parts of a file with zeros.
fn is_torn<T: DeserializeOwned>(line: &[u8]) -> bool {
    let written = line.iter().rposition(|&byte| byte != 0 && byte != b'\n').map_or(0, |last| last + 1);
    match &line[..written] {
        [] => true,
        text @ [b'{', ..] => serde_json::from_slice::<T>(text).map_or_else(|error| error.is_eof(), |_| true),
        _ => false,
    }
}
