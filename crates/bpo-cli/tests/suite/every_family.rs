//! A run on a tiny checkpoint of each model family, from photographs to an adapter.

use std::f64::consts::LN_2;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{bpo, read_lines};
use crate::kill::{Moment, kill_at};

/// The golden cases of `bpo-model`.
fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-model/tests/families")
}

fn record(id: &str, images: &[&str], question: &str, answer: &str) -> Value {
    json!({"id": id, "images": images, "messages": [
        {"role": "user", "content": question}, {"role": "assistant", "content": answer},
    ]})
}

/// The first loss is ln 2, because a new adapter changes nothing, and a second start finds nothing to
/// do. A second run, which is killed while it weakens and while it trains, gives the same bytes.
#[test]
fn every_family_is_trained_from_photographs() {
    let dir = tempfile::tempdir().unwrap();
    let photos = cases().join("photos");
    let mut names: Vec<String> =
        fs::read_dir(&photos).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let [first, second, ..] = names.as_slice() else { panic!("{names:?}") };
    let data = dir.path().join("data.json");
    let records = json!([
        record("one", &[first], "<image>\nWhat is on the table?", "A red cup and two blue plates."),
        record("two", &[first, second], "Is <image> or <image> a dog?", "The second image shows a dog."),
        record("none", &[], "What is a kitchen for?", "People cook and eat there."),
    ]);
    fs::write(&data, records.to_string()).unwrap();
    let (mut count, mut kills) = (0, [0; 2]);
    for case in fs::read_dir(cases()).unwrap().map(|case| case.unwrap().path()) {
        let model = case.join("published");
        if !model.is_dir() {
            continue;
        }
        count += 1;
        let arguments = |out: &Path| -> Vec<OsString> {
            arguments![
                "run",
                "--model",
                &model,
                "--data",
                &data,
                "--images",
                &photos,
                "--out",
                out,
                "--max-new-tokens",
                "4",
                "--max-steps",
                "3",
                "--save-every",
                "1",
                "--lora-r",
                "2",
                "--lora-alpha",
                "4",
                "--learning-rate",
                "1e-3",
                "--batch-size",
                "4"
            ]
        };
        let run = |out: &Path| bpo(arguments(out));
        let name = case.file_name().unwrap().to_str().unwrap();
        let [once, again] = ["once", "killed"].map(|run| dir.path().join(format!("{name}-{run}")));
        run(&once).succeeds().says("weaken: 2 answers, 1 skipped (no image: 1)");
        let loss = read_lines(once.join("metrics.jsonl"))[0]["loss"].as_f64().unwrap();
        assert!((loss - LN_2).abs() < 1e-5, "{name}: {loss}");
        run(&once).succeeds().says("nothing left to do");
        for (moment, kills) in [Moment::Weaken(1), Moment::Train(1)].into_iter().zip(&mut kills) {
            *kills += usize::from(kill_at(moment, Duration::ZERO, &again, &arguments(&again)));
        }
        run(&again).succeeds();
        for file in ["weakened.jsonl", "pairs.jsonl", "metrics.jsonl", "adapter/adapter_model.safetensors"] {
            assert!(
                fs::read(once.join(file)).unwrap() == fs::read(again.join(file)).unwrap(),
                "{name}: {file}"
            );
        }
    }
    assert!(count >= 12, "{count}");
    // few processes end before the signal
    assert!(kills.iter().all(|kills| 2 * kills > count), "{kills:?} of {count}");
}
