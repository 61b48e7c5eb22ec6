//! Writes rows to a Parquet file.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread::Scope;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArrayType, DoubleType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use serde::Serialize;

use super::cells::put_row;
use super::columns::{Column, Named};
use super::leaf::{Leaf, LeafSize};
use super::read::problem;
use super::schema::{features, message_type};
use crate::error::PairsError;
use crate::image_store::ImageBytes;
use crate::pipeline::Behind;
use crate::skipped::SkipCause;

/// Bytes of values after which a row group is written.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows after which a row group is written.
const ROW_GROUP_ROWS: usize = 20_000;

/// Collects rows in groups, which another thread encodes and writes.
pub(in crate::format) struct RowWriter<'a, W: Write + Send> {
    path: &'a Path,
    groups: Behind<'a, Vec<Leaf>, SerializedFileWriter<W>>,
    columns: &'static [Named],
    leaves: Vec<Leaf>,
    /// The sizes of the leaves before the row that is added.
    before: Vec<LeafSize>,
    images: Option<&'a dyn ImageBytes>,
    rows: usize,
}

impl<'a, W: Write + Send + 'a> RowWriter<'a, W> {
    /// Starts a file. With `images`, the file holds the bytes of the images, and without, their paths.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(in crate::format) fn new(
        scope: &'a Scope<'a, '_>,
        path: &'a Path,
        writer: W,
        columns: &'static [Named],
        images: Option<&'a dyn ImageBytes>,
    ) -> Result<Self, PairsError> {
        let schema = parse_message_type(&message_type(columns)).map_err(problem(path))?;
        let features = KeyValue::new("huggingface".to_owned(), features(columns));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_key_value_metadata(Some(vec![features]));
        // images do not repeat within a row group, and are compressed already
        for (name, list) in [("image", false), ("images", true)] {
            let mut names = vec![name.to_owned()];
            if list {
                names.extend(["list".to_owned(), "element".to_owned()]);
            }
            names.push(Column::IMAGE_PARTS[0].to_owned());
            let bytes = ColumnPath::new(names);
            properties = properties
                .set_column_dictionary_enabled(bytes.clone(), false)
                .set_column_compression(bytes, Compression::UNCOMPRESSED);
        }
        let file = SerializedFileWriter::new(writer, Arc::new(schema), Arc::new(properties.build()));
        let file = file.map_err(problem(path))?;
        let write = |file: &mut SerializedFileWriter<W>, group| write_group(path, file, group);
        // a group is large, so none waits beside the one that is encoded and the one that is collected
        let groups = Behind::start(scope, path, 0, file, write)?;
        let leaves = columns.iter().map(|(_, column)| column.leaves()).sum();
        let leaves = std::iter::repeat_with(Leaf::default).take(leaves).collect();
        Ok(Self { path, groups, columns, leaves, before: Vec::new(), images, rows: 0 })
    }

    /// Adds a row, or returns the reason for which it is skipped.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(in crate::format) fn add(
        &mut self,
        row: &impl Serialize,
    ) -> Result<Result<(), SkipCause>, PairsError> {
        self.before.clear();
        self.before.extend(self.leaves.iter().map(Leaf::size));
        if let Err(cause) = put_row(row, self.columns, &mut self.leaves, self.images) {
            self.leaves.iter_mut().zip(&self.before).for_each(|(leaf, size)| leaf.cut(*size));
            return Ok(Err(cause));
        }
        self.rows += 1;
        let bytes: usize = self.leaves.iter().map(Leaf::bytes).sum();
        if bytes >= ROW_GROUP_BYTES || self.rows >= ROW_GROUP_ROWS {
            self.send_group()?;
        }
        Ok(Ok(()))
    }

    /// Writes the last rows and the end of the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(in crate::format) fn finish(mut self) -> Result<(), PairsError> {
        self.send_group()?;
        self.groups.finish()?.close().map(drop).map_err(problem(self.path))
    }

    /// Waits until the groups so far are written, and leaves out the end of the file.
    ///
    /// # Errors
    /// Returns an error if a group could not be written.
    pub(in crate::format) fn stop(&mut self) -> Result<(), PairsError> {
        self.groups.join().map(drop)
    }

    fn send_group(&mut self) -> Result<(), PairsError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        let next = self.leaves.iter().map(Leaf::next).collect();
        self.groups.send(std::mem::replace(&mut self.leaves, next))
    }
}

/// Encodes and writes a group.
fn write_group<W: Write + Send>(
    path: &Path,
    file: &mut SerializedFileWriter<W>,
    leaves: Vec<Leaf>,
) -> Result<(), PairsError> {
    let problem = |error| problem(path)(error);
    let mut group = file.next_row_group().map_err(problem)?;
    for mut leaf in leaves {
        let Some(mut column) = group.next_column().map_err(problem)? else { break };
        let [definition, repetition] =
            [&mut leaf.definition, &mut leaf.repetition].map(std::mem::take).map(Some);
        let (definition, repetition) = (definition.as_deref(), repetition.as_deref());
        if let ColumnWriter::DoubleColumnWriter(_) = column.untyped() {
            column.typed::<DoubleType>().write_batch(&leaf.numbers, definition, repetition)
        } else {
            column.typed::<ByteArrayType>().write_batch(&leaf.into_texts(), definition, repetition)
        }
        .map_err(problem)?;
        column.close().map_err(problem)?;
    }
    group.close().map(drop).map_err(problem)
}
