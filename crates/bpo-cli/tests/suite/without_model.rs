//! The program without models: it makes pairs, and names the feature that other commands need.

use std::fs;

#[cfg(feature = "server")]
use crate::common::server::Server;
use crate::common::{bpo, read_lines};

const DATA: &str = r#"[
    {"id": "a", "image": "a.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the table?"},
        {"from": "gpt", "value": "A cup is on the table next to a plate."}]},
    {"id": "b", "image": "b.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the table?"},
        {"from": "gpt", "value": "A fork is on the table next to a plate."}]}
]"#;

#[test]
fn inject_and_pair_accept_the_settings_of_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let settings = "[lora]\nr = 8\n\n[train]\nbeta = 0.2\n\n[inject]\nmax_edits = 1\n";
    fs::write(at("bpo.toml"), settings).unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let inject = || {
        let out = arguments!["--out", at("injected.jsonl")];
        bpo([arguments!["inject"], data.clone(), out].concat())
    };
    inject().succeeds();
    // the manifest has what affects the stage, and no settings of training
    let manifest = fs::read_to_string(at("injected.jsonl.manifest.json")).unwrap();
    assert!(manifest.contains("\"inject.max_edits\": \"1\"") && !manifest.contains("train."), "{manifest}");
    assert!(manifest.contains("\"finished\": {") && manifest.contains("\"done\": 2"), "{manifest}");
    inject().succeeds();
    let files = arguments!["--answers", at("injected.jsonl"), "--out", at("pairs.jsonl")];
    bpo([arguments!["pair"], data, files].concat()).succeeds();
    assert_eq!(fs::read_to_string(at("pairs.jsonl")).unwrap().lines().count(), 2);
}

/// The shards of a stage make the same pairs as the whole stage, and the file of one shard cannot
/// be continued as another shard.
#[test]
fn shards_make_the_pairs_of_the_whole_stage() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    fs::write(at("bpo.toml"), "[inject]\nbatch_size = 1\n").unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let inject = |shard: &str, out: &str| {
        let shard = if shard.is_empty() { Vec::new() } else { arguments!["--shard", shard] };
        bpo([arguments!["inject"], data.clone(), shard, arguments!["--out", at(out)]].concat())
    };
    inject("", "whole.jsonl").succeeds();
    inject("2/2", "second.jsonl").succeeds();
    inject("1/2", "first.jsonl").succeeds();
    inject("1/2", "second.jsonl").fails_naming(&["second.jsonl", "`inject.shard`", "2/2"]);
    inject("3/2", "third.jsonl").refuses_naming(&["I/N"]);
    let pair = |answers: &[&str], out: &str| {
        let answers: Vec<_> = answers.iter().flat_map(|name| arguments!["--answers", at(name)]).collect();
        bpo([arguments!["pair"], data.clone(), answers, arguments!["--out", at(out)]].concat()).succeeds();
        fs::read(at(out)).unwrap()
    };
    let whole = pair(&["whole.jsonl"], "whole-pairs.jsonl");
    assert_eq!(pair(&["second.jsonl", "first.jsonl"], "pairs.jsonl"), whole);

    // a sample without any weakened answer has no pair, and is not asked for
    let line = r#"{"id":"a","type":"mllm-hal","reason":"image-missing","detail":"no image"}"#;
    fs::write(at("weakened.jsonl"), format!("{line}\n")).unwrap();
    let more = arguments!["--weakened", at("weakened.jsonl"), "--out", at("fewer.jsonl")];
    bpo([arguments!["inject"], data.clone(), more].concat()).succeeds();
    assert_eq!(fs::read_to_string(at("fewer.jsonl")).unwrap().lines().count(), 1);
    let fewer = pair(&["fewer.jsonl", "weakened.jsonl"], "fewer-pairs.jsonl");
    assert_eq!(pair(&["weakened.jsonl", "whole.jsonl"], "same-pairs.jsonl"), fewer);
    assert!(whole.ends_with(&fewer) && fewer.len() < whole.len());
}

/// Pairs are made with the answers of a language model behind a server, which may fail at first.
#[cfg(feature = "server")]
#[test]
fn pairs_are_made_with_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let server = Server::failing_first(1);
    let settings = format!("base_url = \"{}\"\nmodel = \"m\"\nbackoff_initial_ms = 1\n", server.url);
    fs::write(at("bpo.toml"), format!("[inject.server]\n{settings}")).unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let out = arguments!["--out", at("injected.jsonl")];
    bpo([arguments!["inject"], data.clone(), out].concat()).succeeds().says("inject: 2 answers");
    assert_eq!(server.requests().len(), 1 + 2);
    let files = arguments!["--answers", at("injected.jsonl"), "--out", at("pairs.jsonl")];
    bpo([arguments!["pair"], data, files].concat()).succeeds();
    let pairs = read_lines(at("pairs.jsonl"));
    assert_eq!(pairs.len(), 2);
    for pair in &pairs {
        assert!(pair["rejected"].as_str().unwrap().contains("purple elephant"), "{pair}");
        assert_eq!(pair["kind"], "llm-hal");
    }
}

#[test]
fn commands_that_need_a_model_name_the_feature() {
    for command in ["quickstart", "run", "train", "score", "generate", "merge", "convert-checkpoint"] {
        bpo(arguments![command, "--model", "m"])
            .refuses_naming(&[&format!("`bpo {command}` needs a program built with `--features model`")]);
    }
    bpo(arguments!["trian"]).refuses_naming(&["unrecognized subcommand \"trian\""]);
}

#[test]
fn help_lists_only_commands_of_this_build() {
    let help = bpo(["help"]).succeeds().stdout;
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["weaken", "inject", "pair", "inspect", "stats", "convert", "distort", "eval", "help"]);
}
