//! Writes rows to a Parquet file.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value};

use super::columns::{Column, Named};
use super::read::problem;
use super::schema::{features, message_type};
use crate::error::PairsError;
use crate::image_store::ImageBytes;
use crate::skipped::SkipCause;

/// Bytes of values after which a row group is written.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows after which a row group is written.
const ROW_GROUP_ROWS: usize = 20_000;

/// Collects rows and writes them in row groups.
pub(in crate::format) struct RowWriter<'a, W: Write + Send> {
    path: &'a Path,
    file: SerializedFileWriter<W>,
    columns: Vec<&'static Named>,
    leaves: Vec<Leaf>,
    images: Option<&'a dyn ImageBytes>,
    rows: usize,
    bytes: usize,
}

/// The values of a primitive column, with their levels as in the Dremel paper.
#[derive(Debug, Default)]
struct Leaf {
    definition: Vec<i16>,
    repetition: Vec<i16>,
    texts: Vec<ByteArray>,
    numbers: Vec<f64>,
}

impl<'a, W: Write + Send> RowWriter<'a, W> {
    /// Starts a file. With `images`, the file holds the bytes of the images, and without, their paths.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(in crate::format) fn new(
        path: &'a Path,
        writer: W,
        columns: Vec<&'static Named>,
        images: Option<&'a dyn ImageBytes>,
    ) -> Result<Self, PairsError> {
        let schema = parse_message_type(&message_type(&columns)).map_err(problem(path))?;
        let features = KeyValue::new("huggingface".to_owned(), features(&columns));
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
        let leaves = columns.iter().map(|(_, column)| column.leaves()).sum();
        let leaves = std::iter::repeat_with(Leaf::default).take(leaves).collect();
        Ok(Self { path, file, columns, leaves, images, rows: 0, bytes: 0 })
    }

    /// Adds a row, or returns the reason for which it is skipped.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(in crate::format) fn add(
        &mut self,
        mut row: Map<String, Value>,
    ) -> Result<Result<(), SkipCause>, PairsError> {
        let mut images = Vec::new();
        if let Some(source) = self.images {
            let read = self
                .columns
                .iter()
                .try_for_each(|(name, column)| read_images(column, row.get(*name), source, &mut images));
            if let Err(cause) = read {
                return Ok(Err(cause));
            }
        }
        let mut images = images.into_iter();
        let mut leaves = self.leaves.as_mut_slice();
        for (name, column) in &self.columns {
            let (own, rest) = leaves.split_at_mut(column.leaves());
            leaves = rest;
            self.bytes += put(column, row.remove(*name), Levels::default(), own, &mut images);
        }
        self.rows += 1;
        if self.bytes >= ROW_GROUP_BYTES || self.rows >= ROW_GROUP_ROWS {
            self.write_group()?;
        }
        Ok(Ok(()))
    }

    /// Writes the last rows and the end of the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(in crate::format) fn finish(mut self) -> Result<(), PairsError> {
        self.write_group()?;
        self.file.close().map(drop).map_err(problem(self.path))
    }

    fn write_group(&mut self) -> Result<(), PairsError> {
        if self.rows == 0 {
            return Ok(());
        }
        (self.rows, self.bytes) = (0, 0);
        let problem = |error| problem(self.path)(error);
        let mut group = self.file.next_row_group().map_err(problem)?;
        for leaf in &mut self.leaves {
            let Some(mut column) = group.next_column().map_err(problem)? else { break };
            let Leaf { definition, repetition, texts, numbers } = std::mem::take(leaf);
            let levels = (Some(definition.as_slice()), Some(repetition.as_slice()));
            if let parquet::column::writer::ColumnWriter::DoubleColumnWriter(_) = column.untyped() {
                column.typed::<DoubleType>().write_batch(&numbers, levels.0, levels.1).map_err(problem)?;
            } else {
                column.typed::<ByteArrayType>().write_batch(&texts, levels.0, levels.1).map_err(problem)?;
            }
            column.close().map_err(problem)?;
        }
        group.close().map(drop).map_err(problem)
    }
}

/// Reads the bytes of the images of a value, in its order.
fn read_images(
    column: &Column,
    value: Option<&Value>,
    source: &dyn ImageBytes,
    images: &mut Vec<Vec<u8>>,
) -> Result<(), SkipCause> {
    match (column, value) {
        (Column::Image, Some(Value::String(name))) => {
            images.push(source.bytes(name)?);
            Ok(())
        }
        (Column::List(element), Some(Value::Array(items))) => {
            items.iter().try_for_each(|item| read_images(element, Some(item), source, images))
        }
        _ => Ok(()),
    }
}

/// The levels of a value: how many of its optional and repeated parents are there, which repeated
/// parent begins a new element, and how many repeated parents there are.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    definition: i16,
    repetition: i16,
    lists: i16,
}

/// Appends a value to its leaves and returns its size in bytes.
fn put(
    column: &Column,
    value: Option<Value>,
    levels: Levels,
    leaves: &mut [Leaf],
    images: &mut impl Iterator<Item = Vec<u8>>,
) -> usize {
    let there = Levels { definition: levels.definition + 1, ..levels };
    let value = value.filter(|value| !value.is_null());
    match (column, value) {
        (Column::Text, Some(Value::String(text))) => put_text(leaves, text.into_bytes(), there),
        (Column::Json, Some(value)) => put_text(leaves, value.to_string().into_bytes(), there),
        (Column::Number, Some(Value::Number(number))) => {
            leaves[0].push(there);
            leaves[0].numbers.push(number.as_f64().unwrap_or(f64::NAN));
            8
        }
        (Column::Image, Some(Value::String(path))) => {
            let part = Levels { definition: there.definition + 1, ..there };
            let (bytes, paths) = leaves.split_at_mut(1);
            let read = match images.next() {
                Some(image) => put_text(bytes, image, part),
                None => {
                    bytes[0].push(there);
                    0
                }
            };
            read + put_text(paths, path.into_bytes(), part)
        }
        (Column::List(element), Some(Value::Array(items))) => {
            if items.is_empty() {
                leaves.iter_mut().for_each(|leaf| leaf.push(there));
            }
            let mut inside = Levels {
                definition: there.definition + 1,
                repetition: levels.repetition,
                lists: levels.lists + 1,
            };
            let mut size = 0;
            for item in items {
                size += put(element, Some(item), inside, leaves, images);
                inside.repetition = inside.lists;
            }
            size
        }
        (Column::Struct(parts), Some(Value::Object(mut map))) => {
            let (mut size, mut rest) = (0, leaves);
            for (name, part) in *parts {
                let (own, others) = rest.split_at_mut(part.leaves());
                size += put(part, map.remove(*name), there, own, images);
                rest = others;
            }
            size
        }
        _ => {
            leaves.iter_mut().for_each(|leaf| leaf.push(levels));
            0
        }
    }
}

fn put_text(leaves: &mut [Leaf], text: Vec<u8>, levels: Levels) -> usize {
    let size = text.len();
    leaves[0].push(levels);
    leaves[0].texts.push(ByteArray::from(text));
    size
}

impl Leaf {
    fn push(&mut self, levels: Levels) {
        self.definition.push(levels.definition);
        self.repetition.push(levels.repetition);
    }
}
