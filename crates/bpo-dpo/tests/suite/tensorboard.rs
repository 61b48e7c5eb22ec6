//! Event files of TensorBoard.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bpo_dpo::{Control, DpoConfig, StepMetrics, Trainer};
use serde_json::Value;

use crate::toy::{Toy, ToyCollate, pairs};

fn config() -> DpoConfig {
    DpoConfig::default().with_epochs(3).with_eval_fraction(0.3).with_eval_every(2).with_tensorboard(true)
}

fn train(config: &DpoConfig, dir: &Path, stop: usize) {
    let mut observer =
        |metrics: &StepMetrics| if metrics.step == stop { Control::Stop } else { Control::Continue };
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), Some(dir));
    trainer.expect("valid").train(pairs(), &mut observer).expect("trained");
}

/// Splits a message of protocol buffers into its fields: number, and bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                let value = take_varint(&mut bytes);
                fields.push((key >> 3, value.to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => take_varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("type {other}"),
        };
        let (field, rest) = bytes.split_at(length);
        fields.push((key >> 3, field.to_vec()));
        bytes = rest;
    }
    fields
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The scalars of an event file by step and tag, and the steps at which a session starts.
#[derive(Default)]
struct Events {
    scalars: BTreeMap<(u64, String), f32>,
    starts: Vec<u64>,
}

fn read(path: &Path) -> Events {
    let bytes = fs::read(path).expect("an event file");
    let (mut rest, mut events, mut count) = (bytes.as_slice(), Events::default(), 0);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        let event = fields(&rest[12..12 + length]);
        rest = &rest[16 + length..];
        let find = |number: u64| event.iter().find(|(found, _)| *found == number).map(|(_, bytes)| bytes);
        let step = u64::from_le_bytes(find(2).expect("a step")[..8].try_into().expect("eight bytes"));
        if count == 0 {
            assert_eq!(find(3).expect("a version"), b"brain.Event:2");
        }
        count += 1;
        events.starts.extend(find(7).map(|_| step));
        for (_, value) in find(5).map(|summary| fields(summary)).unwrap_or_default() {
            let value = fields(&value);
            let tag = String::from_utf8(value[0].1.clone()).expect("a text");
            let number = f32::from_le_bytes(value[1].1[..4].try_into().expect("four bytes"));
            assert!(events.scalars.insert((step, tag), number).is_none());
        }
    }
    events
}

fn files(dir: &Path) -> Vec<Events> {
    let mut paths: Vec<_> = fs::read_dir(dir.join("tensorboard"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.iter().all(|path| path.to_string_lossy().contains("events.out.tfevents.")));
    paths.iter().map(|path| read(path)).collect()
}

/// The scalars that the logs have, by step and tag.
fn logged(dir: &Path) -> BTreeMap<(u64, String), f32> {
    let mut scalars = BTreeMap::new();
    for (name, from, to) in [("metrics.jsonl", "", "train"), ("eval.jsonl", "eval_", "eval")] {
        for line in fs::read_to_string(dir.join(name)).expect(name).lines() {
            let line: Value = serde_json::from_str(line).expect("metrics");
            let step = line["step"].as_u64().expect("a step");
            for (key, value) in line.as_object().expect("an object") {
                let name = key.strip_prefix(from).filter(|_| key != "step");
                let (Some(name), Some(value)) = (name, value.as_f64()) else { continue };
                let tag = format!("{to}/{name}");
                scalars.insert((step, tag), value as f32);
            }
        }
    }
    scalars
}

#[test]
fn event_files_have_the_metrics_of_the_logs() {
    let dir = tempfile::tempdir().expect("a directory");
    train(&config(), dir.path(), usize::MAX);
    let files = files(dir.path());
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].starts, [1]);
    let mut found = files[0].scalars.clone();
    // true and false are numbers as well
    found.retain(|(_, tag), _| tag != "train/skipped");
    assert!(found.keys().any(|(_, tag)| tag == "train/rewards/margins"));
    assert!(found.keys().any(|(_, tag)| tag == "eval/loss"));
    assert_eq!(found, logged(dir.path()));
}

#[test]
fn resumed_run_has_another_file_from_its_first_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = tempfile::tempdir().expect("a directory");
    train(&config(), whole.path(), usize::MAX);
    train(&config(), dir.path(), 2);
    // also if the clock stands still, or goes back
    train(&config(), dir.path(), usize::MAX);
    let files = files(dir.path());
    assert_eq!(files.iter().map(|events| events.starts.clone()).collect::<Vec<_>>(), [[1], [3]]);
    let mut all = files[0].scalars.clone();
    all.extend(files[1].scalars.clone());
    all.retain(|(_, tag), _| tag != "train/skipped");
    assert_eq!(all, logged(whole.path()));
    // nothing is left to log
    train(&config(), dir.path(), usize::MAX);
    assert_eq!(fs::read_dir(dir.path().join("tensorboard")).expect("a directory").count(), 2);
    let without = tempfile::tempdir().expect("a directory");
    train(&config().with_tensorboard(false), without.path(), usize::MAX);
    assert!(!without.path().join("tensorboard").exists());
}

#[test]
fn first_file_has_the_steps_of_earlier_processes() {
    let dir = tempfile::tempdir().expect("a directory");
    train(&config().with_tensorboard(false), dir.path(), 2);
    train(&config(), dir.path(), usize::MAX);
    let files = files(dir.path());
    assert_eq!((files.len(), &files[0].starts), (1, &vec![1]));
    let mut found = files[0].scalars.clone();
    found.retain(|(_, tag), _| tag != "train/skipped");
    assert_eq!(found, logged(dir.path()));
}
