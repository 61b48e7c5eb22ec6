//! The file of a stage.

use std::path::{Path, PathBuf};

use bpo_pairs::files::AppendLog;
use bpo_pairs::format::FileKind;
use bpo_pairs::format::jsonl::JsonLines;
use bpo_pairs::{CompletionKind, JsonlStore, PairsError, SkipReason};

use super::record::StageRecord;
use crate::error::BpoError;
use crate::stage::Stage;

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
    /// Returns an error if the file cannot be read or has a line that is not a record, and
    /// [`PairsError::OtherKind`] for another file of bpo.
    pub fn read(path: &Path) -> Result<Self, BpoError> {
        let records = JsonLines::open(path)?.collect::<Result<_, _>>();
        Ok(Self { path: path.to_owned(), records: records.map_err(|error| not_answers(error, path))? })
    }

    /// Returns records as those of a file, each with its number as its line.
    pub(super) fn of_records(path: &Path, records: impl IntoIterator<Item = StageRecord>) -> Self {
        Self { path: path.to_owned(), records: (1..).zip(records).collect() }
    }

    /// Checks that the file has answers of the weaken stage, or none of the inject stage.
    ///
    /// # Errors
    /// Returns [`PairsError::OtherKind`] if it is a file of the inject stage.
    pub fn check_weakened(&self) -> Result<(), BpoError> {
        let has = |kind: CompletionKind| self.records().any(|record| *record.kind() == kind);
        if has(CompletionKind::ErrorInjected) && !has(CompletionKind::ImageWeakened) {
            return Err(FileKind::Injected.instead_of("answers of `bpo weaken`", &self.path).into());
        }
        Ok(())
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

/// Returns the error for a file that cannot be read as answers.
pub(super) fn not_answers(error: PairsError, path: &Path) -> PairsError {
    let expected = "answers of `bpo weaken` or `bpo inject`";
    error.or_other_kind(path, expected, &[FileKind::Weakened, FileKind::Injected])
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

    /// Removes the skipped items of a stage whose reason may change.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or another process has locked the new file.
    pub(crate) fn remove_skipped(&mut self, stage: Stage) -> Result<(), BpoError> {
        self.retain(|record| !may_change(record, stage))
    }

    /// Removes the records for which `keeps` returns false. All other lines keep their bytes.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or another process has locked the new file.
    pub(super) fn retain(&mut self, keeps: impl Fn(&StageRecord) -> bool) -> Result<(), BpoError> {
        self.store.retain(&keeps)?;
        self.answers.records.retain(|(_, record)| keeps(record));
        let lines = self.answers.records.iter_mut().enumerate();
        lines.for_each(|(place, (line, _))| *line = place + 1);
        Ok(())
    }

    /// Returns the number of skipped items of a stage whose reason [may
    /// change](bpo_pairs::SkipReason::may_change).
    pub fn count_retryable(&self, stage: Stage) -> usize {
        self.answers.records().filter(|record| may_change(record, stage)).count()
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

/// Returns whether a skipped item of a stage may be possible later. A judge's file has copies of items that
/// the weaken stage has skipped.
fn may_change(record: &StageRecord, stage: Stage) -> bool {
    let StageRecord::Skipped { skipped, .. } = record else { return false };
    match stage {
        Stage::Judge => skipped.reason == SkipReason::JudgeFailed,
        _ => skipped.reason.may_change(),
    }
}
