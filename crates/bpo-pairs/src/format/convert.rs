//! Converts a file from one format to another.

use std::io::Write;
use std::path::Path;
use std::thread;

use super::input::{Item, PAIRS, ReadOptions, for_each_item};
use super::output::ItemWriter;
use super::{FileKind, Format, dataset_info};
use crate::error::PairsError;
use crate::files::{create_parents, write_atomic};
use crate::filter::PairFilter;
use crate::image_store::ImageBytes;
use crate::skipped::{SkipCounts, Skipped};

/// How a file is converted.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct ConvertOptions<'a> {
    /// How the input is read.
    pub read: ReadOptions<'a>,
    /// Reads images for a Parquet file that holds their bytes. Without it, the file holds paths.
    pub images: Option<&'a dyn ImageBytes>,
    /// The filter for pairs.
    pub filter: &'a PairFilter,
}

impl<'a> ConvertOptions<'a> {
    /// Reads a file of any format, and writes image paths and the pairs that pass `filter`.
    pub fn new(filter: &'a PairFilter) -> Self {
        Self { read: ReadOptions::default(), images: None, filter }
    }
}

/// The result of [`convert`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The format of the input.
    pub from: Format,
    /// Number of records in the output.
    pub written: usize,
    /// Number of skipped records and pairs, by reason.
    pub skipped: SkipCounts,
    /// Number of written pairs whose image is in a row of a Parquet file, in a file for a program that
    /// cannot open it.
    pub unreadable_images: usize,
}

/// Reads a file of any format and writes its records in the format `to`, holding only a few records in
/// memory. The name of the output decides on its [`Container`](super::Container). An existing file is replaced when the
/// new one is complete. `skipped` is called with every skipped record and pair.
///
/// - Formats of pairs get all pairs of scored completions that pass the filter.
/// - [`Format::Llava`] gets the chosen answer of a pair, or the completion with the highest score.
/// - [`Format::Bpo`] gets the annotated answer of a sample, or both answers of a pair.
/// - Beside a file of [`Format::LlamaFactory`], `dataset_info.json` gets an entry for it.
///
/// # Errors
/// Returns an error if the input cannot be read, no record fits, or the output cannot be written,
/// and [`PairsError::OtherKind`] for annotated data if `to` is a format of pairs.
pub fn convert(
    input: &Path,
    output: &Path,
    to: Format,
    options: &ConvertOptions<'_>,
    skipped: &mut dyn FnMut(&Skipped),
) -> Result<Conversion, PairsError> {
    create_parents(output)?;
    let convert = |file: &mut (dyn Write + Send)| {
        thread::scope(|scope| {
            let mut counts = SkipCounts::default();
            let mut count = |one: Skipped| {
                counts.add(one.reason);
                skipped(&one);
            };
            let mut writer = ItemWriter::new(scope, output, file, to, options.filter, options.images)?;
            let read = for_each_item(input, &options.read, &mut |item| match item {
                // all records of a file have one format
                Ok(Item::Sample(_)) if !matches!(to, Format::Llava | Format::Bpo) => {
                    Err(FileKind::Samples.instead_of(PAIRS, input))
                }
                Ok(item) => writer.write(item, &mut count),
                Err(one) => {
                    count(one);
                    Ok(())
                }
            });
            // what could not be written came before what could not be read
            let from = read.map_err(|error| writer.stop().err().unwrap_or(error))?;
            let unreadable_images = writer.unreadable_images();
            let written = writer.finish(&mut count)?;
            if written == 0 {
                return Err(PairsError::NothingConverted { path: input.to_owned(), skipped: counts });
            }
            Ok(Conversion { from, written, skipped: counts, unreadable_images })
        })
    };
    let conversion = write_atomic(output, convert)?;
    if to == Format::LlamaFactory {
        dataset_info::add(output)?;
    }
    Ok(conversion)
}
