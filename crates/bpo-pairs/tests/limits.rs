//! Records that exceed the limits are skipped, and paths that are not regular files are refused.

use std::fs;
use std::io::{BufReader, Read};
use std::path::Path;

use bpo_pairs::files::{FileError, open_limited};
use bpo_pairs::format::{json as records, jsonl, llava};
use bpo_pairs::{Limits, PairsError, SftSample, SkipReason};
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

/// The samples of a conversation share its turns, so memory grows with the record and not with its
/// square. 900 turns of 5 KB, copied for each sample, would take 2 GB.
#[test]
fn samples_of_a_long_conversation_share_its_turns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("llava.json");
    let turns = (0..900).flat_map(|i| {
        let answer = format!("{i} {}", "x".repeat(5000));
        [json!({"from": "human", "value": "What?"}), json!({"from": "gpt", "value": answer})]
    });
    let record = json!([{"id": "a", "image": "a.jpg", "conversations": turns.collect::<Vec<_>>()}]);
    fs::write(&path, record.to_string()).unwrap();
    let data = llava::read(&path).unwrap();
    let last = &data.samples[899].history;
    for (i, sample) in data.samples.iter().enumerate() {
        assert_eq!(sample.history.len(), i);
        assert!(std::ptr::eq(sample.history.as_ptr(), last.as_ptr()), "sample {i} has turns of its own");
    }
    assert_eq!(last[898].answer, data.samples[898].answer);

    // in files a history is a list of turns, and is left out if there is none
    let text = serde_json::to_string(&data.samples[1]).unwrap();
    assert!(text.contains("\"history\":[{\"prompt\":"), "{}", &text[..200]);
    assert_eq!(serde_json::from_str::<SftSample>(&text).unwrap(), data.samples[1]);
    assert!(!serde_json::to_string(&data.samples[0]).unwrap().contains("history"));
}

/// White space before the first record counts towards the limit of a record.
#[test]
fn white_space_without_end_is_refused() {
    let reader = BufReader::new(std::io::repeat(b' '));
    let mut each = |_: Value| Ok(());
    let error = records::for_each(Path::new("endless.jsonl"), reader, &mut each).unwrap_err();
    assert!(matches!(error, PairsError::RecordTooLarge { record: 1, line: 1, .. }), "{error}");
}

#[test]
fn a_file_that_is_read_in_parts_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    fs::write(&path, "12345").unwrap();
    let read = |limit| {
        let mut text = String::new();
        open_limited(&path, limit).unwrap().read_to_string(&mut text).map(|_| text)
    };
    assert_eq!(read(5).unwrap(), "12345");
    assert_eq!(
        read(4).unwrap_err().to_string(),
        format!("{} is larger than 4 bytes, the limit for a file of its kind", path.display())
    );
}
