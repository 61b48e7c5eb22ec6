//! Models by their names on the Hugging Face Hub, from a cache. The tests of `bpo` download.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A directory with the tiny model in the cache `hub`, as `org/tiny`.
fn cache() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("hub/models--org--tiny");
    checkpoint::copy_to(&snapshot_of(dir.path()));
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    dir
}

fn snapshot_of(dir: &Path) -> PathBuf {
    let snapshot = dir.join("hub/models--org--tiny/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    snapshot
}

/// Runs the program in a directory, without a network.
fn offline(dir: &Path, arguments: Vec<OsString>) -> Outcome {
    let mut command = command(arguments);
    command.current_dir(dir).env("HF_HUB_CACHE", dir.join("hub")).env("HF_HUB_OFFLINE", "1");
    for variable in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_ENDPOINT"] {
        command.env_remove(variable);
    }
    finish(&mut command)
}

#[test]
fn a_model_is_given_by_its_name() {
    let dir = cache();
    let pairs = dir.path().join("pairs.jsonl");
    write_three_pairs(&pairs, ["A cat.", "A dog."]);
    let arguments =
        |model: &str| arguments!["score", "--model", model, "--pairs", &pairs, "--images", photos()];
    let named = offline(dir.path(), arguments("org/tiny"))
        .succeeds()
        .says(&format!("model org/tiny at commit {COMMIT}"));
    assert_eq!(named.stdout, score(&tiny(), &pairs, Vec::new()).succeeds().stdout);
    let commit = offline(dir.path(), arguments(&format!("org/tiny@{COMMIT}"))).succeeds();
    assert_eq!(commit.stdout, named.stdout);
    offline(dir.path(), arguments("org/other")).fails_naming(&[
        "org/other",
        "HF_HUB_OFFLINE",
        "no revision main",
    ]);
    offline(dir.path(), arguments("org/tiny@v2")).fails_naming(&["org/tiny@v2", "no revision v2"]);

    // a file in the settings, and a training that records the commit
    let settings = dir.path().join("bpo.toml");
    fs::write(&settings, "[model]\npath = \"org/tiny\"\n[reference]\npath = \"org/tiny\"\n").unwrap();
    let out = dir.path().join("out");
    let train = |images: PathBuf| {
        let train =
            arguments!["train", "--config", &settings, "--pairs", &pairs, "--images", images, "--out", &out];
        train
            .into_iter()
            .chain(arguments!["--learning-rate", "2e-3", "--lora-r", "4", "--epochs", "1"])
            .collect()
    };
    // what is missing is reported before a model is looked for
    let missing = offline(dir.path(), train(dir.path().join("nope"))).fails_naming(&["nope"]);
    assert!(!missing.stderr.contains("at commit"), "{}", missing.stderr);
    offline(dir.path(), train(photos())).succeeds();
    let adapter: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("adapter/adapter_config.json")).unwrap()).unwrap();
    assert_eq!(adapter["base_model_name_or_path"], "org/tiny");
    assert_eq!(adapter["revision"], COMMIT);
    let recorded = fs::read_to_string(out.join("config.toml")).unwrap();
    assert_eq!(recorded.matches(&format!("snapshots/{COMMIT}")).count(), 2, "{recorded}");

    // a directory of the same name is the model
    checkpoint::copy_to(&{
        let local = dir.path().join("org/tiny");
        fs::create_dir_all(&local).unwrap();
        local
    });
    fs::remove_dir_all(dir.path().join("hub")).unwrap();
    let local = offline(dir.path(), arguments("org/tiny")).succeeds();
    assert_eq!(local.stdout, named.stdout);
    assert!(!local.stderr.contains("at commit"), "{}", local.stderr);
}
