//! `bpo convert`

use std::fs;

use crate::common::{bpo, photos};

const PAIRS: &str = r#"{"id": "a", "images": ["cat.jpg"], "prompt": "<image>\nWhat?", "chosen": "A cat.", "rejected": "A dog.", "kind": "llm-hal"}
{"id": "b", "images": ["coffee.jpg"], "prompt": "<image>\nWhat?", "chosen": "A cup.", "rejected": "Two cups.", "kind": "llm-hal", "system": "Be brief."}
"#;

#[test]
fn pairs_are_converted_and_what_does_not_fit_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("pairs.jsonl"), PAIRS).unwrap();
    let to = |format: &str, input: &str, out: &str| {
        bpo([arguments!["convert", at(input), at(out), "--to", format]].concat())
    };
    to("trl", "pairs.jsonl", "trl.jsonl").succeeds().says("convert: pairs to trl: 2 records\n");
    to("pairs", "trl.jsonl", "back.jsonl").succeeds().says("convert: trl to pairs: 2 records\n");
    let back = fs::read_to_string(at("back.jsonl")).unwrap();
    assert!(back.contains("Be brief.") && back.lines().count() == 2, "{back}");
    to("trl-plain", "pairs.jsonl", "plain.jsonl")
        .succeeds()
        .says("skipped: b: not possible in the format of the output: expected no system text, found one")
        .says(
            "convert: pairs to trl-plain: 1 record, 1 skipped (not possible in the format of the output: 1)",
        );
    to("llama-factory", "pairs.jsonl", "my.json").succeeds();
    assert!(fs::read_to_string(at("dataset_info.json")).unwrap().contains("\"my.json\""));

    fs::write(at("none.jsonl"), "{\"a\": 1}\n").unwrap();
    to("trl", "none.jsonl", "x.jsonl").fails_naming(&["none.jsonl", "--format"]);
    to("trl", "pairs.jsonl", "pairs.jsonl").refuses_naming(&["IN", "OUT"]);
    bpo(arguments!["convert", at("pairs.jsonl"), at("x"), "--to", "mine"]).refuses_naming(&["ms-swift"]);
    assert!(!at("x.jsonl").exists());
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_holds_images_and_gives_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("pairs.jsonl"), PAIRS).unwrap();
    let args = |input: &str, out: &str, images| {
        arguments!["convert", at(input), at(out), "--to", "ms-swift", "--images", images]
    };
    bpo(args("pairs.jsonl", "a.parquet", photos())).succeeds().says("2 records");
    bpo(args("a.parquet", "back.jsonl.gz", at("images"))).succeeds().says("convert: ms-swift to ms-swift: 2");
    let mut images: Vec<_> =
        fs::read_dir(at("images")).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let mut expected: Vec<_> =
        ["cat.jpg", "coffee.jpg"].map(|name| fs::read(photos().join(name)).unwrap()).into();
    images.sort();
    expected.sort();
    assert!(images == expected);
    bpo(arguments!["convert", at("a.parquet"), at("x.jsonl"), "--to", "pairs"]).fails_naming(&[
        "a.parquet",
        "no record fits",
        "image not given as a path: 2",
    ]);
    let outside = PAIRS.replace("cat.jpg", "../cat.jpg");
    fs::write(at("outside.jsonl"), outside).unwrap();
    bpo(args("outside.jsonl", "b.parquet", photos())).succeeds().says("image outside the image root: 1");
}

/// The crate that reads Parquet panics on a column whose place is negative.
#[cfg(feature = "parquet")]
#[test]
fn a_damaged_parquet_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpo-pairs/tests/data/trl.parquet");
    let mut bytes = fs::read(whole).unwrap();
    // in the footer: the last bit of a variable-length integer is its sign
    assert_eq!(bytes[2480], 8);
    bytes[2480] = 9;
    fs::write(at("damaged.parquet"), bytes).unwrap();
    let failed = bpo(arguments!["convert", at("damaged.parquet"), at("out.jsonl"), "--to", "trl"]);
    failed.fails_naming(&["damaged.parquet", "the file is damaged"]);
    assert!(!at("out.jsonl").exists());
}
