//! Writes items to a file of any format.

use std::io::{self, Write};
use std::path::Path;
use std::thread::Scope;

use serde::Serialize;

use super::container::{Compressor, Container, Layout};
use super::input::Item;
use super::{Format, bpo, llama_factory, llava, ms_swift, povid, rlaif_v, rlhf_v, trl};
use crate::error::PairsError;
use crate::filter::PairFilter;
use crate::image_store::ImageBytes;
use crate::pair_ref::PairRef;
use crate::pipeline::Behind;
use crate::record::{PreferencePair, Record};
use crate::row_images::RowImage;
use crate::sft::SftSample;
use crate::skipped::{SkipCause, Skipped};

/// Bytes of JSON text that are compressed and written at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Number of blocks that wait to be written.
const BLOCKS: usize = 2;

/// Writes items of any kind in one format. Another thread encodes, compresses and writes them.
pub(super) struct ItemWriter<'a, W: Write + Send> {
    format: Format,
    filter: &'a PairFilter,
    rows: Rows<'a, W>,
    /// A conversation to which the next sample may be added.
    conversation: Option<llava::Row>,
    records: usize,
    /// Whether the file holds the bytes of the images.
    has_bytes: bool,
    unreadable_images: usize,
}

impl<'a, W: Write + Send + 'a> ItemWriter<'a, W> {
    /// Starts a file, whose name decides on its container. With `images`, a Parquet file holds the
    /// bytes of the images.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or if the program was built without its
    /// container.
    pub(super) fn new(
        scope: &'a Scope<'a, '_>,
        path: &'a Path,
        writer: W,
        format: Format,
        filter: &'a PairFilter,
        images: Option<&'a dyn ImageBytes>,
    ) -> Result<Self, PairsError> {
        let has_bytes = images.is_some() && Container::of_name(path).layout == Layout::Parquet;
        let rows = Rows::new(scope, path, writer, format, images)?;
        Ok(Self { format, filter, rows, conversation: None, records: 0, has_bytes, unreadable_images: 0 })
    }

    /// Number of pairs so far with an image in a row of a Parquet file, in a file for a program that
    /// cannot open it.
    pub(super) fn unreadable_images(&self) -> usize {
        self.unreadable_images
    }

    /// Writes an item, and calls `skipped` with what the format cannot hold and with pairs that do not
    /// pass the filter.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn write(&mut self, item: Item, skipped: &mut dyn FnMut(Skipped)) -> Result<(), PairsError> {
        match self.format {
            Format::Llava => match item.into_sample() {
                Ok(sample) => self.add_sample(sample, skipped),
                Err(cause) => {
                    skipped(cause);
                    Ok(())
                }
            },
            Format::Bpo => match item.into_record() {
                Ok(record) => {
                    let row = bpo::EntryOut::new(self.records, &record);
                    let put = self.put(&row)?;
                    put.err().map(|cause| cause.of(record.id)).into_iter().for_each(skipped);
                    Ok(())
                }
                Err(cause) => {
                    skipped(cause);
                    Ok(())
                }
            },
            _ => {
                let (pairs, left_out) = item.pair_refs(self.filter);
                left_out.into_iter().for_each(&mut *skipped);
                for pair in pairs {
                    if let Err(cause) = self.add_pair(&pair)? {
                        skipped(cause.of(pair.id));
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes the rest of the file, and returns the number of its records.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn finish(mut self, skipped: &mut dyn FnMut(Skipped)) -> Result<usize, PairsError> {
        self.write_conversation(skipped)?;
        self.rows.finish(self.records)?;
        Ok(self.records)
    }

    /// Waits until the records so far are written, and leaves out the end of the file.
    ///
    /// # Errors
    /// Returns an error if a record could not be written.
    pub(super) fn stop(&mut self) -> Result<(), PairsError> {
        match &mut self.rows {
            Rows::Json { blocks, .. } => blocks.join().map(drop),
            #[cfg(feature = "parquet")]
            Rows::Parquet(rows) => rows.stop(),
        }
    }

    fn add_pair(&mut self, pair: &PairRef<'_>) -> Result<Result<(), SkipCause>, PairsError> {
        let is_ours = matches!(self.format, Format::Pairs | Format::Llava | Format::Bpo);
        if !is_ours && !self.has_bytes {
            let mut images = pair.images.iter().chain(pair.contrast_images);
            let is_in_row = images.any(|name| RowImage::of_name(name).is_some());
            self.unreadable_images += usize::from(is_in_row);
        }
        match self.format {
            Format::LlamaFactory => self.put(&llama_factory::Row::new(pair)),
            Format::MsSwift => self.put(&ms_swift::Row::new(pair)),
            Format::Povid => self.put(&povid::Row::new(pair)),
            Format::Trl => self.put(&trl::Row::new(pair)),
            Format::TrlPlain => self.put_some(trl::PlainRow::new(pair)),
            Format::RlhfV => self.put_some(rlhf_v::Row::new(pair)),
            Format::RlaifV => self.put_some(rlaif_v::Row::new(pair)),
            Format::Pairs | Format::Llava | Format::Bpo => self.put(pair),
        }
    }

    fn put_some(
        &mut self,
        row: Result<impl Serialize, SkipCause>,
    ) -> Result<Result<(), SkipCause>, PairsError> {
        match row {
            Ok(row) => self.put(&row),
            Err(cause) => Ok(Err(cause)),
        }
    }

    fn put(&mut self, row: &impl Serialize) -> Result<Result<(), SkipCause>, PairsError> {
        let put = self.rows.put(self.records, row)?;
        self.records += usize::from(put.is_ok());
        Ok(put)
    }

    /// Adds a sample to its conversation, or writes the conversation before it.
    fn add_sample(&mut self, sample: SftSample, skipped: &mut dyn FnMut(Skipped)) -> Result<(), PairsError> {
        let sample = match &mut self.conversation {
            Some(conversation) => match conversation.add(sample) {
                None => return Ok(()),
                Some(other) => other,
            },
            None => sample,
        };
        self.write_conversation(skipped)?;
        self.conversation = Some(llava::Row::new(sample));
        Ok(())
    }

    fn write_conversation(&mut self, skipped: &mut dyn FnMut(Skipped)) -> Result<(), PairsError> {
        let Some(conversation) = self.conversation.take() else { return Ok(()) };
        if let Err(cause) = self.put(&conversation)? {
            skipped(cause.of(conversation.id()));
        }
        Ok(())
    }
}

/// The records of a file in its container.
enum Rows<'a, W: Write + Send> {
    Json {
        path: &'a Path,
        blocks: Behind<'a, Vec<u8>, Compressor<W>>,
        is_array: bool,
        block: Vec<u8>,
    },
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::RowWriter<'a, W>>),
}

impl<'a, W: Write + Send + 'a> Rows<'a, W> {
    fn new(
        scope: &'a Scope<'a, '_>,
        path: &'a Path,
        writer: W,
        format: Format,
        images: Option<&'a dyn ImageBytes>,
    ) -> Result<Self, PairsError> {
        let Container { layout, compression } = Container::of_name(path);
        if layout == Layout::Parquet {
            return Self::parquet(scope, path, writer, format, images);
        }
        let writer = Compressor::new(writer, compression).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => {
                PairsError::NotBuilt { path: path.to_owned(), what: "a compressed file" }
            }
            _ => PairsError::io("write", path)(error),
        })?;
        let write = |writer: &mut Compressor<W>, block: Vec<u8>| {
            writer.write_all(&block).map_err(PairsError::io("write", path))
        };
        let blocks = Behind::start(scope, path, BLOCKS, writer, write)?;
        Ok(Self::Json { path, blocks, is_array: layout == Layout::Array, block: Vec::new() })
    }

    #[cfg(feature = "parquet")]
    fn parquet(
        scope: &'a Scope<'a, '_>,
        path: &'a Path,
        writer: W,
        format: Format,
        images: Option<&'a dyn ImageBytes>,
    ) -> Result<Self, PairsError> {
        let columns = super::parquet::columns(format);
        Ok(Self::Parquet(Box::new(super::parquet::RowWriter::new(scope, path, writer, columns, images)?)))
    }

    #[cfg(not(feature = "parquet"))]
    fn parquet(
        _: &'a Scope<'a, '_>,
        path: &'a Path,
        _: W,
        _: Format,
        _: Option<&'a dyn ImageBytes>,
    ) -> Result<Self, PairsError> {
        Err(PairsError::NotBuilt { path: path.to_owned(), what: "a Parquet file" })
    }

    /// Writes a record. `before` is the number of records before it.
    fn put(&mut self, before: usize, row: &impl Serialize) -> Result<Result<(), SkipCause>, PairsError> {
        match self {
            Self::Json { path, blocks, is_array, block } => {
                if *is_array {
                    block.extend_from_slice(if before == 0 { b"[\n" } else { b",\n" });
                }
                serde_json::to_writer(&mut *block, row).map_err(|source| PairsError::Encode {
                    path: path.to_owned(),
                    record: before.to_string(),
                    source,
                })?;
                if !*is_array {
                    block.push(b'\n');
                }
                if block.len() >= BLOCK_BYTES {
                    let next = Vec::with_capacity(block.len());
                    blocks.send(std::mem::replace(block, next))?;
                }
                Ok(Ok(()))
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => rows.add(row),
        }
    }

    /// Writes the end of the file. `records` is the number of records.
    fn finish(self, records: usize) -> Result<(), PairsError> {
        match self {
            Self::Json { path, mut blocks, is_array, mut block } => {
                let end: &[u8] = match (is_array, records) {
                    (false, _) => b"",
                    (true, 0) => b"[]\n",
                    (true, _) => b"\n]\n",
                };
                block.extend_from_slice(end);
                blocks.send(block)?;
                blocks.finish()?.finish().map_err(PairsError::io("write", path))
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => rows.finish(),
        }
    }
}

impl Item {
    /// Makes a sample with the chosen answer of a pair, or with the first of the completions that have
    /// the highest score.
    ///
    /// # Errors
    /// Returns a record without completions as skipped.
    pub fn into_sample(self) -> Result<SftSample, Skipped> {
        Ok(match self {
            Self::Sample(sample) => sample,
            Self::Pair(pair) => {
                let PreferencePair { id, images, system, history, prompt, chosen, .. } = pair;
                SftSample { id, images, system, history, prompt, answer: chosen }
            }
            Self::Record(record) => {
                let Record { id, images, system, history, prompt, completions } = record;
                let best = completions
                    .into_iter()
                    .reduce(|best, completion| if completion.score > best.score { completion } else { best });
                match best {
                    Some(best) => SftSample { id, images, system, history, prompt, answer: best.response },
                    None => return Err(Skipped::new(id, crate::skipped::SkipReason::EmptyAnswer)),
                }
            }
        })
    }

    /// Makes a record with the annotated answer of a sample, or with both answers of a pair.
    ///
    /// # Errors
    /// Returns a pair with its own beta or a contrast as skipped, because a record has no place for
    /// them.
    pub fn into_record(self) -> Result<Record, Skipped> {
        Ok(match self {
            Self::Record(record) => record,
            Self::Sample(sample) => bpo::of_sample(sample),
            Self::Pair(pair) => return bpo::of_pair(pair),
        })
    }
}
