//! Invalid lines in a stage's file.

use std::fs;

use bpo::pairs::format::jsonl::JsonLines;
use bpo::pairs::{JsonlStore, chain};
use bpo::stages::StageRecord;

/// Any other line is an error, with a message that names no Rust types.
#[test]
fn invalid_stage_records_are_errors_without_type_names() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let good = r#"{"id":"a","type":"mllm-hal","response":"A dog."}"#;
    for (line, problem) in [
        ("3", "expected an object with `id`, and `response` or `detail`, found 3"),
        (r#"{"id":"b","more":1}"#, "unknown field `more`"),
        (r#"{"id":"b","type":"gt","response":7}"#, "`response`: expected a text, found 7"),
        (
            r#"{"id":"b","variant":"x"}"#,
            "`variant`: expected a whole number, at least 0, found the text \"x\"",
        ),
        (
            r#"{"id":"b","type":"gt","response":"","provenance":3}"#,
            "`provenance`: expected a provenance: an object with `distortion` or `error`, found 3",
        ),
        (
            r#"{"id":"b","type":"gt","response":"","provenance":{"contrast":{"mode":"up"}}}"#,
            "`provenance.contrast.mode`: unknown variant `up`, expected `amplify_prior` or `vcd`",
        ),
    ] {
        fs::write(at("weakened.jsonl"), format!("{good}\n{line}\n{good}\n")).unwrap();
        let store = JsonlStore::<StageRecord>::open(at("weakened.jsonl")).unwrap_err();
        let mut lines = JsonLines::<StageRecord, _>::open(at("weakened.jsonl")).unwrap();
        let read = lines.find_map(Result::err).unwrap();
        for error in [store, read] {
            let message = chain(&error);
            assert!(message.contains("record 2, line 2, column"), "{message}");
            assert!(message.contains(problem), "{message}");
            for word in ["struct", "enum", " at line", "usize", "f64", "map", "Option"] {
                assert!(!message.contains(word), "{message}");
            }
        }
    }
}
