//! A file of finished records, which a stage appends to and can continue after it was killed.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::PairsError;
use crate::files::AppendLog;
use crate::format::jsonl::JsonLines;
use crate::log::JsonlLog;

/// A record with a key that is unique in its file.
pub trait Keyed {
    /// Returns the id of the sample that the record belongs to.
    fn id(&self) -> &str;

    /// Returns the index of the record among the records of its sample, from 0.
    fn variant(&self) -> usize {
        0
    }
}

/// The key of a record: the id of its sample, and its index among the records of that sample.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// Id of the sample.
    pub id: String,
    /// Index of the record among those of the sample, from 0.
    pub variant: usize,
}

impl RecordKey {
    /// Creates the key of record `variant` of a sample.
    pub fn new(id: impl Into<String>, variant: usize) -> Self {
        Self { id: id.into(), variant }
    }

    /// Returns the key of a record.
    pub fn of(record: &impl Keyed) -> Self {
        Self::new(record.id(), record.variant())
    }
}

impl fmt::Display for RecordKey {
    /// Writes the id, and for records after the first of a sample also the number, from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if self.variant == 0 { Ok(()) } else { write!(f, ", answer {}", self.variant + 1) }
    }
}

/// A [`JsonlLog`] of records with unique keys, in any order.
#[derive(Debug)]
pub struct JsonlStore<T> {
    log: JsonlLog<T>,
    known: HashSet<RecordKey>,
}

impl<T: Keyed + Serialize + DeserializeOwned> JsonlStore<T> {
    /// Opens or creates a file and reads the keys of its records.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or written, is locked by another process, has
    /// a line that is not a record, or repeats a key.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PairsError> {
        Self::open_each(path, |_, _| Ok(()))
    }

    /// Opens a file like [`open`](Self::open), and calls `each` with the line number (from 1) of
    /// each record and the record in the same pass.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open) and of `each`. The file is then left unchanged.
    pub fn open_each<E: From<PairsError>>(
        path: impl AsRef<Path>,
        each: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<Self, E> {
        let log = AppendLog::open(path.as_ref()).map_err(PairsError::from)?;
        Self::from_log(log, each)
    }

    /// Reads a file that is open and locked already, like [`open_each`](Self::open_each).
    ///
    /// # Errors
    /// Returns the errors of [`open_each`](Self::open_each). The file is then left unchanged.
    pub fn from_log<E: From<PairsError>>(
        log: AppendLog,
        mut each: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<Self, E> {
        let path = log.path().to_owned();
        let mut known = HashSet::new();
        let log = JsonlLog::from_log(log, |line, record: T| {
            let key = RecordKey::of(&record);
            if known.contains(&key) {
                let (path, id) = (path.clone(), key.to_string());
                return Err(PairsError::DuplicateId { path, line, id }.into());
            }
            known.insert(key);
            each(line, record)
        })?;
        Ok(Self { log, known })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// Returns an error if the file already has the record's key or cannot be written. The file
    /// then keeps its earlier content.
    pub fn append(&mut self, record: &T) -> Result<(), PairsError> {
        let key = RecordKey::of(record);
        if self.contains(&key) {
            let line = self.len() + 1;
            return Err(PairsError::DuplicateId { path: self.path().to_owned(), line, id: key.to_string() });
        }
        self.log.append(&key, record)?;
        self.known.insert(key);
        Ok(())
    }

    /// Waits until all records are on disk.
    ///
    /// # Errors
    /// Returns an error if the system call fails.
    pub fn sync(&self) -> Result<(), PairsError> {
        self.log.sync()
    }

    /// Returns an iterator that reads all records from the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened. Each item is an error if its line cannot be
    /// read.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<T, PairsError>> + use<T>, PairsError> {
        let lines = JsonLines::<T, _>::open(self.path())?;
        Ok(lines.map(|item| item.map(|(_, record)| record)))
    }

    /// Returns whether the file has a record with this key.
    pub fn contains(&self, key: &RecordKey) -> bool {
        self.known.contains(key)
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns whether the file has no records.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// Removes all records that `keeps` refuses; see [`JsonlLog::retain`].
    ///
    /// # Errors
    /// Returns the errors of [`JsonlLog::retain`].
    pub fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) -> Result<(), PairsError> {
        let mut removed = HashSet::new();
        self.log.retain(|record| {
            let is_kept = keeps(record);
            if !is_kept {
                removed.insert(RecordKey::of(record));
            }
            is_kept
        })?;
        self.known.retain(|key| !removed.contains(key));
        Ok(())
    }

    /// Removes all records. The file stays, empty and locked. [`open`](Self::open) has checked that
    /// it holds only records.
    ///
    /// # Errors
    /// Returns an error if the file cannot be truncated.
    pub fn clear(&mut self) -> Result<(), PairsError> {
        self.log.clear()?;
        self.known.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::files::FileError;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        id: String,
        text: String,
        score: f64,
    }

    impl Keyed for Note {
        fn id(&self) -> &str {
            &self.id
        }
    }

    fn note(id: usize, text: &str) -> Note {
        Note { id: format!("n{id}"), text: text.into(), score: id as f64 / 3.0 }
    }

    fn append_missing(path: &Path, notes: &[Note]) {
        let mut store = JsonlStore::open(path).unwrap();
        let done = store.len();
        assert!(
            notes
                .iter()
                .map(|note| store.contains(&RecordKey::of(note)))
                .eq((0..notes.len()).map(|n| n < done))
        );
        notes[done..].iter().for_each(|note| store.append(note).unwrap());
        let read: Vec<Note> = store.records().unwrap().map(Result::unwrap).collect();
        assert_eq!(read, notes);
    }

    fn resumes_from_every_byte(notes: &[Note]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.jsonl");
        append_missing(&path, notes);
        let undisturbed = fs::read(&path).unwrap();
        for cut in 0..undisturbed.len() {
            for zeros in [0, 3] {
                let mut torn = undisturbed[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                // a new file each time: some file systems flush a file that is overwritten
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("notes.jsonl");
                fs::write(&path, torn).unwrap();
                append_missing(&path, notes);
                assert_eq!(fs::read(&path).unwrap(), undisturbed, "cut at {cut}, {zeros} zeros");
            }
        }
    }

    #[test]
    fn complete_record_without_newline_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.jsonl");
        fs::write(&path, serde_json::to_vec(&note(0, "a")).unwrap()).unwrap();
        let store = JsonlStore::<Note>::open(&path).unwrap();
        assert!(store.contains(&RecordKey::new("n0", 0)) && store.len() == 1);
        assert!(fs::read(&path).unwrap().ends_with(b"}\n"));
    }

    #[test]
    fn a_cleared_file_takes_the_same_records_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.jsonl");
        let mut store = JsonlStore::open(&path).unwrap();
        store.append(&note(0, "a")).unwrap();
        store.clear().unwrap();
        assert!(store.is_empty() && fs::read(&path).unwrap().is_empty());
        store.append(&note(0, "b")).unwrap();
        let read: Vec<Note> = store.records().unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [note(0, "b")]);
    }

    #[test]
    fn removed_records_leave_the_bytes_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.jsonl");
        let line = |id| serde_json::to_string(&note(id, "猫")).unwrap();
        // a line of a user has other white space
        let own = line(1).replace(':', " : ");
        fs::write(&path, format!("{}\n\n{own}\n{}\n{}\n", line(0), line(2), line(3))).unwrap();
        let mut store = JsonlStore::<Note>::open(&path).unwrap();
        store.retain(|note| note.id != "n0" && note.id != "n2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n{}\n", line(3)));
        assert_eq!(store.len(), 2);
        // the file is locked and takes records again
        assert!(matches!(JsonlStore::<Note>::open(&path), Err(PairsError::File(FileError::Locked { .. }))));
        store.append(&note(2, "again")).unwrap();
        let read: Vec<Note> = store.records().unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [note(1, "猫"), note(3, "猫"), note(2, "again")]);
    }

    #[test]
    fn files_of_another_kind_are_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.jsonl");
        let good = serde_json::to_string(&note(0, "a")).unwrap();
        let cases = [
            ("[{\"id\": \"n0\"".to_owned(), 1),
            ("{\"model\": \"llava\"}".to_owned(), 1),
            ("{\n  \"model\": 1\n}\n".to_owned(), 1),
            (format!("{good}\nnonsense\n{good}\n"), 2),
            (format!("{good}\n\n{{\"id\"\n{good}\n"), 3),
            (format!("{good}\nplain text"), 2),
        ];
        for (text, expected) in cases {
            fs::write(&path, &text).unwrap();
            match JsonlStore::<Note>::open(&path).unwrap_err() {
                PairsError::Json { line, .. } => assert_eq!(line, expected, "{text}"),
                other => panic!("{other}"),
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn repeated_key_and_second_writer_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.jsonl");
        let mut store = JsonlStore::open(&path).unwrap();
        store.append(&note(0, "a")).unwrap();
        store.sync().unwrap();
        assert!(matches!(store.append(&note(0, "b")), Err(PairsError::DuplicateId { line: 2, .. })));
        assert!(matches!(JsonlStore::<Note>::open(&path), Err(PairsError::File(FileError::Locked { .. }))));
        drop(store);
        let line = fs::read_to_string(&path).unwrap();
        fs::write(&path, line.repeat(2)).unwrap();
        assert!(matches!(JsonlStore::<Note>::open(&path), Err(PairsError::DuplicateId { line: 2, .. })));
        assert!(matches!(
            JsonlStore::<Note>::open(dir.path()),
            Err(PairsError::File(FileError::NotAFile { .. }))
        ));
    }

    #[test]
    fn truncated_escapes_numbers_and_wide_characters_are_removed() {
        resumes_from_every_byte(&[note(0, "a\n\"b\\"), note(1, "Größe 猫 \u{1}🐈"), note(2, "")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn truncation_of_any_text_keeps_complete_records(texts in prop::collection::vec("\\PC{0,12}", 1..4)) {
            let notes: Vec<Note> = texts.iter().enumerate().map(|(id, text)| note(id, text)).collect();
            resumes_from_every_byte(&notes);
        }

        #[test]
        fn file_of_any_bytes_opens_or_is_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("notes.jsonl");
            fs::write(&path, &bytes).unwrap();
            if JsonlStore::<Note>::open(&path).is_err() {
                prop_assert_eq!(fs::read(&path).unwrap(), bytes);
            }
        }
    }
}
