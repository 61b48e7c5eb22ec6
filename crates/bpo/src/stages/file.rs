//! The file of a stage.

use std::path::{Path, PathBuf};

use bpo_pairs::files::AppendLog;
use bpo_pairs::format::jsonl::JsonLines;
use bpo_pairs::{JsonlStore, PairsError};

use super::record::StageRecord;
use crate::error::BpoError;

/// The records of a stage file, in the order of the file.
#[derive(Clone, Debug)]
pub struct StageAnswers {
    path: PathBuf,
    /// Records with their line, counted from 1.
    records: Vec<(usize, StageRecord)>,
}

impl StageAnswers {
    /// Reads a file, which can be a pipe. The file is not locked or changed.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has a line that is not a record.
    pub fn read(path: &Path) -> Result<Self, BpoError> {
        let records = JsonLines::open(path)?.collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), records })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the records.
    pub fn records(&self) -> impl Iterator<Item = &StageRecord> {
        self.records.iter().map(|(_, record)| record)
    }

    /// Returns the records with their lines, counted from 1.
    pub(super) fn lines(&self) -> &[(usize, StageRecord)] {
        &self.records
    }

    /// Returns the path and the records with their lines.
    pub(super) fn into_parts(self) -> (PathBuf, Vec<(usize, StageRecord)>) {
        (self.path, self.records)
    }
}

/// The file of a stage: open, locked for other processes, and read.
///
/// The file stays locked until the value is dropped.
#[derive(Debug)]
pub struct StageFile {
    store: JsonlStore<StageRecord>,
    answers: StageAnswers,
}

impl StageFile {
    /// Opens or creates a file, locks it and reads its records. A torn last line is removed.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or written, is locked by another process, has
    /// a line that is not a record, or has a record twice.
    pub fn open(path: &Path) -> Result<Self, BpoError> {
        Self::from_log(AppendLog::open(path).map_err(PairsError::from)?)
    }

    /// Reads the records of a file that is open and locked already.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open).
    pub(crate) fn from_log(log: AppendLog) -> Result<Self, BpoError> {
        let mut answers = StageAnswers { path: log.path().to_owned(), records: Vec::new() };
        let store = JsonlStore::from_log(log, |line, record| {
            answers.records.push((line, record));
            Ok::<_, PairsError>(())
        })?;
        Ok(Self { store, answers })
    }

    /// Returns the records, including those that were appended.
    pub fn answers(&self) -> &StageAnswers {
        &self.answers
    }

    /// Returns the records and unlocks the file.
    pub fn into_answers(self) -> StageAnswers {
        self.answers
    }

    /// Returns whether a record is an answer. Skipped items are none.
    pub fn has_answers(&self) -> bool {
        self.answers.records().any(|record| matches!(record, StageRecord::Answered(_)))
    }

    /// Appends a record.
    pub(super) fn append(&mut self, record: StageRecord) -> Result<(), BpoError> {
        self.store.append(&record)?;
        let line = self.answers.records.last().map_or(1, |(line, _)| line + 1);
        self.answers.records.push((line, record));
        Ok(())
    }

    /// Waits until all records are on disk.
    pub(super) fn sync(&self) -> Result<(), BpoError> {
        Ok(self.store.sync()?)
    }

    /// Removes all records. The file stays, empty and locked.
    ///
    /// # Errors
    /// Returns an error if the file cannot be truncated.
    pub(crate) fn clear(&mut self) -> Result<(), BpoError> {
        self.store.clear()?;
        self.answers.records.clear();
        Ok(())
    }
}
