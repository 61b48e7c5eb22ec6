//! Parquet files: those of the `datasets` library, our own, and damaged ones.
#![cfg(feature = "parquet")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bpo_pairs::format::{ConvertOptions, Format, Item, ReadOptions, convert, for_each_item};
use bpo_pairs::{
    ImageBytes, ImageDir, ImagePlace, ImageSink, PairFilter, PairsError, PreferencePair, RowImage, RowImages,
    SkipCause, SkipReason, Skipped,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(
    path: &Path,
    images: Option<&ImageDir>,
) -> Result<(Format, Vec<PreferencePair>, Vec<Skipped>), PairsError> {
    let (mut pairs, mut skipped) = (Vec::new(), Vec::new());
    let mut options = ReadOptions::default();
    options.images = images.map(|images| images as &dyn ImageSink);
    let format = for_each_item(path, &options, &mut |item| {
        match item {
            Ok(Item::Pair(pair)) => pairs.push(pair),
            Ok(other) => panic!("{other:?}"),
            Err(one) => skipped.push(one),
        }
        Ok(())
    })?;
    Ok((format, pairs, skipped))
}

/// The questions and answers of tools/golden/parquet.py.
const ANSWERS: [[&str; 3]; 3] = [
    ["What is on the table?", "A red cup.", "A red cup and a croissant."],
    ["Wie heißt die Farbe? 🟦", "Blau.", "Grün — „sehr“ grün."],
    ["Describe the image.", "A plain square.\nNothing else.", "A square with two dogs."],
];

#[test]
fn files_of_datasets_are_read_with_their_images() {
    for (name, format, ids) in [
        ("rlhf_v.parquet", Format::RlhfV, ["100", "101", "102"]),
        ("rlaif_v.parquet", Format::RlaifV, ["row-0", "row-1", "row-2"]),
        ("trl.parquet", Format::Trl, ["0", "1", "2"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let images = ImageDir::create(dir.path()).unwrap();
        let (found, pairs, skipped) = read(&data(name), Some(&images)).unwrap();
        assert_eq!((found, skipped), (format, Vec::new()), "{name}");
        assert_eq!(pairs.iter().map(|pair| &*pair.id).collect::<Vec<_>>(), ids);
        for (pair, [question, chosen, rejected]) in pairs.iter().zip(ANSWERS) {
            assert_eq!(pair.prompt, format!("<image>\n{question}"), "{name}");
            assert_eq!((&*pair.chosen, &*pair.rejected), (chosen, rejected), "{name}");
        }
        // the first and the third image are the same
        assert_eq!(pairs[0].images, pairs[2].images);
        assert_ne!(pairs[0].images, pairs[1].images);
        let png = fs::read(dir.path().join(&pairs[0].images[0])).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        // without a directory for them
        let (_, pairs, skipped) = read(&data(name), None).unwrap();
        assert_eq!((pairs.len(), skipped.len()), (0, 3));
        assert_eq!(skipped[0].reason, SkipReason::ImageNotAPath);
        assert!(skipped[0].detail.contains("--images"), "{}", skipped[0].detail);
    }
}

struct Root(PathBuf);

impl ImageBytes for Root {
    fn bytes(&self, name: &str) -> Result<Vec<u8>, SkipCause> {
        fs::read(self.0.join(name)).map_err(|_| SkipReason::ImageMissing.into())
    }
}

/// Keeps the images of a file by their place.
#[derive(Default)]
struct Places(RefCell<BTreeMap<String, Vec<u8>>>);

impl ImageSink for Places {
    fn store(&self, place: &ImagePlace<'_>, bytes: &[u8]) -> Result<Result<String, SkipCause>, PairsError> {
        let row = place.row.expect("an image in a row");
        self.0.borrow_mut().insert(row.to_string(), bytes.to_vec());
        Ok(Ok(row.name_in("a")))
    }
}

#[test]
fn bytes_of_images_are_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let images = ImageDir::create(at("images")).unwrap();
    let root = Root(at("images"));
    let filter = PairFilter::default();
    let mut options = ConvertOptions::new(&filter);
    options.read.images = Some(&images);
    options.images = Some(&root);
    let mut none = |one: &Skipped| panic!("{one:?}");
    let (_, mut before, _) = read(&data("rlaif_v.parquet"), Some(&images)).unwrap();
    // a pair with other images, whose bytes are in the file, too
    before[0].contrast_images = before[1].images.clone();
    before[0].contrast_answer = Some("Something else.".to_owned());
    let mut input = at("first.jsonl");
    bpo_pairs::format::jsonl::write_pairs(&input, &before).unwrap();
    for format in Format::ALL.into_iter().filter(|format| !matches!(format, Format::Llava | Format::Bpo)) {
        let output = at(&format!("{format}.parquet"));
        let done = convert(&input, &output, format, &options, &mut none).unwrap();
        assert_eq!(done.written, 3, "{format}");
        let (_, pairs, skipped) = read(&output, Some(&images)).unwrap();
        assert_eq!((&pairs, skipped), (&before, Vec::new()), "{format}");
        input = output;
    }
    // all of them are read from the rows
    let places = Places::default();
    let mut rows = ReadOptions::default();
    rows.images = Some(&places);
    for_each_item(&input, &rows, &mut |_| Ok(())).unwrap();
    let bytes = fs::read(root.0.join(&before[1].images[0])).unwrap();
    let place = RowImage::new("contrast_images", 0, Some(0)).unwrap();
    assert_eq!(places.0.borrow().get(&place.to_string()), Some(&bytes));
    assert_eq!(RowImages::default().read(&input, &place, 1 << 20).unwrap(), bytes);

    // the second image of a record is gone, and nothing of the record stays
    let list = at("pairs.jsonl");
    let mut broken = before.clone();
    broken[1].images.push("gone.png".to_owned());
    broken[1].prompt.insert_str(0, "<image>\n");
    bpo_pairs::format::jsonl::write_pairs(&list, &broken).unwrap();
    let mut skipped = Vec::new();
    let mut each = |one: &Skipped| skipped.push((one.id.clone(), one.reason));
    let done = convert(&list, &at("trl.parquet"), Format::Trl, &options, &mut each).unwrap();
    assert_eq!((done.written, skipped), (2, vec![("row-1".to_owned(), SkipReason::ImageMissing)]));
    let (_, pairs, _) = read(&at("trl.parquet"), Some(&images)).unwrap();
    assert_eq!(pairs, [before[0].clone(), before[2].clone()]);
}

/// Many rows make several row groups, and lists of every length are told apart.
#[test]
fn row_groups_and_lists_of_any_length_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (list, file) = (dir.path().join("a.jsonl"), dir.path().join("a.parquet"));
    let pair = |i: usize| {
        let images: Vec<String> = (0..i % 4).map(|k| format!("{i}-{k}.jpg")).collect();
        let prompt = format!("{}Question {i}", "<image>\n".repeat(images.len()));
        serde_json::json!({"id": i, "images": images, "prompt": prompt, "chosen": format!("A {i}"), "rejected": "B",
            "kind": "llm-hal", "margin": 0.5})
    };
    let lines: Vec<_> = (0..45_000).map(|i| pair(i).to_string()).collect();
    fs::write(&list, lines.join("\n")).unwrap();
    let filter = PairFilter::default();
    let options = ConvertOptions::new(&filter);
    convert(&list, &file, Format::Trl, &options, &mut |one| panic!("{one:?}")).unwrap();
    let (_, pairs, _) = read(&file, None).unwrap();
    let (_, expected, _) = read(&list, None).unwrap();
    assert!(pairs == expected);
}

/// No damage of a file makes the reader panic.
#[test]
fn damaged_files_are_errors() {
    let whole = fs::read(data("trl.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.parquet");
    let mut failed = 0;
    for at in (0..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        failed += usize::from(read(&path, None).is_err());
    }
    assert!(failed > 20, "{failed}");
    for end in [0, 3, 4, 8, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(read(&path, None).is_err(), "{end}");
    }
}
