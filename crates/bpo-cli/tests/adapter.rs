//! Training that goes on from an adapter.
#![cfg(feature = "flex")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Outcome, bpo, photos, read_lines, run_arguments, tiny, write_pairs};
use serde_json::Value;

fn pairs(path: &Path) {
    write_pairs(
        path,
        &[
            ("a", "cat.jpg", "What is it?", "A cat.", "A dog."),
            ("b", "cat.jpg", "What is it?", "A cat.", "An owl in a tree."),
            ("c", "coffee.jpg", "What is on the table?", "A red cup.", "A blue cup."),
        ],
    );
}

struct Setting {
    dir: tempfile::TempDir,
}

impl Setting {
    /// A directory with pairs and a first training, `first/adapter`.
    fn new() -> Self {
        let setting = Self { dir: tempfile::tempdir().unwrap() };
        pairs(&setting.at("pairs.jsonl"));
        setting.train("first", &["--lora-r", "4", "--lora-alpha", "16"]).succeeds();
        setting
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn adapter(&self) -> String {
        self.at("first/adapter").to_str().unwrap().to_owned()
    }

    fn train(&self, out: &str, more: &[&str]) -> Outcome {
        let arguments = arguments!["train", "--model", tiny(), "--images", photos(), "--lr", "2e-3"];
        let files = arguments!["--pairs", self.at("pairs.jsonl"), "--out", self.at(out), "--batch-size", "2"];
        bpo(arguments.into_iter().chain(files).chain(more.iter().map(OsString::from)))
    }

    fn go_on(&self, out: &str, more: &[&str]) -> Outcome {
        self.train(out, &[&["--adapter", &self.adapter()], more].concat())
    }

    fn losses(&self, out: &str) -> Vec<f64> {
        let steps = read_lines(self.at(out).join("metrics.jsonl"));
        steps.iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    }

    fn margins(&self, adapter: Option<&Path>) -> f64 {
        let mut arguments = arguments!["score", "--model", tiny(), "--images", photos()];
        arguments.extend(arguments!["--pairs", self.at("pairs.jsonl")]);
        arguments.extend(adapter.map(|dir| arguments!["--adapter", dir]).unwrap_or_default());
        let logp = |line: &Value, key: &str| line[key].as_f64().unwrap();
        let lines = bpo(arguments).succeeds().lines();
        lines.iter().map(|line| logp(line, "chosen_logp") - logp(line, "rejected_logp")).sum()
    }
}

fn near_ln_2(loss: f64) -> bool {
    (loss - std::f64::consts::LN_2).abs() < 1e-4
}

#[test]
fn training_goes_on_from_an_adapter() {
    let setting = Setting::new();
    setting.go_on("second", &[]).succeeds();
    let losses = setting.losses("second");
    assert!(near_ln_2(losses[0]) && losses.last() < losses.first(), "{losses:?}");
    // it is the first adapter that was trained on
    let [base, first, second] = [None, Some("first"), Some("second")]
        .map(|run| setting.margins(run.map(|run| setting.at(run).join("adapter")).as_deref()));
    assert!(second > first && first > base, "{base} {first} {second}");
    // with its settings
    let config = fs::read(setting.at("second/adapter/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&4.into(), &16.0.into()));
    let kept: toml::Table = fs::read_to_string(setting.at("second/config.toml")).unwrap().parse().unwrap();
    assert_eq!(kept["lora"]["r"].as_integer(), Some(4));
    // the same as a reference that is named
    let named = ["--reference-adapter", &setting.adapter()];
    setting.go_on("named", &named).succeeds();
    for (one, other) in losses.iter().zip(setting.losses("named")) {
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
    // dropout is of training, and the first loss is another one then
    fs::write(setting.at("bpo.toml"), "[lora]\nlora_dropout = 0.3\n").unwrap();
    setting.go_on("dropout", &["--config", setting.at("bpo.toml").to_str().unwrap()]).succeeds();
    assert!(!near_ln_2(setting.losses("dropout")[0]));
    // a dry run makes its steps from there
    let dry = setting.go_on("dry", &["--dry-run"]).succeeds();
    assert_eq!(dry.lines()[0]["reference"], dry.lines()[0]["footprint"]["gradients"]);
}

#[test]
fn settings_that_contradict_the_adapter_are_refused() {
    let setting = Setting::new();
    setting.go_on("second", &["--lora-r", "8"]).refuses_naming(&[
        "`lora.r`",
        "--adapter",
        "not 8",
        "the adapter has 4",
    ]);
    setting.go_on("second", &["--lora-alpha", "8"]).refuses_naming(&["`lora.lora_alpha`", "16"]);
    setting.go_on("second", &["--full-finetune"]).refuses_naming(&[
        "`model.adapter`",
        "`full_finetune`",
        "bpo merge",
    ]);
    assert!(!setting.at("second").exists());
    // what agrees does not, and a preset's rank is none that was asked for
    setting.go_on("second", &["--lora-r", "4", "--preset", "paper", "--max-steps", "1"]).succeeds();
    setting.train("third", &["--adapter", "nowhere"]).fails_naming(&["nowhere", "no PEFT adapter"]);
    // what only answers takes the adapter as it is, whatever the settings say of a training
    for text in ["[lora]\nr = 16\n", "[full_finetune]\n"] {
        fs::write(setting.at("bpo.toml"), text).unwrap();
        let files = arguments!["--pairs", setting.at("pairs.jsonl"), "--config", setting.at("bpo.toml")];
        let model =
            arguments!["score", "--model", tiny(), "--images", photos(), "--adapter", setting.adapter()];
        bpo(model.into_iter().chain(files)).succeeds();
    }
    // the result would be written over the adapter
    setting.go_on("first", &[]).refuses_naming(&["model.adapter", "first/adapter", "--out"]);
}

#[test]
fn a_cache_and_a_stopped_training_know_the_adapter() {
    let setting = Setting::new();
    let cache = setting.at("r.safetensors");
    let (cache, adapter) = (cache.to_str().unwrap(), setting.adapter());
    let score = |adapter: &[&str]| {
        let arguments = arguments!["score", "--model", tiny(), "--images", photos(), "--cache", cache];
        let arguments = arguments.into_iter().chain(arguments!["--pairs", setting.at("pairs.jsonl")]);
        bpo(arguments.chain(adapter.iter().map(OsString::from)))
    };
    score(&["--adapter", &adapter]).succeeds();
    let bytes = fs::read(cache).unwrap();
    setting.go_on("plain", &[]).succeeds();
    setting.go_on("cached", &["--reference-cache", cache]).succeeds();
    assert_eq!(fs::read(cache).unwrap(), bytes, "nothing was computed again");
    for (plain, cached) in setting.losses("plain").iter().zip(setting.losses("cached")) {
        assert!((plain - cached).abs() < 1e-4, "{plain} {cached}");
    }
    score(&[]).fails_naming(&["r.safetensors", "`adapter`"]);

    // taken up, the adapter has to be the one that it started from
    fs::remove_dir_all(setting.at("plain/adapter")).unwrap();
    setting.go_on("plain", &[]).succeeds();
    fs::remove_dir_all(setting.at("plain/adapter")).unwrap();
    setting.train("plain", &["--lora-r", "4", "--lora-alpha", "16"]).fails_naming(&["`model.adapter`"]);
    let weights = setting.at("first/adapter/adapter_model.safetensors");
    let mut changed = fs::read(&weights).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&weights, changed).unwrap();
    setting
        .go_on("plain", &[])
        .fails_naming(&["plain was made from other input", "`model.adapter` (--adapter)"]);
    setting
        .go_on("cached", &["--reference-cache", cache])
        .fails_naming(&["cached was made from other input"]);
    setting.go_on("new", &["--reference-cache", cache]).fails_naming(&["r.safetensors", "`adapter`"]);
}

/// The model with the adapter answers about weakened images.
#[test]
fn a_run_goes_on_from_an_adapter() {
    let setting = Setting::new();
    let run = setting.at("run");
    let arguments = || run_arguments(&run).into_iter().chain(arguments!["--adapter", setting.adapter()]);
    bpo(arguments()).succeeds();
    assert!(near_ln_2(setting.losses("run")[0]));
    bpo(arguments()).succeeds().says("nothing left to do");
    let without = setting.at("without");
    bpo(run_arguments(&without)).succeeds();
    bpo(run_arguments(&run)).fails_naming(&["weakened.jsonl", "`model.adapter`"]);
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["inputs"]["models"]["adapter"].is_string(), "{manifest}");
}
