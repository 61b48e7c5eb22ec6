//! Images in rows of Parquet files, read in any order.
#![cfg(feature = "parquet")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpo_pairs::format::{Format, ReadOptions, for_each_item};
use bpo_pairs::{
    ImagePlace, ImageSink, PairsError, RowImage, RowImageError, RowImages, SkipCause, SkipReason,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

const LIMIT: u64 = 1 << 20;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Keeps the images of a file with their names.
#[derive(Default)]
struct Names(RefCell<BTreeMap<String, Vec<u8>>>);

impl ImageSink for Names {
    fn store(&self, place: &ImagePlace<'_>, bytes: &[u8]) -> Result<Result<String, SkipCause>, PairsError> {
        let Some(row) = place.row else { return Ok(Err(SkipReason::ImageNotAPath.into())) };
        let name = row.name_in("a");
        assert_eq!(self.0.borrow_mut().insert(name.clone(), bytes.to_vec()), None, "{name}");
        Ok(Ok(name))
    }
}

/// Reads all rows of a file in their order.
fn all(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = Names::default();
    let mut options = ReadOptions::default();
    options.format = Some(Format::Trl);
    options.images = Some(&names);
    for_each_item(path, &options, &mut |_| Ok(())).unwrap();
    names.0.into_inner()
}

fn read(images: &RowImages, path: &Path, name: &str) -> Result<Vec<u8>, RowImageError> {
    let (_, image) = RowImage::of_name(name).unwrap_or_else(|| panic!("{name}"));
    images.read(path, &image, LIMIT)
}

/// A column of a file: one value or a list for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A struct of bytes and path.
    Struct,
    /// Bytes that are never null.
    Bytes,
    /// A list of structs.
    Structs,
    /// A list of bytes, as a repeated column.
    Repeated,
}

impl Kind {
    const ALL: [(&str, Self); 4] = [
        ("image", Self::Struct),
        ("image_raw", Self::Bytes),
        ("images", Self::Structs),
        ("image_list", Self::Repeated),
    ];

    fn is_list(self) -> bool {
        matches!(self, Self::Structs | Self::Repeated)
    }

    fn schema(self, name: &str) -> String {
        const IMAGE: &str = "{ optional binary bytes; optional binary path (STRING); }";
        match self {
            Self::Struct => format!("optional group {name} {IMAGE}"),
            Self::Bytes => format!("required binary {name};"),
            Self::Structs => {
                format!(
                    "optional group {name} (LIST) {{ repeated group list {{ optional group element {IMAGE} }} }}"
                )
            }
            Self::Repeated => format!("repeated binary {name};"),
        }
    }

    /// Definition levels: of a row without a list or value, of a list without elements, of a null in a
    /// list or row, and of a value.
    fn levels(self) -> [i16; 4] {
        match self {
            Self::Struct => [0, 0, 1, 2],
            Self::Bytes => [0, 0, 0, 0],
            Self::Structs => [0, 1, 3, 4],
            Self::Repeated => [0, 0, 1, 1],
        }
    }
}

/// The values of a column by row: none for a null, and none in a list for a null in it.
type Rows = Vec<Option<Vec<Option<Vec<u8>>>>>;

/// How a file is written.
#[derive(Clone, Debug)]
struct Layout {
    rows_of_group: usize,
    rows_of_page: usize,
    dictionary: bool,
    second_version: bool,
    offset_index: bool,
    compression: Compression,
}

fn write(path: &Path, columns: &[Rows; 4], layout: &Layout) {
    let fields: String = Kind::ALL.iter().map(|(name, kind)| kind.schema(name)).collect();
    let schema = Arc::new(parse_message_type(&format!("message m {{ {fields} }}")).unwrap());
    let version = if layout.second_version { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_dictionary_enabled(layout.dictionary)
        .set_compression(layout.compression)
        .set_offset_index_disabled(!layout.offset_index)
        .set_data_page_row_count_limit(layout.rows_of_page)
        .set_write_batch_size(1)
        .build();
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let rows = columns[0].len();
    for start in (0..rows).step_by(layout.rows_of_group) {
        let end = rows.min(start + layout.rows_of_group);
        let mut group = writer.next_row_group().unwrap();
        for ((_, kind), rows) in Kind::ALL.iter().zip(columns) {
            let [none, empty, null, value] = kind.levels();
            let (mut definition, mut repetition, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for row in &rows[start..end] {
                let mut add = |level, repeats| {
                    definition.push(level);
                    repetition.push(repeats);
                };
                match row {
                    None => add(none, 0),
                    Some(items) if items.is_empty() => add(empty, 0),
                    Some(items) => {
                        for (place, item) in items.iter().enumerate() {
                            add(if item.is_some() { value } else { null }, i16::from(place > 0));
                            values.extend(item.iter().map(|bytes| ByteArray::from(bytes.clone())));
                        }
                    }
                }
            }
            let has_path = matches!(kind, Kind::Struct | Kind::Structs);
            let mut column = group.next_column().unwrap().unwrap();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&values, Some(&definition), Some(&repetition)).unwrap();
            column.close().unwrap();
            if has_path {
                // no value has a path
                let definition: Vec<i16> = definition.iter().map(|level| (*level).min(null)).collect();
                let mut column = group.next_column().unwrap().unwrap();
                let typed = column.typed::<ByteArrayType>();
                typed.write_batch(&[], Some(&definition), Some(&repetition)).unwrap();
                column.close().unwrap();
            }
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// The names and bytes of all images.
fn named(columns: &[Rows; 4]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for ((name, kind), rows) in Kind::ALL.into_iter().zip(columns) {
        for (row, items) in rows.iter().enumerate() {
            for (place, bytes) in items.iter().flatten().enumerate() {
                let index = kind.is_list().then_some(place as u64);
                let image = RowImage::new(name, row as u64, index).unwrap();
                found.extend(bytes.clone().map(|bytes| (image.name_in("a"), bytes)));
            }
        }
    }
    found
}

fn columns(rows: usize) -> impl Strategy<Value = [Rows; 4]> {
    // few different values, so that dictionaries are used
    let bytes =
        prop_oneof![(0..6_u8).prop_map(|value| vec![value; 40]), prop::collection::vec(any::<u8>(), 1..300),];
    let item = prop::option::weighted(0.8, bytes.clone());
    let one = prop::option::weighted(0.9, item.clone().prop_map(|item| vec![item]));
    let list = prop::option::weighted(0.9, prop::collection::vec(item, 0..4));
    let never_null = bytes.clone().prop_map(|bytes| Some(vec![Some(bytes)]));
    let repeated = prop::collection::vec(bytes.prop_map(Some), 0..4).prop_map(Some);
    [
        prop::collection::vec(one, rows).boxed(),
        prop::collection::vec(never_null, rows).boxed(),
        prop::collection::vec(list, rows).boxed(),
        prop::collection::vec(repeated, rows).boxed(),
    ]
}

fn layout() -> impl Strategy<Value = Layout> {
    let compression = prop_oneof![
        Just(Compression::UNCOMPRESSED),
        Just(Compression::SNAPPY),
        Just(Compression::ZSTD(ZstdLevel::default())),
    ];
    (1..40_usize, 1..20_usize, any::<[bool; 3]>(), compression).prop_map(
        |(rows_of_group, rows_of_page, [dictionary, second_version, offset_index], compression)| Layout {
            rows_of_group,
            rows_of_page,
            dictionary,
            second_version,
            offset_index,
            compression,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Images that are read one by one, in any order, are those of a pass over the whole file.
    #[test]
    fn images_are_those_of_a_whole_pass(
        columns in (1..90_usize).prop_flat_map(columns),
        layout in layout(),
        order in prop::collection::vec((0..4_usize, 0..90_u64, 0..4_u64), 200),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        write(&path, &columns, &layout);
        let expected = named(&columns);
        prop_assert_eq!(&all(&path), &expected);
        let images = RowImages::default();
        for (name, bytes) in &expected {
            prop_assert_eq!(&read(&images, &path, name).unwrap(), bytes, "{}", name);
        }
        let rows = columns[0].len() as u64;
        for (column, row, index) in order {
            let (name, kind) = Kind::ALL[column];
            let image = RowImage::new(name, row, kind.is_list().then_some(index)).unwrap();
            match (images.read(&path, &image, LIMIT), expected.get(&image.name_in("a"))) {
                (Ok(found), Some(bytes)) => prop_assert_eq!(&found, bytes, "{}", image),
                (Err(RowImageError::NoRow { .. }), None) => prop_assert!(row >= rows),
                (Err(RowImageError::NoImage { .. }), None) => prop_assert!(row < rows),
                (found, expected) => prop_assert!(false, "{image}: {found:?}, expected {expected:?}"),
            }
        }
    }
}

/// Columns of a few rows with different images in all kinds of columns.
fn small(rows: u8) -> [Rows; 4] {
    let image = |column: u8, row: u8| vec![column * 60 + row; 50 + usize::from(row)];
    std::array::from_fn(|column| {
        (0..rows).map(|row| Some(vec![Some(image(column as u8, row))])).collect::<Rows>()
    })
}

const LAYOUT: Layout = Layout {
    rows_of_group: 4,
    rows_of_page: 2,
    dictionary: false,
    second_version: false,
    offset_index: true,
    compression: Compression::UNCOMPRESSED,
};

#[test]
fn files_of_datasets_are_read_by_row() {
    for (name, expected) in [
        ("rlhf_v.parquet", ["a#image/0", "a#image/1", "a#image/2"]),
        ("rlaif_v.parquet", ["a#image/0", "a#image/1", "a#image/2"]),
        ("trl.parquet", ["a#images/0/0", "a#images/1/0", "a#images/2/0"]),
    ] {
        let path = data(name);
        let found = all(&path);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{name}");
        let images = RowImages::default();
        for (name, bytes) in found.iter().rev() {
            assert!(bytes.starts_with(b"\x89PNG"));
            assert_eq!(&read(&images, &path, name).unwrap(), bytes, "{name}");
        }
    }
}

/// Refuses the images of some columns.
struct Refusing(&'static str);

impl ImageSink for Refusing {
    fn store(&self, place: &ImagePlace<'_>, _: &[u8]) -> Result<Result<String, SkipCause>, PairsError> {
        let is_refused = place.key.split(['.', '[']).next() == Some(self.0);
        Ok(if is_refused { Err(SkipReason::ImageNotAPath.into()) } else { Ok("a".to_owned()) })
    }
}

/// A column that no format reads, such as one of embeddings, does not skip records.
#[test]
fn images_of_other_columns_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, &small(3), &LAYOUT);
    for (column, is_read) in [("image", true), ("images", true), ("image_raw", false), ("image_list", false)]
    {
        let sink = Refusing(column);
        let mut options = ReadOptions::default();
        options.format = Some(Format::Trl);
        options.images = Some(&sink);
        let mut refused = 0;
        let mut count = |item: Result<_, bpo_pairs::Skipped>| {
            refused += usize::from(item.is_err_and(|skipped| skipped.reason == SkipReason::ImageNotAPath));
            Ok(())
        };
        for_each_item(&path, &options, &mut count).unwrap();
        assert_eq!(refused, if is_read { 3 } else { 0 }, "{column}");
    }
}

#[test]
fn places_without_an_image_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let mut columns = small(5);
    columns[0][1] = None;
    columns[0][2] = Some(vec![None]);
    columns[2][1] = Some(Vec::new());
    write(&path, &columns, &LAYOUT);
    let images = RowImages::default();
    let reason = |name: &str| {
        let error = read(&images, &path, name).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("a.parquet"), "{text}");
        (error.reason(), text)
    };
    for (name, part) in [
        ("a#image/1", "row 1"),
        ("a#image/2", "no image"),
        ("a#images/1/0", "no image"),
        ("a#images/0/1", "no image"),
        ("a#images/0/18446744073709551615", "no image"),
        ("a#image/5", "5 rows"),
        ("a#image/18446744073709551615", "5 rows"),
        ("a#picture/0", "no column \"picture\" of images"),
        ("a#images/0", "of images"),
        ("a#image/0/0", "of lists of images"),
        ("a#bytes/0", "no column"),
    ] {
        let (reason, text) = reason(name);
        assert_eq!(reason, SkipReason::ImageMissing, "{name}");
        assert!(text.contains(part), "{name}: {text}");
    }
    let image = RowImage::new("image", 4, None).unwrap();
    assert_eq!(images.read(&path, &image, 54).unwrap().len(), 54);
    let error = images.read(&path, &image, 53).unwrap_err();
    assert!(matches!(error, RowImageError::TooLarge { row: 4, found: 54, limit: 53, .. }), "{error}");
    assert_eq!(error.reason(), SkipReason::ImageTooLarge);
}

#[test]
fn other_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let images = RowImages::default();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a.png"), "\x50NG").unwrap();
    fs::write(at("empty"), "").unwrap();
    for name in ["a.png", "empty", "gone", "."] {
        let error = read(&images, &at(name), "a#image/0").unwrap_err();
        assert_eq!(error.reason(), SkipReason::ImageUnreadable, "{name}: {error}");
    }
}

/// A file that is replaced or cut while it is open gives the new images, or an error.
#[test]
fn changed_files_are_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let images = RowImages::default();
    write(&path, &small(5), &LAYOUT);
    assert_eq!(read(&images, &path, "a#image/3").unwrap(), vec![3; 53]);
    let mut longer = small(9);
    longer[0][3] = Some(vec![Some(vec![7; 90])]);
    write(&path, &longer, &LAYOUT);
    assert_eq!(read(&images, &path, "a#image/3").unwrap(), vec![7; 90]);
    assert_eq!(read(&images, &path, "a#image/8").unwrap(), vec![8; 58]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(read(&images, &path, "a#image/3"), Err(RowImageError::Unreadable { .. })));
}

/// No damage of a file makes the reader panic, or take memory for values that are not there.
#[test]
fn damaged_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let mut failed = 0;
    for dictionary in [false, true] {
        write(&path, &small(6), &Layout { dictionary, ..LAYOUT });
        let whole = fs::read(&path).unwrap();
        let names: Vec<String> = all(&path).into_keys().collect();
        for (at, mask) in (0..whole.len()).step_by(3).zip([0x55, 0x80, 0xff].into_iter().cycle()) {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            fs::write(&path, &bytes).unwrap();
            let images = RowImages::default();
            failed += names.iter().filter(|name| read(&images, &path, name).is_err()).count();
        }
    }
    assert!(failed > 100, "{failed}");
}

/// Many files stay usable, although few stay open.
#[test]
fn files_are_read_by_turns() {
    let dir = tempfile::tempdir().unwrap();
    let images = RowImages::default();
    let path = |file: usize| dir.path().join(format!("{file}.parquet"));
    for file in 0..7 {
        let mut columns = small(20);
        columns[0][11] = Some(vec![Some(vec![file as u8; 9])]);
        write(&path(file), &columns, &LAYOUT);
    }
    for file in [0, 1, 2, 3, 4, 5, 6, 6, 0, 5, 1, 1] {
        assert_eq!(read(&images, &path(file), "a#image/11").unwrap(), vec![file as u8; 9]);
        assert_eq!(read(&images, &path(file), "a#images/3/0").unwrap(), vec![123; 53]);
    }
}
