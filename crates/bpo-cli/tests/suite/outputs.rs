//! Outputs in folders that do not exist.

use std::ffi::OsString;

use crate::common::{
    bpo, copy_run, photos, run_arguments, tiny, train_arguments, write_samples, write_three_pairs,
};

/// Every command creates the folders of its output.
#[test]
fn missing_folders_of_outputs_are_created() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_samples(&at("data.json"), &[("a", "cat.jpg", "What is it?", "A cat sits on a red mat.")]);
    write_three_pairs(&at("three.jsonl"), ["A cat.", "A red cup."]);
    copy_run(&at("run"));
    let data = arguments!["--data", at("data.json")];
    let with = |command: &str, parts: &[Vec<OsString>]| [arguments![command], parts.concat()].concat();
    let model = arguments!["--model", tiny()];
    let (weaken, answers) = (
        arguments!["--images", photos(), "--max-new-tokens", "2", "--out", at("w/a/b.jsonl")],
        arguments!["--answers", at("i/a/b.jsonl"), "--out", at("p/a/b.jsonl")],
    );
    let image = photos().join("cat.jpg");
    let blur = arguments!["--distortion", "blur:sigma=2"];
    let commands = [
        ("w/a/b.jsonl", with("weaken", &[model.clone(), data.clone(), weaken])),
        ("i/a/b.jsonl", with("inject", &[data.clone(), arguments!["--out", at("i/a/b.jsonl")]])),
        ("p/a/b.jsonl", with("pair", &[data, answers])),
        (
            "t/a/b/adapter",
            [train_arguments(&at("three.jsonl"), &at("t/a/b")), arguments!["--max-steps", "1"]].concat(),
        ),
        ("r/a/b/adapter", run_arguments(&at("r/a/b"))),
        (
            "m/a/b/config.json",
            with("merge", &[model, arguments!["--adapter", at("run/adapter"), "--out", at("m/a/b")]]),
        ),
        (
            "d/a/b.png",
            with("distort", &[arguments![&image], blur.clone(), arguments!["--out", at("d/a/b.png")]]),
        ),
        ("f/a/b", with("distort", &[arguments![photos()], blur, arguments!["--out", at("f/a/b")]])),
        ("s/a/b.png", with("distort", &[arguments![&image, "--sheet", at("s/a/b.png")]])),
    ];
    for (out, arguments) in commands {
        bpo(&arguments).succeeds();
        assert!(at(out).exists(), "{arguments:?}");
    }
}

/// A folder that cannot be created is an error that names it.
#[test]
fn a_file_in_place_of_a_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), "mine").unwrap();
    let inject = arguments!["inject", "--data", photos().join("llava.json"), "--out", at("file/out.jsonl")];
    bpo(inject).fails_naming(&["cannot create", at("file").to_str().unwrap()]);
}
