//! The places of answers in their files, so that answers are read when their sample needs them.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bpo_pairs::files::open_input;
use bpo_pairs::format::jsonl::JsonLines;
use bpo_pairs::{CompletionKind, Keyed, PairsError, RecordKey, SkipCounts, item_seed};

use super::assemble::{is_usable, rank};
use super::file::not_answers;
use super::record::{Bootstrapped, StageRecord};
use crate::error::BpoError;

/// The answers of stage files by sample. Memory holds about 100 bytes for each answer and not its
/// text, unless the file is a pipe.
#[derive(Debug)]
pub struct AnswerIndex {
    files: Vec<Source>,
    samples: HashMap<u64, Entry>,
    skipped: SkipCounts,
}

/// A file of answers.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(File),
    /// The content of a pipe.
    Held(Vec<u8>),
}

/// The answers of one sample.
#[derive(Debug, Default)]
struct Entry {
    places: Vec<Place>,
    /// The records of answers about weakened images.
    weakened: Records,
    /// The records of all answers.
    all: Records,
}

/// Records of one sample.
#[derive(Clone, Copy, Debug, Default)]
struct Records {
    /// Whether there are any.
    exist: bool,
    /// Whether one of them allows a pair.
    is_usable: bool,
}

impl Records {
    fn add(&mut self, record: &StageRecord) {
        self.exist = true;
        self.is_usable |= is_usable(record);
    }

    /// Returns whether all of them were skipped, so that the sample has no pair.
    fn are_skipped(self) -> bool {
        self.exist && !self.is_usable
    }
}

impl Entry {
    /// Returns whether the sample has no pair, because its weakened answers or, if `by_own` is true, its
    /// answers of any kind were all skipped.
    fn is_dropped(&self, by_own: bool) -> bool {
        if by_own { self.all.are_skipped() } else { self.weakened.are_skipped() }
    }
}

/// A line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: u32,
    line: u32,
    offset: u64,
    bytes: u32,
}

impl AnswerIndex {
    /// Reads files, which can be pipes. They are not locked or changed.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or has a line that is not a record, and
    /// [`PairsError::OtherKind`] for another file of bpo.
    pub fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Self, BpoError> {
        let mut index = Self { files: Vec::new(), samples: HashMap::new(), skipped: SkipCounts::default() };
        for path in paths {
            index.add(path)?;
        }
        Ok(index)
    }

    fn add(&mut self, path: &Path) -> Result<(), BpoError> {
        let mut file = open_input(path)?;
        let read = BpoError::io("read", path);
        let content = match file.metadata() {
            Ok(there) if there.is_file() => Content::File(file),
            _ => {
                let mut held = Vec::new();
                file.read_to_end(&mut held).map_err(read)?;
                Content::Held(held)
            }
        };
        let number = self.files.len() as u32;
        match &content {
            Content::File(file) => self.scan(path, number, BufReader::new(file))?,
            Content::Held(held) => self.scan(path, number, held.as_slice())?,
        }
        self.files.push(Source { path: path.to_owned(), content });
        Ok(())
    }

    fn scan(&mut self, path: &Path, file: u32, reader: impl BufRead) -> Result<(), BpoError> {
        let read = Cell::new(0);
        let mut offset = 0;
        for item in JsonLines::<StageRecord, _>::new(path, Counting { reader, read: &read }) {
            let (line, record) = item.map_err(|error| not_answers(error, path))?;
            let entry = self.samples.entry(hash(record.id())).or_default();
            // a line has at most `Limits::record_bytes`, so its length fits
            let bytes = (read.get() - offset) as u32;
            entry.places.push(Place { file, line: line as u32, offset, bytes });
            entry.all.add(&record);
            if let StageRecord::Skipped { skipped, .. } = &record {
                self.skipped.add(skipped.reason);
            }
            if *record.kind() == CompletionKind::ImageWeakened {
                entry.weakened.add(&record);
            }
            offset = read.get();
        }
        Ok(())
    }

    /// Returns the counts of the answers that the stages of the files have skipped.
    pub fn skipped(&self) -> &SkipCounts {
        &self.skipped
    }

    /// Returns the number of samples whose weakened answers were all skipped, so that they have no
    /// pair; see [`without_answers`](super::without_answers). If `by_own` is true, these are the samples
    /// whose answers of any kind were skipped.
    pub(super) fn count_dropped(&self, by_own: bool) -> usize {
        self.samples.values().filter(|entry| entry.is_dropped(by_own)).count()
    }

    /// Returns whether a sample is among those of [`count_dropped`](Self::count_dropped). Its answers must
    /// not have been [taken](Self::take).
    pub(super) fn is_dropped(&self, id: &str, by_own: bool) -> bool {
        self.samples.get(&hash(id)).is_some_and(|entry| entry.is_dropped(by_own))
    }

    /// Takes the answers of a sample, in the order of the stages and variants. Returns `None` if the
    /// sample is among those of [`count_dropped`](Self::count_dropped).
    ///
    /// # Errors
    /// Returns an error if a line cannot be read, or [`PairsError::DuplicateId`] if an answer occurs
    /// twice.
    pub(super) fn take(&mut self, id: &str, by_own: bool) -> Result<Option<Vec<Bootstrapped>>, BpoError> {
        let Some(entry) = self.samples.remove(&hash(id)) else { return Ok(Some(Vec::new())) };
        let mut answers = Vec::new();
        let mut seen: Vec<(RecordKey, CompletionKind)> = Vec::new();
        for place in &entry.places {
            let record = self.record(*place)?;
            let key = (RecordKey::of(&record), record.kind().clone());
            if key.0.id != id {
                // two ids have the same hash
                return Err(BpoError::UnknownId { id: key.0.id });
            }
            if seen.contains(&key) {
                // for example, the same file given twice
                let path = self.files[place.file as usize].path.clone();
                return Err(PairsError::DuplicateId { path, line: place.line as usize, id: key.0.id }.into());
            }
            seen.push(key);
            if let StageRecord::Answered(answer) = record {
                answers.push(answer);
            }
        }
        answers.sort_by(|one, other| {
            rank(&one.kind).cmp(&rank(&other.kind)).then(one.variant.cmp(&other.variant))
        });
        Ok((!entry.is_dropped(by_own)).then_some(answers))
    }

    /// Checks that all answers were taken. Skipped items of unknown samples are ignored.
    ///
    /// # Errors
    /// Returns [`BpoError::UnknownId`] for the first answer in the files that belongs to no sample.
    pub(super) fn finish(mut self) -> Result<(), BpoError> {
        let mut left: Vec<Place> = self.samples.values().flat_map(|entry| entry.places.clone()).collect();
        left.sort_unstable();
        for place in left {
            if let StageRecord::Answered(answer) = self.record(place)? {
                return Err(BpoError::UnknownId { id: answer.id });
            }
        }
        Ok(())
    }

    fn record(&mut self, place: Place) -> Result<StageRecord, BpoError> {
        let Source { path, content } = &mut self.files[place.file as usize];
        let mut line = vec![0; place.bytes as usize];
        let changed = || io::Error::other("the file changed while it was read");
        match content {
            Content::File(file) => {
                file.seek(SeekFrom::Start(place.offset)).map_err(BpoError::io("read", path))?;
                file.read_exact(&mut line).map_err(BpoError::io("read", path))?;
            }
            Content::Held(held) => {
                let start = place.offset as usize;
                let text = held.get(start..start + line.len()).ok_or_else(changed);
                line.copy_from_slice(text.map_err(BpoError::io("read", path))?);
            }
        }
        serde_json::from_slice(&line).map_err(|source| BpoError::Json { path: path.clone(), source })
    }
}

fn hash(id: &str) -> u64 {
    item_seed(0, id)
}

/// Counts the bytes that are taken from a reader.
struct Counting<'a, R> {
    reader: R,
    read: &'a Cell<u64>,
}

impl<R: BufRead> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counting<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.read.set(self.read.get() + count as u64);
        self.reader.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(id: &str, variant: usize, kind: &str, response: &str) -> String {
        format!("{{\"id\":\"{id}\",\"variant\":{variant},\"type\":\"{kind}\",\"response\":\"{response}\"}}\n")
    }

    #[test]
    fn answers_are_found_in_any_order_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let skipped = |id: &str, reason: &str| {
            format!("{{\"id\":\"{id}\",\"type\":\"mllm-hal\",\"reason\":\"{reason}\",\"detail\":\"x\"}}\n")
        };
        let first = [
            line("b", 1, "mllm-hal", "猫 two"),
            "\n".to_owned(),
            line("a", 0, "mllm-hal", "one"),
            line("b", 0, "mllm-hal", "three"),
            skipped("c", "image-missing"),
            skipped("d", "no-image"),
        ];
        fs::write(at("first"), first.concat().trim_end()).unwrap();
        let second = [
            line("c", 0, "llm-hal", "four"),
            line("b", 0, "llm-hal", "five"),
            line("d", 0, "llm-hal", "six"),
        ];
        fs::write(at("second"), second.concat()).unwrap();
        let open = || AnswerIndex::read([at("second").as_path(), at("first").as_path()]).unwrap();
        let mut index = open();
        assert_eq!((index.count_dropped(false), index.count_dropped(true)), (1, 0));
        let mut texts = |id: &str| -> Option<Vec<String>> {
            Some(index.take(id, false).unwrap()?.into_iter().map(|answer| answer.response).collect())
        };
        assert_eq!(texts("b").unwrap(), ["three", "猫 two", "five"]);
        assert_eq!(texts("a").unwrap(), ["one"]);
        assert_eq!(texts("c"), None);
        assert_eq!(texts("d").unwrap(), ["six"]);
        assert_eq!(texts("e").unwrap(), Vec::<String>::new());
        index.finish().unwrap();

        let mut index = open();
        index.take("b", false).unwrap();
        assert!(matches!(index.finish(), Err(BpoError::UnknownId { id }) if id == "c"));
    }

    #[test]
    fn an_answer_that_occurs_twice_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers");
        fs::write(&path, [line("a", 0, "llm-hal", "x"), line("a", 0, "llm-hal", "y")].concat()).unwrap();
        let mut index = AnswerIndex::read([path.as_path()]).unwrap();
        let error = index.take("a", false).unwrap_err();
        assert!(matches!(error, BpoError::Pairs(PairsError::DuplicateId { line: 2, .. })), "{error:?}");
    }
}
