//! Files of finished stages that were changed or removed afterwards.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::common::{
    bpo, copy_run, photos, read_lines, run_arguments, snapshot, train_arguments, write_three_pairs,
};

/// Removes the last line of a file.
fn shorten(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(path, lines[..lines.len() - 1].concat()).unwrap();
}

/// Changes a file without changing its length.
fn edit(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let place = text.rfind(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).unwrap();
    let other = if text.as_bytes()[place].is_ascii_digit() {
        if &text[place..=place] == "1" { "2" } else { "1" }
    } else if &text[place..=place] == "a" {
        "b"
    } else {
        "a"
    };
    fs::write(path, format!("{}{other}{}", &text[..place], &text[place + 1..])).unwrap();
}

#[test]
fn changed_files_of_a_finished_run_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);
    for (name, made_after) in [
        ("weakened.jsonl", "pairs.jsonl"),
        ("injected.jsonl", "pairs.jsonl"),
        ("pairs.jsonl", "metrics.jsonl"),
        ("metrics.jsonl", "adapter"),
    ] {
        let path = run.join(name);
        let whole = fs::read(&path).unwrap();
        for (change, how) in [(shorten as fn(&Path), "bytes"), (edit, "content")] {
            change(&path);
            let before = snapshot(&run);
            let outcome = bpo(run_arguments(&run)).fails_naming(&[name, made_after, how, "another --out"]);
            assert!(!outcome.stderr.contains("nothing left to do"), "{}", outcome.stderr);
            assert_eq!(snapshot(&run), before);
            fs::write(&path, &whole).unwrap();
        }
    }
    bpo(run_arguments(&run)).succeeds().says("nothing left to do");
}

/// All changed files are named, and deleting what the error names is enough.
#[test]
fn a_run_continues_after_deleting_what_the_error_names() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);
    let before = snapshot(&run);
    let names = ["weakened.jsonl", "injected.jsonl"];
    names.iter().for_each(|name| shorten(&run.join(name)));
    let error = bpo(run_arguments(&run)).fails_naming(&names);
    let (_, list) = error.stderr.split_once("delete ").unwrap();
    let (list, _) = list.split_once(" to make").unwrap();
    for path in list.split(", ").map(Path::new) {
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let outcome = bpo(run_arguments(&run)).succeeds().says("7 of 8 already done");
    // the file has changed, and the missing answers are made
    assert_eq!(outcome.stderr.matches("changed after").count(), 2, "{}", outcome.stderr);
    let files = |run| -> Vec<_> {
        let is_result = |path: &Path| path.extension().is_some_and(|kind| kind == "jsonl");
        let all: Vec<_> = snapshot(run).into_iter().filter(|(path, _)| is_result(path)).collect();
        assert!(all.len() >= 5);
        all
    };
    let expected: Vec<_> =
        before.into_iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "jsonl")).collect();
    assert!(files(&run) == expected);
    bpo(run_arguments(&run)).succeeds().says("nothing left to do");
}

/// `bpo train` with evaluations and samples in each step.
fn trained(dir: &Path) -> Vec<OsString> {
    write_three_pairs(&dir.join("pairs.jsonl"), ["A cat.", "A red cup."]);
    let more = arguments![
        "--max-steps",
        "2",
        "--batch-size",
        "1",
        "--eval-fraction",
        "0.4",
        "--eval-every",
        "1",
        "--sample-every",
        "1",
    ];
    let arguments = train_arguments(&dir.join("pairs.jsonl"), &dir.join("run"));
    let arguments: Vec<OsString> = arguments.into_iter().chain(more).collect();
    bpo(&arguments).succeeds();
    arguments
}

#[test]
fn missing_logs_of_a_finished_training_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = trained(dir.path());
    let run = dir.path().join("run");
    bpo(&arguments).succeeds();
    for name in ["metrics.jsonl", "eval.jsonl", "samples.jsonl"] {
        let whole = fs::read(run.join(name)).unwrap();
        fs::remove_file(run.join(name)).unwrap();
        let missing = format!("{name} is missing");
        bpo(&arguments).fails_naming(&[&missing, "adapter", "another --out"]);
        fs::write(run.join(name), whole).unwrap();
    }
    bpo(&arguments).succeeds();
}

/// The list of the files to delete has the evaluations and the samples.
#[test]
fn all_logs_of_training_are_in_the_list_of_files_to_delete() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);
    for name in ["eval.jsonl", "samples.jsonl"] {
        fs::write(run.join(name), "{}\n").unwrap();
    }
    fs::remove_file(run.join("pairs.jsonl")).unwrap();
    bpo(run_arguments(&run)).fails_naming(&["pairs.jsonl is missing", "eval.jsonl", "samples.jsonl"]);
}

#[test]
fn changed_answers_make_no_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = photos().join("llava.json");
    let inject = || bpo(arguments!["inject", "--data", &data, "--out", at("injected.jsonl")]);
    let pair = |more: &[&str]| {
        fs::remove_file(at("pairs.jsonl")).unwrap_or_default();
        let files = arguments!["--answers", at("injected.jsonl"), "--out", at("pairs.jsonl")];
        let more = more.iter().map(OsString::from);
        bpo(arguments!["pair", "--data", &data].into_iter().chain(files).chain(more))
    };
    inject().succeeds();
    pair(&[]).succeeds();
    let whole = fs::read(at("injected.jsonl")).unwrap();
    let pairs = read_lines(at("pairs.jsonl"));
    for change in [shorten as fn(&Path), edit] {
        change(&at("injected.jsonl"));
        pair(&[]).fails_naming(&["injected.jsonl", "changed after", "bpo inject", "--allow-mismatch"]);
        pair(&["--allow-mismatch"]).succeeds().says("warning: ");
        fs::write(at("injected.jsonl"), &whole).unwrap();
    }
    // the same command makes the missing answer
    shorten(&at("injected.jsonl"));
    inject().succeeds().says("changed after");
    assert_eq!(fs::read(at("injected.jsonl")).unwrap(), whole);
    let again = inject().succeeds();
    assert!(!again.stderr.contains("changed after"), "{}", again.stderr);
    pair(&[]).succeeds();
    assert_eq!(read_lines(at("pairs.jsonl")), pairs);
}
