//! Cases of section 3: hangs, aborts, and runs that cannot continue.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Dir, ends, inject, score_arguments};
use crate::common::{
    Outcome, bpo, checkpoint, command, conversation, photos, read_lines, train_arguments, write_three_pairs,
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

/// Case 3.8: devices and FIFOs as inputs are refused by name.
#[test]
fn inputs_that_are_no_files_are_refused() {
    let dir = Dir::new();
    let (fifo, data) = (dir.fifo("fifo"), photos().join("llava.json"));
    for input in [Path::new("/dev/zero"), &fifo] {
        let name = input.to_str().unwrap();
        let config = arguments!["--config", input];
        for arguments in [
            inject(input, &dir.at("out.jsonl")),
            [inject(&data, &dir.at("out.jsonl")), config].concat(),
            score_arguments(input),
        ] {
            let outcome = limited(2000, arguments).without_panic().says(name);
            assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
        }
    }
}

/// Case 3.8: a pipe of the shell is read once.
#[test]
fn a_pipe_of_the_shell_is_read() {
    let dir = Dir::new();
    let (data, out) = (photos().join("llava.json"), dir.at("out.jsonl"));
    let program = command::<&str>([]).get_program().to_owned();
    let script = "exec \"$0\" inject --data <(cat \"$1\") --out \"$2\"";
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).args([program.as_os_str(), data.as_os_str(), out.as_os_str()]);
    ends(&mut shell).succeeds().says("inject: 7 answers");
}

/// Case 3.8: a dangling link beside the weights is ignored.
#[test]
fn a_dangling_link_beside_the_weights_is_ignored() {
    let dir = Dir::new();
    checkpoint::copy_to(&dir.at("model"));
    symlink(dir.at("nowhere"), dir.at("model/notes.txt")).unwrap();
    write_three_pairs(&dir.at("pairs.jsonl"), ["A cat.", "A red cup."]);
    let train = train_arguments(&dir.at("pairs.jsonl"), &dir.at("run"));
    let more = arguments!["--model", dir.at("model"), "--max-steps", "1"];
    bpo(train.into_iter().chain(more)).succeeds();
    let (model, adapter) = (dir.at("model"), dir.at("run/adapter"));
    bpo(arguments!["merge", "--model", model, "--adapter", adapter, "--out", dir.at("merged")]).succeeds();
}

/// Case 3.11: several processes fill one cache at the same time.
#[test]
fn processes_share_a_cache() {
    let dir = Dir::new();
    write_three_pairs(&dir.at("pairs.jsonl"), ["A cat.", "A red cup."]);
    let (pairs, cache) = (dir.at("pairs.jsonl"), dir.at("cache.safetensors"));
    let arguments = [score_arguments(&pairs), arguments!["--cache", cache]].concat();
    let start = |_| command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..4).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3, "{stderr}");
    }
    assert_eq!(bpo(&arguments).succeeds().lines().len(), 3);
}
