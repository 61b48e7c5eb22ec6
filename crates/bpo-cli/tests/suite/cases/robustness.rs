//! Cases of section 3: hangs, aborts, and runs that cannot continue.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::{Dir, ends, fails, inject, score_arguments};
use crate::common::{
    Outcome, checkpoint, command, conversation, read_lines, run_arguments, write_three_pairs,
};

/// Runs the program with at most `megabytes` of address space.
fn limited(megabytes: usize, arguments: Vec<OsString>) -> Outcome {
    let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", megabytes * 1000);
    let program = command::<&str>([]).get_program().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(program).args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    ends(&mut shell)
}

/// Case 3.2: memory grows with the size of the data, not with its square.
#[test]
fn long_conversations_and_answers_take_little_memory() {
    let dir = Dir::new();
    let turn = |number: usize| {
        let (from, text) = match number % 2 {
            0 => ("human", format!("What is the number {number} in this picture?")),
            _ => ("gpt", format!("It is a cat on a mat, number {number}.")),
        };
        let image = if number == 0 { "<image>\n" } else { "" };
        json!({"from": from, "value": format!("{image}{text}")})
    };
    let turns: Vec<Value> = (0..10_000).map(turn).collect();
    let data = [
        json!({"id": "long", "image": "cat.jpg", "conversations": turns}),
        conversation("large", "What is it?", &"A cat sits on a red mat. ".repeat(1_000_000)),
        conversation("good", "What is it?", "A cat sits on a red mat."),
    ];
    fs::write(dir.at("data.json"), serde_json::to_vec(&data).unwrap()).unwrap();
    let outcome = limited(1500, inject(&dir.at("data.json"), &dir.at("out.jsonl")));
    outcome.succeeds();
    assert!(read_lines(dir.at("out.jsonl")).iter().any(|line| line["id"] == "good"));
}

/// Case 3.3: sizes on the command line and in settings are bounded before any work.
#[test]
fn sizes_in_settings_are_bounded() {
    let dir = Dir::new();
    let refused = |arguments: Vec<OsString>, named: &str| {
        let outcome = ends(&mut command(arguments));
        outcome.refuses_naming(&[named]);
        assert!(!dir.at("run").exists());
    };
    let run = |more: Vec<OsString>| run_arguments(&dir.at("run")).into_iter().chain(more).collect();
    refused(run(arguments!["--lora-r", "1000000000"]), "lora.r");
    let server = "[inject.server]\nbase_url = \"http://127.0.0.1:9\"\nmodel = \"m\"\n";
    for (setting, named) in [
        (format!("{server}timeout_s = 1e19\n"), "timeout_s"),
        (format!("{server}max_concurrency = 1000000000\n"), "max_concurrency"),
    ] {
        fs::write(dir.at("bpo.toml"), setting).unwrap();
        refused(run(arguments!["--config", dir.at("bpo.toml")]), named);
    }
    fs::write(dir.at("truth.jsonl"), "{\"image\": \"a.png\", \"objects\": [\"cup\"]}\n").unwrap();
    fs::write(dir.at("answers.jsonl"), "{\"image\": \"a.png\", \"text\": \"A cup.\"}\n").unwrap();
    let (answers, truth) = (dir.at("answers.jsonl"), dir.at("truth.jsonl"));
    let chair = arguments!["eval", "chair", "--answers", answers, "--truth", truth];
    refused(chair.into_iter().chain(arguments!["--resamples", "1000000000"]).collect(), "resamples");
}

/// Case 3.3: sizes in a checkpoint's files are bounded before any weight is read.
#[test]
fn sizes_in_a_checkpoint_are_bounded() {
    let edit = |name: &str, edit: &dyn Fn(&mut Value)| {
        let dir = Dir::new();
        checkpoint::copy_to(&dir.at("model"));
        let path = dir.at("model").join(name);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        fs::write(path, config.to_string()).unwrap();
        write_three_pairs(&dir.at("pairs.jsonl"), ["A cat.", "A red cup."]);
        let (model, pairs) = (dir.at("model"), dir.at("pairs.jsonl"));
        fails([score_arguments(&pairs), arguments!["--model", model]].concat()).says(name);
    };
    edit("config.json", &|config| config["text_config"]["head_dim"] = 1_000_000_000_000_u64.into());
    edit("config.json", &|config| config["text_config"]["num_hidden_layers"] = 1_000_000.into());
    edit("generation_config.json", &|config| config["eos_token_id"] = vec![2; 1_000_000].into());
}
