//! Reads the rows of a Parquet file.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use super::columns::Column;
use crate::caught::catch_panic;
use crate::error::PairsError;
use crate::format::fields::{Fields, JsonRecord};
use crate::format::json::{EachWithPlace, Place};
use crate::format::value::Value;
use crate::image_store::{ImagePlace, ImageSink};
use crate::limits::Limits;
use crate::row_images::RowImage;
use crate::skipped::SkipCause;

/// Rows that are decoded at once in a file with images.
const ROWS_WITH_IMAGES: usize = 16;
/// Rows that are decoded at once in another file.
const ROWS: usize = 512;
/// Columns that formats read, and that may hold images.
const READ: [&str; 12] = [
    "image",
    "images",
    "rejected_images",
    "contrast_images",
    "video",
    "videos",
    "conversations",
    "messages",
    "prompt",
    "chosen",
    "rejected",
    "completions",
];
/// Maximum depth of nested types.
const DEEPEST: usize = 16;

/// Calls `each` with every row of a file, holding only a few in memory.
///
/// # Errors
/// Returns an error if the file is not Parquet, has a type that cannot be read, or is damaged, and the
/// errors of `each` and `images`.
pub(in crate::format) fn for_each_row(
    path: &Path,
    file: File,
    images: Option<&dyn ImageSink>,
    each: &mut EachWithPlace<'_, JsonRecord>,
) -> Result<(), PairsError> {
    let reader = guarded(path, || SerializedFileReader::new(file))?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let fields = schema.root_schema().get_fields();
    check_parts(path, fields, 0)?;
    let batch = if fields.iter().any(|field| has_bytes(field)) { ROWS_WITH_IMAGES } else { ROWS };
    let builder = TreeBuilder::new().with_batch_size(batch);
    let mut number = 0;
    for group in 0..reader.num_row_groups() {
        let mut rows = guarded(path, || {
            let group = reader.get_row_group(group)?;
            builder.as_iter(schema.clone(), &*group)
        })?;
        while let Some(row) = next(path, &mut rows)? {
            let (record, bytes) = record(row, &Images { file: path, number, sink: images })?;
            each(Place { line: 0, bytes }, record)?;
            number += 1;
        }
    }
    Ok(())
}

fn next(path: &Path, rows: &mut ReaderIter) -> Result<Option<Row>, PairsError> {
    guarded(path, || rows.next().transpose())
}

/// Runs code of the crate `parquet`, which panics on some damaged files.
pub(super) fn guarded<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, PairsError> {
    match catch_panic(work) {
        Ok(done) => done.map_err(problem(path)),
        Err(panic) => {
            let problem = format!("the file is damaged: {panic}");
            Err(PairsError::Parquet { path: path.to_owned(), problem })
        }
    }
}

/// Returns a function that converts the errors of the crate `parquet`.
pub(super) fn problem(path: &Path) -> impl Fn(ParquetError) -> PairsError + use<> {
    let path = path.to_owned();
    move |error| PairsError::Parquet { path: path.clone(), problem: error.to_string() }
}

/// Checks that a column has a form that the crate `parquet` reads.
fn check(path: &Path, field: &Type, depth: usize) -> Result<(), PairsError> {
    let wrong = |expected: &str| {
        let problem = format!("column {:?}: expected {expected}", field.name());
        Err(PairsError::Parquet { path: path.to_owned(), problem })
    };
    if depth > DEEPEST {
        return wrong("a type that is nested less deeply");
    }
    let info = field.get_basic_info();
    if !info.has_repetition() {
        return wrong("a repetition");
    }
    if field.is_primitive() {
        return Ok(());
    }
    let parts = field.get_fields();
    let is_list = info.converted_type() == ConvertedType::LIST
        || matches!(info.logical_type_ref(), Some(LogicalType::List));
    let is_map = matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    if parts.is_empty() {
        return wrong("a struct with parts");
    }
    if (is_list || is_map)
        && (parts.len() != 1 || parts[0].get_basic_info().repetition() != Repetition::REPEATED)
    {
        return wrong("a list or map with one repeated part");
    }
    if is_map && (parts[0].is_primitive() || parts[0].get_fields().len() != 2) {
        return wrong("a map of keys and values");
    }
    check_parts(path, parts, depth + 1)
}

/// Checks columns, or the parts of one. The values of a row are found by their names.
fn check_parts(path: &Path, parts: &[TypePtr], depth: usize) -> Result<(), PairsError> {
    let mut names = HashSet::new();
    for part in parts {
        if !names.insert(part.name()) {
            let problem = format!("column {:?}: expected the name once, found it twice", part.name());
            return Err(PairsError::Parquet { path: path.to_owned(), problem });
        }
        check(path, part, depth)?;
    }
    Ok(())
}

/// Returns whether a column has bytes that are not text.
fn has_bytes(field: &Type) -> bool {
    if !field.is_primitive() {
        return field.get_fields().iter().any(|part| has_bytes(part));
    }
    let info = field.get_basic_info();
    field.get_physical_type() == PhysicalType::BYTE_ARRAY
        && info.converted_type() == ConvertedType::NONE
        && info.logical_type_ref().is_none()
}

/// What converts the images of a row.
struct Images<'a> {
    file: &'a Path,
    /// Number of the row, from 0.
    number: u64,
    sink: Option<&'a dyn ImageSink>,
}

/// The place of a value in a row.
struct At<'a> {
    /// The key in the record.
    key: String,
    /// The place of an image here, if a name can lead to it.
    image: Option<RowImage<'a>>,
}

impl<'a> At<'a> {
    fn column(name: &'a str, row: u64) -> Self {
        Self { key: name.to_owned(), image: RowImage::new(name, row, None) }
    }

    /// The place of an element of a list.
    fn element(&self, index: usize) -> Self {
        let image = self.image.filter(|image| image.index.is_none());
        let image = image.map(|image| RowImage { index: Some(index as u64), ..image });
        Self { key: format!("{}[{index}]", self.key), image }
    }

    /// The place of a part of a struct. The bytes of an image have its place, and no other part has.
    fn part(&self, name: &str) -> Self {
        let image = self.image.filter(|_| name == Column::IMAGE_PARTS[0]);
        Self { key: format!("{}.{name}", self.key), image }
    }

    /// Hands an image to the sink.
    fn store(
        &self,
        images: &Images<'_>,
        sink: &dyn ImageSink,
        bytes: &ByteArray,
    ) -> Result<Result<String, SkipCause>, PairsError> {
        sink.store(&ImagePlace::new(images.file, &self.key, self.image), bytes.data())
    }
}

/// Converts a row, and counts the bytes of its texts.
fn record(row: Row, images: &Images<'_>) -> Result<(JsonRecord, usize), PairsError> {
    let mut values = Fields::default();
    let mut size = 0;
    for (name, field) in row.into_columns() {
        let converted = value(&At::column(&name, images.number), field, images, &mut size)?;
        match converted {
            Ok(value) => values.push(name, value),
            Err(cause) if READ.contains(&name.as_str()) => return Ok((JsonRecord::new(Err(cause)), size)),
            // such as embeddings of images
            Err(_) => {}
        }
    }
    let limit = Limits::DEFAULT.record_bytes;
    let fits = Limits::check("row (bytes)", size, limit).map_err(SkipCause::from);
    Ok((JsonRecord::new(fits.map(|()| values)), size))
}

/// Converts a value. An image that is held as bytes becomes the path that `images` gives it, and JSON
/// text becomes its value. The bytes of text are added to `size`.
fn value(
    at: &At<'_>,
    field: Field,
    images: &Images<'_>,
    size: &mut usize,
) -> Result<Result<Value, SkipCause>, PairsError> {
    Ok(Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(value),
        Field::Byte(value) => Value::Number(value.into()),
        Field::Short(value) => Value::Number(value.into()),
        Field::Int(value) => Value::Number(value.into()),
        Field::Long(value) => Value::Number(value.into()),
        Field::UByte(value) => Value::Number(value.into()),
        Field::UShort(value) => Value::Number(value.into()),
        Field::UInt(value) => Value::Number(value.into()),
        Field::ULong(value) => Value::Number(value.into()),
        Field::Float(value) => Value::from(f64::from(value)),
        Field::Double(value) => Value::from(value),
        Field::Str(text) => {
            *size += text.len();
            if at.key.rsplit('.').next() == Some(Column::PROVENANCE) {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            } else {
                Value::String(text)
            }
        }
        Field::Bytes(bytes) if at.key.starts_with("image") => match images.sink {
            Some(sink) => return Ok(at.store(images, sink, &bytes)?.map(Value::String)),
            None => no_sink(&bytes),
        },
        // text of a writer that does not say so
        Field::Bytes(bytes) => bytes.as_utf8().map_or(Value::Null, |text| {
            *size += text.len();
            Value::from(text)
        }),
        Field::Group(row) => return group(at, row, images, size),
        Field::ListInternal(list) => {
            let mut items = Vec::with_capacity(list.len());
            for (i, item) in list.elements().iter().enumerate() {
                match value(&at.element(i), item.clone(), images, size)? {
                    Ok(item) => items.push(item),
                    Err(cause) => return Ok(Err(cause)),
                }
            }
            Value::Array(items)
        }
        // dates and others, which no format has
        other => Value::String(other.to_string()),
    }))
}

/// Converts a struct. The bytes of an image are stored, and its `path` is replaced.
fn group(
    at: &At<'_>,
    row: Row,
    images: &Images<'_>,
    size: &mut usize,
) -> Result<Result<Value, SkipCause>, PairsError> {
    let [bytes_name, path_name] = Column::IMAGE_PARTS;
    let mut stored = None;
    let mut fields = Fields::default();
    for (name, field) in row.into_columns() {
        let at = at.part(&name);
        let converted = match (&*name, field, images.sink) {
            (name, Field::Bytes(bytes), Some(sink)) if name == bytes_name => {
                at.store(images, sink, &bytes)?.map(|path| {
                    stored = Some(path);
                    Value::Null
                })
            }
            (name, Field::Bytes(bytes), None) if name == bytes_name => Ok(description(&bytes)),
            (_, field, _) => value(&at, field, images, size)?,
        };
        match converted {
            Ok(value) => fields.push(name, value),
            Err(cause) => return Ok(Err(cause)),
        };
    }
    if let Some(path) = stored {
        fields.put(path_name, Value::String(path));
    }
    Ok(Ok(Value::Object(fields)))
}

/// Returns an image that nothing takes, with a description of its bytes. A record with it is skipped.
fn no_sink(bytes: &ByteArray) -> Value {
    let [name, _] = Column::IMAGE_PARTS;
    Value::object([(name, description(bytes))])
}

fn description(bytes: &ByteArray) -> Value {
    Value::from(format!("an image of {} bytes; convert with --images DIR", bytes.len()))
}
