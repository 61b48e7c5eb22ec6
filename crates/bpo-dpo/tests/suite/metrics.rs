//! The metrics file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use bpo_dpo::{DpoError, MetricsLog, StepMetrics};
use bpo_pairs::PairsError;
use serde_json::{Value, json};

fn metrics(step: usize) -> StepMetrics {
    let value = json!({
        "step": step, "epoch": 0.5, "loss": 0.6, "grad_norm": 2.0, "learning_rate": 1e-6,
        "rewards/chosen": 0.1, "rewards/rejected": -0.1, "rewards/accuracies": 1.0, "rewards/margins": 0.2,
        "logps/chosen": -10.0, "logps/rejected": -20.0, "logits/chosen": 0.5, "logits/rejected": 0.25, "entropy": 2.0,
        "mean_token_accuracy": 0.5, "lengths/chosen": 7.0, "lengths/rejected": 9.0, "pairs": 4, "skipped": false,
    });
    serde_json::from_value(value).expect("all fields")
}

fn write(path: &Path, steps: std::ops::RangeInclusive<usize>) {
    let mut log = MetricsLog::open(path, usize::MAX).expect("opened");
    steps.for_each(|step| log.append(&metrics(step)).expect("appended"));
}

fn steps(path: &Path) -> Vec<usize> {
    MetricsLog::<StepMetrics>::read(path).expect("records").iter().map(|metrics| metrics.step).collect()
}

#[test]
fn log_is_truncated_to_a_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.jsonl");
    write(&path, 1..=5);
    MetricsLog::open(&path, 3).expect("opened").append(&metrics(4)).expect("appended");
    assert_eq!(steps(&path), [1, 2, 3, 4]);
    MetricsLog::<StepMetrics>::open(&path, 0).expect("opened");
    assert_eq!(steps(&path), [0usize; 0]);
}

#[test]
fn incomplete_last_line_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.jsonl");
    write(&path, 1..=2);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("opened")
        .write_all(br#"{"step": 3, "ep"#)
        .expect("written");
    assert_eq!(steps(&path), [1, 2]);
    write(&path, 3..=3);
    assert_eq!(steps(&path), [1, 2, 3]);
}

#[test]
fn invalid_line_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.jsonl");
    write(&path, 1..=1);
    OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"hello\n").expect("written");
    let error = MetricsLog::<StepMetrics>::open(&path, 9).expect_err("not a record");
    let DpoError::Pairs(error) = error else { panic!("{error}") };
    assert!(matches!(*error, PairsError::Json { line: 2, .. }), "{error}");
}

#[test]
fn files_of_another_kind_stay_as_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.jsonl");
    for text in [r#"{"question": "Is it a cat?", "answer": "yes"}"#, "notes", "[1, 2]", "{\"step\": 1}"] {
        std::fs::write(&path, text).expect("written");
        MetricsLog::<StepMetrics>::open(&path, 9).expect_err("not a record");
        MetricsLog::<StepMetrics>::read(&path).expect_err("not a record");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), text);
    }
}

#[test]
fn a_whole_record_without_its_newline_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.jsonl");
    write(&path, 1..=2);
    let text = std::fs::read_to_string(&path).expect("text");
    std::fs::write(&path, text.trim_end()).expect("written");
    write(&path, 3..=3);
    assert_eq!(steps(&path), [1, 2, 3]);
}

#[test]
fn metric_names_equal_trl_and_nan_is_null() {
    let mut record = metrics(1);
    record.loss = f64::NAN;
    let value = serde_json::to_value(&record).expect("JSON");
    for name in
        ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"]
    {
        assert!(value[name].is_number(), "{name}");
    }
    assert_eq!(value["loss"], Value::Null);
    let read: StepMetrics = serde_json::from_value(value).expect("a record");
    assert!(read.loss.is_nan());
}
