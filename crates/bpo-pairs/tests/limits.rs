//! Records that exceed the limits are skipped, and paths that are not regular files are refused.

use std::fs;
use std::path::Path;

use bpo_pairs::files::FileError;
use bpo_pairs::format::{jsonl, llava};
use bpo_pairs::{Limits, PairsError, SkipReason};
use serde_json::{Value, json};

fn conversation(turns: usize) -> Value {
    let messages: Vec<Value> = (0..turns)
        .flat_map(|_| [json!({"from": "human", "value": "What?"}), json!({"from": "gpt", "value": "A cat."})])
        .collect();
    json!({"id": "a", "image": "a.jpg", "conversations": messages})
}

fn pair(answer: &str, history: usize) -> Value {
    let turn = json!({"prompt": "What?", "answer": "A cat."});
    json!({
        "id": "a", "image": "a.jpg", "history": vec![turn; history], "prompt": "And?", "chosen": answer,
        "rejected": "A dog.", "kind": "llm-hal"
    })
}

/// Returns the number of samples and the reasons of the skipped ones.
fn samples(record: &Value) -> (usize, Vec<SkipReason>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.json");
    fs::write(&path, json!([record]).to_string()).unwrap();
    let data = llava::read(&path).unwrap();
    (data.samples.len(), data.skipped.iter().map(|skipped| skipped.reason).collect())
}

#[test]
fn number_of_turns_is_limited() {
    let turns = Limits::default().turns;
    assert_eq!(samples(&conversation(turns)), (turns, vec![]));
    for turns in [turns + 1, 10_000] {
        assert_eq!(samples(&conversation(turns)), (0, vec![SkipReason::OverLimit]));
    }
}

#[test]
fn size_of_a_text_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.jsonl");
    let Limits { text_bytes, turns, .. } = Limits::default();
    let longest = "x".repeat(text_bytes);
    let pairs = [
        pair(&longest, 0),
        pair(&format!("{longest}x"), 0),
        pair("A cat.", turns),
        pair("A cat.", turns + 1),
    ];
    let lines: Vec<String> = pairs
        .into_iter()
        .enumerate()
        .map(|(i, mut pair)| {
            pair["id"] = json!(i);
            pair.to_string()
        })
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let set = jsonl::read_pairs(&path).unwrap();
    assert_eq!(set.pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["0", "2"]);
    let details: Vec<&str> = set.skipped.iter().map(|skipped| skipped.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "record over a size limit: `chosen (bytes)` is 1048577, above the limit of 1048576 (record 2)",
            "record over a size limit: `history (turns)` is 1001, above the limit of 1000 (record 4)",
        ]
    );
}

#[cfg(unix)]
#[test]
fn devices_and_fifos_as_data_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_path(), Path::new("/dev/zero")] {
        let is_refused = |error: PairsError| matches!(error, PairsError::File(FileError::NotAFile { .. }));
        assert!(is_refused(llava::read(path).unwrap_err()));
        assert!(is_refused(jsonl::read_pairs(path).unwrap_err()));
        assert!(is_refused(bpo_pairs::fingerprint_file(path).unwrap_err()));
    }
}
