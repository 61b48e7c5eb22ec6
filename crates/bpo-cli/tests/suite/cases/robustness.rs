//! No input makes a command hang or abort, or keeps a run from continuing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Dir, ends, ends_with_peak, fails, inject, score_arguments};
use crate::common::{
    Snapshot, bpo, checkpoint, command, conversation, copy_run, photos, read_lines, run_arguments, snapshot,
    tiny, train_arguments, write_samples, write_three_pairs,
};

/// Memory grows with the size of the data, not with its square.
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
    let mut command = command(inject(&dir.at("data.json"), &dir.at("out.jsonl")));
    let (outcome, peak) = ends_with_peak(&mut command);
    outcome.succeeds();
    assert!(peak <= Some(1500), "{peak:?} MB");
    assert!(read_lines(dir.at("out.jsonl")).iter().any(|line| line["id"] == "good"));
}

/// Sizes on the command line and in settings are bounded before any work.
#[test]
fn sizes_in_settings_are_limited() {
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

/// A proxy that the program cannot use is refused before any work.
#[test]
fn invalid_proxy_is_an_error() {
    let dir = Dir::new();
    let server = "[inject.server]\nbase_url = \"http://127.0.0.1:9\"\nmodel = \"m\"\n";
    fs::write(dir.at("bpo.toml"), format!("{server}proxy = \"socks5://127.0.0.1:9\"\n")).unwrap();
    let config = arguments!["--config", dir.at("bpo.toml")];
    bpo([run_arguments(&dir.at("run")), config].concat()).refuses_naming(&["proxy"]);
    assert!(!dir.at("run").exists());
}

/// Sizes in a checkpoint's files are bounded before any weight is read.
#[test]
fn sizes_in_a_checkpoint_are_limited() {
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

/// A training with checkpoints after each step whose adapter is gone.
fn unfinished(dir: &Dir) -> (PathBuf, Vec<OsString>, Snapshot) {
    let (out, pairs) = (dir.at("run"), dir.at("pairs.jsonl"));
    write_three_pairs(&pairs, ["A cat.", "A red cup."]);
    let more = arguments!["--max-steps", "4", "--save-every", "1", "--batch-size", "2"];
    let arguments: Vec<OsString> = train_arguments(&pairs, &out).into_iter().chain(more).collect();
    bpo(&arguments).succeeds();
    let adapter = snapshot(&out.join("adapter"));
    fs::remove_dir_all(out.join("adapter")).unwrap();
    (out.join("checkpoints"), arguments, adapter)
}

/// The directory of the last checkpoint.
fn last_checkpoint(checkpoints: &Path) -> PathBuf {
    let entries = fs::read_dir(checkpoints).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).max().unwrap()
}

/// A checkpoint with a changed bit in its tensors is not used; the one before it is.
#[test]
fn damaged_checkpoint_is_ignored() {
    let dir = Dir::new();
    let (checkpoints, arguments, adapter) = unfinished(&dir);
    let last = last_checkpoint(&checkpoints);
    for (path, mut bytes) in snapshot(&last) {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let place = bytes.len() - 2;
            bytes[place] ^= 0x40;
            fs::write(path, bytes).unwrap();
        }
    }
    bpo(&arguments).succeeds().says(last.file_name().unwrap().to_str().unwrap());
    assert!(snapshot(&dir.at("run/adapter")) == adapter);
}

/// A checkpoint whose numbers are beyond the run is not used; the one before it is.
#[test]
fn checkpoint_after_the_last_step_is_ignored() {
    for key in ["step", "cursor"] {
        let dir = Dir::new();
        let (checkpoints, arguments, adapter) = unfinished(&dir);
        let last = last_checkpoint(&checkpoints);
        let (state, checksums) = (last.join("trainer_state.json"), last.join("checksums.json"));
        let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let mut changed = read(&state);
        assert!(set_numbers(&mut changed, key) > 0, "no checkpoint has {key}");
        let text = changed.to_string();
        // with the right checksum, so that the numbers themselves must be checked
        let mut sums = read(&checksums);
        let digest = bpo::pairs::Fingerprint::of(&text).to_string();
        sums["trainer_state.json"] = serde_json::json!({"bytes": text.len(), "sha256": digest});
        fs::write(&state, text).unwrap();
        fs::write(&checksums, sums.to_string()).unwrap();
        let outcome = bpo(&arguments).succeeds().says(last.file_name().unwrap().to_str().unwrap());
        assert!(!outcome.stderr.contains("SHA-256"), "{}", outcome.stderr);
        assert!(snapshot(&dir.at("run/adapter")) == adapter, "{key}");
    }
}

/// Sets all numbers of a key, wherever they are; returns how many.
fn set_numbers(value: &mut Value, key: &str) -> usize {
    match value {
        Value::Object(map) => map
            .iter_mut()
            .map(|(name, value)| {
                if name == key && value.is_number() {
                    *value = 1_000_000.into();
                    1
                } else {
                    set_numbers(value, key)
                }
            })
            .sum(),
        Value::Array(items) => items.iter_mut().map(|item| set_numbers(item, key)).sum(),
        _ => 0,
    }
}

/// A finished run whose adapter was emptied is not finished.
#[test]
fn emptied_adapter_is_written_again() {
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        let dir = Dir::new();
        copy_run(&dir.at("run"));
        let adapter = snapshot(&dir.at("run/adapter"));
        fs::write(dir.at("run/adapter").join(name), "").unwrap();
        bpo(run_arguments(&dir.at("run"))).succeeds();
        assert!(snapshot(&dir.at("run/adapter")) == adapter, "{name}");
    }
}

/// What only training or injection uses is checked before the first stage.
#[test]
fn all_inputs_are_checked_before_the_first_stage() {
    let dir = Dir::new();
    fs::write(dir.at("stale.safetensors"), "not a cache").unwrap();
    fs::write(dir.at("empty.jsonl"), "").unwrap();
    let fails_early = |more: Vec<OsString>, named: &str| {
        let outcome = fails(run_arguments(&dir.at("run")).into_iter().chain(more).collect()).says(named);
        assert!(!outcome.stderr.contains("weaken:"), "{}", outcome.stderr);
        let weakened = fs::metadata(dir.at("run/weakened.jsonl"));
        assert!(weakened.map_or(true, |file| file.len() == 0), "{named}");
    };
    fails_early(arguments!["--eval-pairs", dir.at("gone.jsonl")], "gone.jsonl");
    fails_early(arguments!["--eval-pairs", dir.at("empty.jsonl")], "empty.jsonl");
    fails_early(arguments!["--reference-cache", dir.at("stale.safetensors")], "stale.safetensors");
    let server =
        "[inject.server]\nbase_url = \"http://127.0.0.1:9\"\nmodel = \"m\"\nstartup_timeout_s = 0.0\n";
    for (settings, named) in [
        ("[lora]\ntarget_modules = { regex = \"(\" }\n", "target_modules"),
        ("[lora]\ntarget_modules = { regex = \"nothing\" }\n", "nothing"),
        ("[train]\nlr_groups = [{ path = \"nothing\", learning_rate = 1e-3 }]\n", "nothing"),
        ("[train]\nkind_weights = { typo = 1.0 }\n", "typo"),
        (server, "127.0.0.1:9"),
    ] {
        fs::write(dir.at("bpo.toml"), settings).unwrap();
        fails_early(arguments!["--config", dir.at("bpo.toml")], named);
    }
}

/// An id with a NUL character does not stop a stage with several answers.
#[test]
fn ids_can_contain_nul() {
    let dir = Dir::new();
    let (data, out) = (dir.at("data.json"), dir.at("weakened.jsonl"));
    write_samples(
        &data,
        &[
            ("a", "cat.jpg", "What is it?", "A cat."),
            ("a\u{0}1", "cat.jpg", "What is it?", "A cat."),
            ("b\u{0}", "cat.jpg", "What is it?", "A cat."),
        ],
    );
    let weaken = || {
        let files = arguments!["--data", &data, "--images", photos(), "--out", &out];
        let model = arguments!["weaken", "--model", tiny(), "--max-new-tokens", "2", "--samples", "2"];
        bpo(model.into_iter().chain(files)).succeeds()
    };
    weaken().says("weaken: 6 answers");
    let whole = fs::read_to_string(&out).unwrap();
    fs::write(&out, whole.split_inclusive('\n').take(3).collect::<String>()).unwrap();
    weaken().says("weaken: 6 answers");
    assert_eq!(fs::read_to_string(&out).unwrap(), whole);
    weaken();
    assert_eq!(fs::read_to_string(&out).unwrap(), whole);
}
