//! `--device` with several devices: a run, its parts, and other commands.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::common::{
    bpo, copy_run, generate, photos, read_lines, run_arguments, score, tiny, train_arguments,
};
use crate::kill::{Moment, kill_at};

/// Calls of four answers, and steps of four pairs in batches of two.
const SETTINGS: &str = "[weaken]\nbatch_size = 1\nsamples = 2\n[lora]\nlora_dropout = 0.1\nlora_noise = 0.02\n[train]\n\
    batch_size = 2\ngradient_accumulation_steps = 2\neval_fraction = 0.2\neval_every = 5\n";

fn without_dropout() -> String {
    SETTINGS.replace("lora_dropout = 0.1\nlora_noise = 0.02", "")
}

fn run_on(devices: &str, config: &Path, run: &Path) -> Vec<OsString> {
    let mut arguments = run_arguments(run);
    let epochs = arguments.iter().position(|argument| argument == "--epochs").unwrap();
    arguments.drain(epochs..epochs + 2);
    arguments.extend(arguments!["--device", devices, "--config", config, "--max-steps", "20"]);
    arguments
}

/// The answers of a stage. Devices may write them in any order.
fn answers(run: &Path) -> BTreeSet<String> {
    read_lines(run.join("weakened.jsonl")).iter().map(Value::to_string).collect()
}

/// The trained parameters of the adapter, by name.
fn adapter(run: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(run.join("adapter/adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut all: Vec<_> = tensors.iter().map(|(name, view)| (name.to_owned(), floats(view.data()))).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn assert_same_adapter(found: &Path, expected: &Path, tolerance: f32) {
    let (found, expected) = (adapter(found), adapter(expected));
    assert!(!expected.is_empty() && found.len() == expected.len());
    for ((name, found), (expected_name, expected)) in found.iter().zip(&expected) {
        assert_eq!((name, found.len()), (expected_name, expected.len()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < tolerance, "{name}: {found}, not {expected}");
        }
    }
}

/// With dropout, noise and batches of one pair, which stay the same, and with batches that are split and
/// summed in another order.
#[test]
fn run_on_several_devices_equals_run_on_one() {
    let of = |settings: &str, size: &str| settings.replace("\nbatch_size = 2", size);
    let single = of(SETTINGS, "\nbatch_size = 1").replace("accumulation_steps = 2", "accumulation_steps = 4");
    check_equal(&single, "flex,flex");
    check_equal(&of(&without_dropout(), "\nbatch_size = 3"), "flex,flex,flex,flex");
}

fn check_equal(settings: &str, devices: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (config, one, two) = (dir.path().join("bpo.toml"), dir.path().join("one"), dir.path().join("two"));
    fs::write(&config, settings).unwrap();
    bpo(run_on("flex", &config, &one)).succeeds();
    bpo(run_on(devices, &config, &two)).succeeds();
    assert_eq!(answers(&two), answers(&one));
    for name in ["injected.jsonl", "pairs.jsonl", "skipped.jsonl"] {
        assert!(fs::read(two.join(name)).unwrap() == fs::read(one.join(name)).unwrap(), "{name}");
    }
    assert_same_adapter(&two, &one, 1e-5);
    for name in ["metrics.jsonl", "eval.jsonl"] {
        let (found, expected) = (read_lines(two.join(name)), read_lines(one.join(name)));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            for (key, expected) in expected.as_object().unwrap() {
                let (Some(found), Some(expected)) = (found[key].as_f64(), expected.as_f64()) else {
                    assert_eq!(&found[key], expected, "{key}");
                    continue;
                };
                let error = (found - expected).abs() / expected.abs().max(1.0);
                assert!(error < 1e-5, "{name}: {key}: {found}, not {expected}");
            }
        }
    }
    assert_eq!(read_lines(one.join("metrics.jsonl")).len(), 20);
}

/// A killed run on two devices continues to the bytes of an uninterrupted one, and on other devices
/// to the same values.
#[test]
fn killed_run_on_two_devices_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = at("bpo.toml");
    fs::write(&config, SETTINGS).unwrap();
    let arguments = |devices: &str, run: &Path| -> Vec<OsString> {
        run_on(devices, &config, run).into_iter().chain(arguments!["--save-every", "1"]).collect()
    };
    let expected = at("expected");
    bpo(arguments("flex,flex", &expected)).succeeds();
    let bytes = |run: &Path| {
        let names = ["injected.jsonl", "pairs.jsonl", "metrics.jsonl", "adapter/adapter_model.safetensors"];
        names.map(|name| fs::read(run.join(name)).unwrap())
    };
    let killed = at("killed");
    let moments = [Moment::Weaken(3), Moment::Weaken(9), Moment::Train(2), Moment::Train(11)];
    let kills = moments.into_iter().filter(|moment| {
        kill_at(*moment, Duration::from_millis(3), &killed, &arguments("flex,flex", &killed))
    });
    assert!(kills.count() >= 2, "the run was too fast to be killed");
    bpo(arguments("flex,flex", &killed)).succeeds();
    assert_eq!(answers(&killed), answers(&expected));
    assert!(bytes(&killed) == bytes(&expected));

    let moved = at("moved");
    // dropout masks and noise depend on the batches, which three devices make smaller
    fs::write(&config, without_dropout()).unwrap();
    let expected = at("without dropout");
    bpo(arguments("flex,flex", &expected)).succeeds();
    let kill = |devices: &str, moment| {
        kill_at(moment, Duration::from_millis(3), &moved, &arguments(devices, &moved))
    };
    kill("flex", Moment::Weaken(5));
    let in_training = [kill("flex,flex,flex", Moment::Train(4)), kill("flex", Moment::Train(9))];
    assert!(in_training.contains(&true), "training was too fast to be killed");
    bpo(arguments("flex,flex", &moved)).succeeds();
    assert_eq!(answers(&moved), answers(&expected));
    assert_same_adapter(&moved, &expected, 1e-5);
}

#[test]
fn answers_and_scores_do_not_depend_on_the_devices() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let questions = at("questions.jsonl");
    let lines: Vec<String> = (0..11)
        .map(|number| {
            let image = if number == 5 { "missing.jpg" } else { "coffee.jpg" };
            json!({"question_id": number, "image": image, "text": format!("What is number {number}?")})
                .to_string()
        })
        .collect();
    fs::write(&questions, lines.join("\n")).unwrap();
    // calls of four questions, one of which is skipped
    let answer = |devices: &str| {
        let more = arguments!["--device", devices, "--batch-size", "1", "--max-new-tokens", "5"];
        let more = more.into_iter().chain(arguments!["--temperature", "1"]).collect();
        let outcome = generate(&questions, more);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        outcome.stdout
    };
    let expected = answer("flex");
    assert_eq!(expected.lines().count(), 10);
    for devices in ["flex,flex", "flex,flex,flex,flex,flex"] {
        assert_eq!(answer(devices), expected, "{devices}");
    }

    let run = at("run");
    copy_run(&run);
    let pairs = run.join("pairs.jsonl");
    let scores = |devices: &str, more: Vec<OsString>| {
        let flags = arguments!["--device", devices, "--batch-size", "2"];
        score(&tiny(), &pairs, flags.into_iter().chain(more).collect()).succeeds().stdout
    };
    assert_eq!(scores("flex,flex,flex", vec![]), scores("flex", vec![]));
    let cached = |devices: &str| {
        let cache = at(&format!("{devices}.safetensors"));
        (scores(devices, arguments!["--cache", &cache]), fs::read(cache).unwrap())
    };
    assert!(cached("flex,flex") == cached("flex"));
}

/// A copy on another backend computes the same up to rounding.
#[cfg(feature = "tch")]
#[test]
fn devices_may_have_different_backends() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (run, config) = (at("run"), at("bpo.toml"));
    copy_run(&run);
    // each backend draws other masks
    fs::write(&config, without_dropout()).unwrap();
    let train = |devices: &str, out: &str| {
        let more = arguments!["--device", devices, "--config", &config];
        let arguments = train_arguments(&run.join("pairs.jsonl"), &at(out));
        bpo(arguments.into_iter().chain(more)).succeeds();
        at(out)
    };
    let expected = train("flex", "flex");
    for (devices, out) in [("flex,libtorch", "first flex"), ("libtorch,flex", "first LibTorch")] {
        assert_same_adapter(&train(devices, out), &expected, 1e-4);
    }
}

#[test]
fn commands_on_one_device_refuse_several() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = at("run");
    copy_run(&run);
    let two = |command: Vec<OsString>| bpo(command.into_iter().chain(arguments!["--device", "flex,flex"]));
    let merge =
        arguments!["merge", "--model", tiny(), "--adapter", run.join("adapter"), "--out", at("merged")];
    two(merge).refuses_naming(&["flex,flex", "name one"]);
    let inject =
        arguments!["inject", "--model", tiny(), "--inject-with-model", "--out", at("injected.jsonl")];
    let data = arguments!["--data", photos().join("llava.json"), "--images", photos()];
    two(inject.into_iter().chain(data).collect()).refuses_naming(&["flex,flex", "name one"]);
    bpo(train_arguments(&run.join("pairs.jsonl"), &at("out"))
        .into_iter()
        .chain(arguments!["--device", "flex,"]))
    .refuses_naming(&["unknown device \"\""]);
    let plan = train_arguments(&run.join("pairs.jsonl"), &at("out"));
    bpo(plan.iter().cloned().chain(arguments!["--device", "flex", "--device", "flex"])).refuses_naming(&[
        "`--device`",
        "commas",
        "2 times",
    ]);
    // a list of the settings file
    let config = at("bpo.toml");
    fs::write(&config, "device = [\"flex\", \"flex\", \"flex\"]\n").unwrap();
    let flags = arguments!["--config", &config, "--dry-run"];
    let outcome = bpo(plan.iter().cloned().chain(flags)).succeeds();
    assert_eq!(outcome.lines()[0]["devices"], 3);
    let outcome = two(plan.into_iter().chain(arguments!["--dry-run"]).collect()).succeeds();
    assert_eq!(outcome.lines()[0]["devices"], 2);
    outcome.says("the others need no optimizer");
}
