//! Reads the records of a file of any format.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::container::{Magic, decompress, magic};
use super::detect::detect;
use super::fields::JsonRecord;
use super::json::EachWithPlace;
use super::kind::FileKind;
use super::{
    Format, bpo, json, llama_factory, llava, misspelt, ms_swift, pairs, povid, rlaif_v, rlhf_v, trl,
};
use crate::error::PairsError;
use crate::files::open_input;
use crate::filter::PairFilter;
use crate::fingerprint::{Fingerprint, FingerprintReader};
use crate::ids::{UniqueIds, id_or_index};
use crate::image_store::ImageSink;
use crate::pair_ref::PairRef;
use crate::pairs::{PairSet, make_pair_refs};
use crate::pipeline::{Batches, read_ahead};
use crate::placeholders::check_answers;
use crate::record::{PreferencePair, Record};
use crate::sft::SftSample;
use crate::skipped::{SkipCause, SkipReason, Skipped};
use crate::video::{NoVideos, VideoFrames};

/// Number of records of which one must show the format of the file.
const LOOKED_AT: usize = 20;

/// The name of pairs in messages.
pub(super) const PAIRS: &str = "pairs";

/// A record of a file.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most items are of the largest variant")]
pub enum Item {
    /// An annotated answer.
    Sample(SftSample),
    /// Scored completions.
    Record(Record),
    /// A chosen and a rejected answer.
    Pair(PreferencePair),
}

impl Item {
    /// Makes the pairs of the item that pass `filter`. A sample has no pair and is skipped.
    pub fn into_pairs(self, filter: &PairFilter) -> PairSet {
        let (refs, skipped) = self.pair_refs(filter);
        let pairs = match self {
            // moved, as there is nothing to share
            Self::Pair(pair) if !refs.is_empty() => vec![pair],
            _ => refs.iter().map(PairRef::to_pair).collect(),
        };
        PairSet { pairs, skipped }
    }

    /// Does the same as [`into_pairs`](Self::into_pairs) without copying texts.
    pub(super) fn pair_refs(&self, filter: &PairFilter) -> (Vec<PairRef<'_>>, Vec<Skipped>) {
        match self {
            Self::Sample(sample) => (Vec::new(), vec![Skipped::new(&sample.id, SkipReason::NoRejected)]),
            Self::Record(record) => make_pair_refs(record, filter),
            Self::Pair(pair) => {
                let passes = filter.check(pair).map_err(SkipCause::from);
                match passes.and_then(|()| check_answers(&pair.chosen, &pair.rejected)) {
                    Ok(()) => (vec![pair.into()], Vec::new()),
                    Err(cause) => (Vec::new(), vec![cause.of(&pair.id)]),
                }
            }
        }
    }
}

/// Whether the annotated answers of samples are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// A question without an answer is skipped.
    #[default]
    Required,
    /// The last answer of a conversation is not read, and its sample has an empty one. So a conversation
    /// that ends with a question is a sample, too, and so are a question alone and a record of a file of
    /// [questions](super::questions).
    Unused,
}

/// How a file is read.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct ReadOptions<'a> {
    /// The format, or `None` to detect it from the keys of the first records.
    pub format: Option<Format>,
    /// The format of a file whose records have the keys of none.
    pub fallback: Option<Format>,
    /// Finds the frames of videos.
    pub videos: &'a dyn VideoFrames,
    /// Takes images that a file holds as bytes. Without it, records with such images are skipped.
    pub images: Option<&'a dyn ImageSink>,
    /// Whether the answers of samples are used.
    pub answers: Answers,
}

impl Default for ReadOptions<'_> {
    fn default() -> Self {
        Self { format: None, fallback: None, videos: &NoVideos, images: None, answers: Answers::Required }
    }
}

/// Calls `each` with every item and every skipped record of a file, without holding the file in
/// memory, and returns its format.
///
/// `each` is called in this thread and in the order of the file. Another thread reads and converts the
/// records of a regular file a few hundred kilobytes ahead, unless their images are stored.
///
/// # Errors
/// Returns an error if the file cannot be read, is empty, is neither JSON nor Parquet, or has no known
/// format, and the errors of `each`.
pub fn for_each_item(
    path: &Path,
    options: &ReadOptions<'_>,
    each: &mut dyn FnMut(Result<Item, Skipped>) -> Result<(), PairsError>,
) -> Result<Format, PairsError> {
    let file = open_input(path)?;
    read(path, is_ahead(&file), file, options, each)
}

/// Does the same as [`for_each_item`], and returns the fingerprint of the file.
pub(super) fn for_each_item_with_fingerprint(
    path: &Path,
    options: &ReadOptions<'_>,
    each: &mut dyn FnMut(Result<Item, Skipped>) -> Result<(), PairsError>,
) -> Result<Fingerprint, PairsError> {
    let file = open_input(path)?;
    let ahead = is_ahead(&file);
    let mut reader = FingerprintReader::new(file);
    read(path, ahead, &mut reader, options, each)?;
    reader.finish().map_err(PairsError::io("read", path))
}

/// Returns whether another thread reads and converts records before they are needed. Those of a pipe
/// are not read ahead: its writer may be slow, and after an error nobody waits for it.
fn is_ahead(file: &File) -> bool {
    file.metadata().is_ok_and(|there| there.is_file())
}

fn read(
    path: &Path,
    ahead: bool,
    file: impl Read + Send,
    options: &ReadOptions<'_>,
    each: &mut dyn FnMut(Result<Item, Skipped>) -> Result<(), PairsError>,
) -> Result<Format, PairsError> {
    let (kind, file) = magic(file).map_err(PairsError::io("read", path))?;
    // images of records that nobody asks for must not be stored
    let is_plain = !ahead || (kind == Magic::Parquet && options.images.is_some());
    let read = if is_plain {
        items(path, kind, file, options, &Cell::new(0), each)
    } else {
        let ReadOptions { format, fallback, videos, images: _, answers } = *options;
        let produce = |batches: &mut Batches<_>| {
            let options = ReadOptions { format, fallback, videos, images: None, answers };
            let bytes = Cell::new(0);
            items(path, kind, file, &options, &bytes, &mut |item| batches.send(item, bytes.take()))
        };
        read_ahead(path, produce, each)
    };
    read.map_err(|error| error.or_other_kind(path, expected(options), &[FileKind::Samples, FileKind::Pairs]))
}

/// Names what a file should hold, by the format that its records have if they have the keys of
/// none.
fn expected(options: &ReadOptions<'_>) -> &'static str {
    match options.fallback {
        Some(Format::Pairs) => PAIRS,
        Some(_) => "annotated data",
        None => "samples or pairs",
    }
}

/// Calls `each` with every item and every skipped record. `bytes` counts the bytes of the records.
fn items(
    path: &Path,
    kind: Magic,
    file: impl Read,
    options: &ReadOptions<'_>,
    bytes: &Cell<usize>,
    each: &mut dyn FnMut(Result<Item, Skipped>) -> Result<(), PairsError>,
) -> Result<Format, PairsError> {
    let mut reader = Detecting { path, options, pending: Vec::new(), reader: None, each };
    for_each_record(path, kind, file, options.images, &mut |place, record| {
        bytes.set(bytes.get() + place.bytes);
        reader.add(place.line, record)
    })?;
    reader.finish()
}

/// Calls `each` with the first record of a file.
pub(super) fn first_record(path: &Path, each: &mut dyn FnMut(&JsonRecord)) -> Result<(), PairsError> {
    let (kind, file) = magic(open_input(path)?).map_err(PairsError::io("read", path))?;
    for_each_record(path, kind, file, None, &mut |_, record| {
        each(&record);
        // the error only ends the reading
        Err(PairsError::Empty { path: path.to_owned(), expected: "one record" })
    })
}

/// Calls `each` with the place and the value of every record.
fn for_each_record(
    path: &Path,
    kind: Magic,
    mut file: impl Read,
    images: Option<&dyn ImageSink>,
    each: &mut EachWithPlace<'_, JsonRecord>,
) -> Result<(), PairsError> {
    let io = PairsError::io("read", path);
    match kind {
        Magic::Text(compression) => match decompress(file, compression) {
            Ok(file) => json::for_each_with_place(path, file, each),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                Err(PairsError::NotBuilt { path: path.to_owned(), what: "a compressed file" })
            }
            Err(error) => Err(io(error)),
        },
        Magic::Parquet => {
            parquet(path, images, each)?;
            // the fingerprint is that of all bytes
            io::copy(&mut file, &mut io::sink()).map_err(io)?;
            Ok(())
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet(
    path: &Path,
    images: Option<&dyn ImageSink>,
    each: &mut json::EachWithPlace<'_, JsonRecord>,
) -> Result<(), PairsError> {
    super::parquet::for_each_row(path, open_input(path)?, images, each)
}

#[cfg(not(feature = "parquet"))]
fn parquet(
    path: &Path,
    _: Option<&dyn ImageSink>,
    _: &mut json::EachWithPlace<'_, JsonRecord>,
) -> Result<(), PairsError> {
    Err(PairsError::NotBuilt { path: path.to_owned(), what: "a Parquet file" })
}

/// Holds the first records until one of them shows the format.
struct Detecting<'a, 'b> {
    path: &'a Path,
    options: &'a ReadOptions<'b>,
    pending: Vec<(usize, JsonRecord)>,
    reader: Option<ItemReader<'a>>,
    each: &'a mut dyn FnMut(Result<Item, Skipped>) -> Result<(), PairsError>,
}

impl<'a> Detecting<'a, '_> {
    fn add(&mut self, line: usize, record: JsonRecord) -> Result<(), PairsError> {
        if let Some(reader) = &mut self.reader {
            return reader.read(line, record, self.each);
        }
        let format = self.options.format.or_else(|| record.fields().and_then(detect));
        self.pending.push((line, record));
        match format {
            Some(format) => self.start(format),
            None if self.pending.len() == LOOKED_AT => self.start(self.without_keys()?),
            None => Ok(()),
        }
    }

    fn start(&mut self, format: Format) -> Result<(), PairsError> {
        let mut reader = ItemReader::new(format, self.path, self.options);
        let pending = std::mem::take(&mut self.pending);
        pending.into_iter().try_for_each(|(line, record)| reader.read(line, record, self.each))?;
        self.reader = Some(reader);
        Ok(())
    }

    fn finish(mut self) -> Result<Format, PairsError> {
        if self.reader.is_none() {
            // an empty list has no record, and any format
            let format = self.options.format.or(self.pending.is_empty().then_some(Format::Pairs));
            self.start(format.map_or_else(|| self.without_keys(), Ok)?)?;
        }
        Ok(self.reader.map_or(Format::Pairs, |reader| reader.format))
    }

    /// Returns the format of a file whose first records have the keys of none.
    ///
    /// # Errors
    /// Returns [`PairsError::OtherKind`] for another file of bpo, and [`PairsError::UnknownFormat`]
    /// if there is no fallback.
    fn without_keys(&self) -> Result<Format, PairsError> {
        let kind = |(_, record): &(usize, JsonRecord)| record.fields().and_then(FileKind::of_fields);
        let is_taken =
            |kind: &FileKind| *kind == FileKind::Questions && self.options.answers == Answers::Unused;
        match self.pending.iter().find_map(kind).filter(|kind| !is_taken(kind)) {
            Some(found) => Err(found.instead_of(expected(self.options), self.path)),
            None => self.options.fallback.ok_or_else(|| self.unknown()),
        }
    }

    fn unknown(&self) -> PairsError {
        let fields = self.pending.iter().find_map(|(_, record)| record.fields());
        let keys = fields.map(|fields| fields.keys().collect::<Vec<_>>().join(", "));
        let misspelt = fields.and_then(misspelt::any);
        PairsError::UnknownFormat {
            path: self.path.to_owned(),
            misspelt: misspelt.map(|(key, meant)| (key.to_owned(), meant)),
            keys: keys.unwrap_or_else(|| "no record is an object".to_owned()),
        }
    }
}

/// Converts records of one format.
struct ItemReader<'a> {
    format: Format,
    path: PathBuf,
    videos: &'a dyn VideoFrames,
    answers: Answers,
    ids: UniqueIds,
    /// Ids of pairs of `bpo pair`, which may not be repeated.
    own_ids: HashSet<String>,
    index: usize,
}

impl<'a> ItemReader<'a> {
    fn new(format: Format, path: &Path, options: &ReadOptions<'a>) -> Self {
        let (ids, own_ids) = (UniqueIds::default(), HashSet::new());
        let ReadOptions { videos, answers, .. } = *options;
        Self { format, path: path.to_owned(), videos, answers, ids, own_ids, index: 0 }
    }

    /// Converts a record and calls `each` with its items.
    fn read(
        &mut self,
        line: usize,
        record: JsonRecord,
        each: &mut dyn FnMut(Result<Item, Skipped>) -> Result<(), PairsError>,
    ) -> Result<(), PairsError> {
        let index = self.index;
        self.index += 1;
        let (ids, videos) = (&mut self.ids, self.videos);
        match self.format {
            Format::Llava => {
                let items = llava::samples(record, index, ids, videos, self.answers).into_iter();
                items.map(|item| item.map(Item::Sample)).try_for_each(each)
            }
            Format::Bpo => each(bpo::record(record, index, ids, videos).map(Item::Record)),
            Format::Pairs => each(self.own_pair(line, record, index)?),
            _ => self.pairs(record, index).into_iter().try_for_each(each),
        }
    }

    /// Reads a pair of `bpo pair`.
    fn own_pair(
        &mut self,
        line: usize,
        record: JsonRecord,
        index: usize,
    ) -> Result<Result<Item, Skipped>, PairsError> {
        let (id, read) = record.read_named(|fields, named| {
            misspelt::check(&fields, Format::Pairs)?;
            pairs::read(fields, named, self.videos)
        });
        if let Some(id) = id.as_ref().filter(|id| !self.own_ids.insert(id.0.clone())) {
            let line = if line == 0 { index + 1 } else { line };
            return Err(PairsError::DuplicateId { path: self.path.clone(), line, id: id.0.clone() });
        }
        let id = id_or_index(id, index);
        Ok(match read {
            Ok(pair) => Ok(Item::Pair(PreferencePair { id, ..pair })),
            Err(cause) => Err(cause.in_record(index + 1).of(id)),
        })
    }

    /// Reads the pairs of a record of another program.
    fn pairs(&mut self, record: JsonRecord, index: usize) -> Vec<Result<Item, Skipped>> {
        let (format, videos) = (self.format, self.videos);
        let (id, read) = record.read(|mut fields| {
            misspelt::check(&fields, format)?;
            // the data sets RLHF-V and RLAIF-V number their records
            let own = fields.id("idx").ok().flatten();
            let one = |pair: Result<PreferencePair, SkipCause>| Ok(vec![pair?]);
            let pairs = match format {
                Format::LlamaFactory => one(llama_factory::read(fields, videos)),
                Format::MsSwift => one(ms_swift::read(fields, videos)),
                Format::Povid => povid::read(fields, videos),
                Format::RlhfV => one(rlhf_v::read(fields, videos)),
                Format::RlaifV => one(rlaif_v::read(fields, videos)),
                _ => one(trl::read(fields, videos)),
            };
            pairs.map(|pairs| (own, pairs))
        });
        match read {
            Ok((own, pairs)) => {
                let ids = self.ids.claim(&id_or_index(id.or(own), index), pairs.len());
                let named = ids.into_iter().zip(pairs);
                named.map(|(id, pair)| Ok(Item::Pair(PreferencePair { id, ..pair }))).collect()
            }
            Err(cause) => {
                let ids = self.ids.claim(&id_or_index(id, index), 1);
                ids.into_iter().map(|id| Err(cause.clone().in_record(index + 1).of(id))).collect()
            }
        }
    }
}
