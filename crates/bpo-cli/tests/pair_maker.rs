//! The program without models: it makes pairs, and names the feature that other commands need.
#![cfg(not(feature = "model"))]

mod common;

use std::fs;

use common::bpo;

const DATA: &str = r#"[
    {"id": "a", "image": "a.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the table?"},
        {"from": "gpt", "value": "A cup is on the table next to a plate."}]},
    {"id": "b", "image": "b.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the table?"},
        {"from": "gpt", "value": "A fork is on the table next to a plate."}]}
]"#;

#[test]
fn pairs_are_made_with_the_settings_of_a_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let settings = "[lora]\nr = 8\n\n[train]\nbeta = 0.2\n\n[inject]\nmax_edits = 1\n";
    fs::write(at("bpo.toml"), settings).unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let inject = || {
        bpo(arguments!["inject"]
            .into_iter()
            .chain(data.clone())
            .chain(arguments!["--out", at("injected.jsonl")]))
    };
    inject().succeeds();
    // what training reads is kept beside the answers, and the file is gone on with
    let kept = fs::read_to_string(at("injected.jsonl.settings.toml")).unwrap();
    assert!(kept.contains("[train]\nbeta = 0.2") && kept.contains("[lora]\nr = 8"), "{kept}");
    inject().succeeds();
    bpo(arguments!["pair"].into_iter().chain(data).chain(arguments![
        "--answers",
        at("injected.jsonl"),
        "--out",
        at("pairs.jsonl")
    ]))
    .succeeds();
    assert_eq!(fs::read_to_string(at("pairs.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn commands_of_models_name_their_feature() {
    for command in ["quickstart", "run", "weaken", "train", "score", "generate", "merge"] {
        bpo(arguments![command, "--model", "m"])
            .refuses_naming(&[&format!("`bpo {command}` needs a program built with `--features model`")]);
    }
    bpo(arguments!["trian"]).refuses_naming(&["unrecognized subcommand \"trian\""]);
}
