//! Image folders that were moved between two starts of a command.

use std::fs;
use std::path::Path;

use crate::common::{
    bpo, copy_dir, photos, read_lines, run_arguments, snapshot, tiny, train_arguments, write_three_pairs,
};

/// A folder with the same images continues a run, wherever it is.
#[test]
fn moved_images_continue_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy_dir(&photos(), &at("images"));
    let run =
        |images: &str| bpo(run_arguments(&at("run")).into_iter().chain(arguments!["--images", at(images)]));
    run("images").succeeds();
    fs::rename(at("images"), at("moved")).unwrap();
    run("moved").succeeds().says("nothing left to do");
    let recorded = fs::read_to_string(at("run/config.toml")).unwrap();
    assert!(recorded.contains("moved"), "{recorded}");

    // other images at another place are an error, and change nothing
    copy_dir(&at("moved"), &at("other"));
    fs::copy(photos().join("coffee.jpg"), at("other/cat.jpg")).unwrap();
    let before = snapshot(&at("run"));
    run("other").fails_naming(&["`data.images`", "moved", "other", "another --out"]);
    assert!(snapshot(&at("run")) == before);
    // an image that is not in the data does not matter
    copy_dir(&at("moved"), &at("more"));
    fs::copy(photos().join("cat.jpg"), at("more/unused.jpg")).unwrap();
    run("more").succeeds().says("nothing left to do");
}

/// The commands of single stages accept moved images, too.
#[test]
fn moved_images_continue_a_stage() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy_dir(&photos(), &at("images"));
    write_three_pairs(&at("pairs.jsonl"), ["A cat.", "A red cup."]);
    let data = photos().join("llava.json");
    let weaken = |images: &Path| {
        let model = arguments!["weaken", "--model", tiny(), "--max-new-tokens", "2", "--data", &data];
        bpo(model.into_iter().chain(arguments!["--images", images, "--out", at("weakened.jsonl")]))
    };
    let train = |images: &Path| {
        let more = arguments!["--max-steps", "2", "--save-every", "1", "--images", images];
        bpo(train_arguments(&at("pairs.jsonl"), &at("train")).into_iter().chain(more))
    };
    weaken(&at("images")).succeeds();
    train(&at("images")).succeeds();
    fs::rename(at("images"), at("moved")).unwrap();
    weaken(&at("moved")).succeeds().says("weaken: 8 of 8 already done");
    train(&at("moved")).succeeds();
    assert_eq!(read_lines(at("weakened.jsonl")).len(), 8);
    copy_dir(&at("moved"), &at("other"));
    fs::copy(photos().join("coffee.jpg"), at("other/cat.jpg")).unwrap();
    weaken(&at("other")).fails_naming(&["`data.images`", "another --out"]);
    train(&at("other")).fails_naming(&["`data.images`", "another --out"]);
}

/// Images that appear or change at the same place are no other images: an image that was missing
/// may be added.
#[test]
fn images_that_change_at_their_place_continue_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy_dir(&photos(), &at("images"));
    fs::remove_file(at("images/coffee.jpg")).unwrap();
    let run =
        |images: &str| bpo(run_arguments(&at("run")).into_iter().chain(arguments!["--images", at(images)]));
    run("images").succeeds();
    fs::copy(photos().join("coffee.jpg"), at("images/coffee.jpg")).unwrap();
    run("images").succeeds().says("nothing left to do");
    // and the folder can still be moved
    fs::rename(at("images"), at("moved")).unwrap();
    run("moved").succeeds().says("nothing left to do");
}
