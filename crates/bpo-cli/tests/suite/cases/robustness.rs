//! Cases of section 3: hangs, aborts, and runs that cannot continue.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::{Dir, ends, inject};
use crate::common::{Outcome, command, conversation, read_lines};

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
