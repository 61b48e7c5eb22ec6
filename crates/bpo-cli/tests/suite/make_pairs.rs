//! The commands of the page "Make pairs for your trainer", docs/src/make-pairs.md.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{command, finish};

/// The directory that the commands of the page write to.
const MADE: &str = "made/";

/// Returns the commands in the `sh` blocks of the page, each on one line.
fn commands(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let text: String = blocks.collect();
    text.replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// Returns whether this build has the features that a command needs.
fn is_in_this_build(line: &str) -> bool {
    let needs = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    (cfg!(feature = "flex") || !needs(&["--model ", "made/local/"]))
        && (cfg!(feature = "server") || !needs(&["made/remote/"]))
        && (cfg!(feature = "parquet") || !needs(&[".parquet", "made/rlaif"]))
}

/// Every command of `bpo` on the page succeeds, in the order of the page and with its files in
/// another directory. Its servers are replaced by one of the tests.
#[test]
fn commands_of_the_page_make_pairs_and_train() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let server = crate::common::server::Server::failing_first(0);
    let (mut ran, mut others) = (0, Vec::new());
    for line in commands(&root.join("docs/src/make-pairs.md")) {
        let Some(words) = line.strip_prefix("bpo ") else {
            others.push(line);
            continue;
        };
        if !is_in_this_build(&line) {
            continue;
        }
        let words = words.split_whitespace().map(|word| match word.strip_prefix(MADE) {
            Some(name) => at(name),
            None if word.starts_with("http://127.0.0.1:") => PathBuf::from(&server.url),
            None => word.into(),
        });
        let outcome = finish(command(words).current_dir(&root));
        assert_eq!(outcome.code, Some(0), "{line}: {outcome:?}");
        ran += 1;
    }
    // the commands of the other programs are run by tools/check_trainers.py
    let programs = ["llamafactory-cli train", "ROOT_IMAGE_DIR=examples/data/photos swift rlhf"];
    assert_eq!(others.len(), programs.len(), "{others:?}");
    assert!(others.iter().zip(programs).all(|(line, program)| line.starts_with(program)), "{others:?}");

    let lines = |name: &str| fs::read_to_string(at(name)).unwrap().lines().count();
    assert_eq!(lines("pairs.jsonl"), 8);
    assert_eq!(lines("swift.jsonl"), 8);
    assert!(at("gallery.html").exists() && at("README.md").exists());
    assert!(fs::read_to_string(at("llama-factory/dataset_info.json")).unwrap().contains("\"bpo_pairs\""));
    if cfg!(feature = "server") {
        // the text of the eighth sample has no image
        assert_eq!(lines("remote/pairs.jsonl"), 7 + 8);
    }
    if cfg!(feature = "parquet") {
        assert_eq!(lines("rlaif.jsonl"), 3);
    }
    if cfg!(feature = "flex") {
        assert!(lines("local/pairs.jsonl") > 8);
        assert!(at("bpo/adapter/adapter_model.safetensors").exists());
    }
    if cfg!(all(feature = "flex", feature = "server", feature = "parquet")) {
        assert_eq!(ran, 16);
    }
}
