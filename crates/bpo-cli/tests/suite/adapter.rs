//! Training that continues from an adapter.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::{
    Outcome, bpo, copy_dir, flip_last_bit, losses, margin, photos, run_arguments, score, tiny,
    write_three_pairs,
};
use serde_json::Value;

struct Setting {
    dir: tempfile::TempDir,
}

impl Setting {
    /// A directory with pairs and a first training, `first/adapter`.
    fn new() -> Self {
        let setting = Self { dir: tempfile::tempdir().unwrap() };
        write_three_pairs(&setting.at("pairs.jsonl"), ["A cat.", "A red cup."]);
        // made once for all tests
        static FIRST: OnceLock<PathBuf> = OnceLock::new();
        let first = FIRST.get_or_init(|| {
            let first = Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-training");
            if first.exists() {
                fs::remove_dir_all(&first).unwrap();
            }
            setting.train(first.to_str().unwrap(), &["--lora-r", "4", "--lora-alpha", "16"]).succeeds();
            first
        });
        copy_dir(first, &setting.at("first"));
        setting
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn adapter(&self) -> String {
        self.at("first/adapter").to_str().unwrap().to_owned()
    }

    fn train(&self, out: &str, more: &[&str]) -> Outcome {
        let arguments =
            arguments!["train", "--model", tiny(), "--images", photos(), "--learning-rate", "2e-3"];
        let files = arguments!["--pairs", self.at("pairs.jsonl"), "--out", self.at(out), "--batch-size", "2"];
        bpo(arguments.into_iter().chain(files).chain(more.iter().map(OsString::from)))
    }

    fn continue_training(&self, out: &str, more: &[&str]) -> Outcome {
        self.train(out, &[&["--adapter", &self.adapter()], more].concat())
    }

    fn losses(&self, out: &str) -> Vec<f64> {
        losses(&self.at(out))
    }

    fn margin(&self, adapter: Option<&Path>) -> f64 {
        let more = adapter.map(|dir| arguments!["--adapter", dir]).unwrap_or_default();
        margin(&score(&tiny(), &self.at("pairs.jsonl"), more).succeeds().lines())
    }
}

fn near_ln_2(loss: f64) -> bool {
    (loss - std::f64::consts::LN_2).abs() < 1e-4
}

#[test]
fn training_continues_from_an_adapter() {
    let setting = Setting::new();
    setting.continue_training("second", &[]).succeeds();
    let losses = setting.losses("second");
    assert!(near_ln_2(losses[0]) && losses.last() < losses.first(), "{losses:?}");
    // the first adapter was trained further
    let [base, first, second] = [None, Some("first"), Some("second")]
        .map(|run| setting.margin(run.map(|run| setting.at(run).join("adapter")).as_deref()));
    assert!(second > first && first > base, "{base} {first} {second}");
    // with the settings of the first adapter
    let config = fs::read(setting.at("second/adapter/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&4.into(), &16.0.into()));
    let kept: toml::Table = fs::read_to_string(setting.at("second/config.toml")).unwrap().parse().unwrap();
    assert_eq!(kept["lora"]["r"].as_integer(), Some(4));
    // naming the reference gives the same losses
    let named = ["--reference-adapter", &setting.adapter()];
    setting.continue_training("named", &named).succeeds();
    for (one, other) in losses.iter().zip(setting.losses("named")) {
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
    // dropout of the new training changes the first loss
    fs::write(setting.at("bpo.toml"), "[lora]\nlora_dropout = 0.3\n").unwrap();
    setting.continue_training("dropout", &["--config", setting.at("bpo.toml").to_str().unwrap()]).succeeds();
    assert!(!near_ln_2(setting.losses("dropout")[0]));
    // a dry run continues from the adapter as well
    let dry = setting.continue_training("dry", &["--dry-run"]).succeeds();
    assert_eq!(dry.lines()[0]["reference"], dry.lines()[0]["footprint"]["gradients"]);
}

#[test]
fn settings_that_contradict_the_adapter_are_refused() {
    let setting = Setting::new();
    setting.continue_training("second", &["--lora-r", "8"]).refuses_naming(&[
        "`lora.r`",
        "--adapter",
        "not 8",
        "the adapter has 4",
    ]);
    setting.continue_training("second", &["--lora-alpha", "8"]).refuses_naming(&["`lora.lora_alpha`", "16"]);
    setting.continue_training("second", &["--full-finetune"]).refuses_naming(&[
        "`model.adapter`",
        "`full_finetune`",
        "bpo merge",
    ]);
    assert!(!setting.at("second").exists());
    // equal settings are accepted, and a preset's rank does not count as a setting
    setting
        .continue_training("second", &["--lora-r", "4", "--preset", "paper", "--max-steps", "1"])
        .succeeds();
    setting.train("third", &["--adapter", "nowhere"]).fails_naming(&["nowhere", "no PEFT adapter"]);
    // `score` ignores settings of training
    for text in ["[lora]\nr = 16\n", "[full_finetune]\n"] {
        fs::write(setting.at("bpo.toml"), text).unwrap();
        let more = arguments!["--adapter", setting.adapter(), "--config", setting.at("bpo.toml")];
        score(&tiny(), &setting.at("pairs.jsonl"), more).succeeds();
    }
    // the result would be written over the adapter
    setting.continue_training("first", &[]).refuses_naming(&["model.adapter", "first/adapter", "--out"]);
}

#[test]
fn a_cache_and_a_resumed_training_check_the_adapter() {
    let setting = Setting::new();
    let cache = setting.at("r.safetensors");
    let (cache, adapter) = (cache.to_str().unwrap(), setting.adapter());
    let score = |adapter: &[&str]| {
        let more = arguments!["--cache", cache].into_iter().chain(adapter.iter().map(OsString::from));
        score(&tiny(), &setting.at("pairs.jsonl"), more.collect())
    };
    score(&["--adapter", &adapter]).succeeds();
    let bytes = fs::read(cache).unwrap();
    setting.continue_training("plain", &[]).succeeds();
    setting.continue_training("cached", &["--reference-cache", cache]).succeeds();
    assert_eq!(fs::read(cache).unwrap(), bytes, "nothing was computed again");
    for (plain, cached) in setting.losses("plain").iter().zip(setting.losses("cached")) {
        assert!((plain - cached).abs() < 1e-4, "{plain} {cached}");
    }
    score(&[]).fails_naming(&["r.safetensors", "`adapter`"]);

    // resumed training needs the adapter that it started from
    fs::remove_dir_all(setting.at("plain/adapter")).unwrap();
    setting.continue_training("plain", &[]).succeeds();
    fs::remove_dir_all(setting.at("plain/adapter")).unwrap();
    setting.train("plain", &["--lora-r", "4", "--lora-alpha", "16"]).fails_naming(&["`model.adapter`"]);
    let weights = setting.at("first/adapter/adapter_model.safetensors");
    flip_last_bit(&weights);
    setting
        .continue_training("plain", &[])
        .fails_naming(&["plain was made from other input", "`model.adapter` (--adapter)"]);
    setting
        .continue_training("cached", &["--reference-cache", cache])
        .fails_naming(&["cached was made from other input"]);
    setting
        .continue_training("new", &["--reference-cache", cache])
        .fails_naming(&["r.safetensors", "`adapter`"]);
}

/// The model with the adapter answers about weakened images.
#[test]
fn a_run_continues_from_an_adapter() {
    let setting = Setting::new();
    let run = setting.at("run");
    let arguments = || run_arguments(&run).into_iter().chain(arguments!["--adapter", setting.adapter()]);
    bpo(arguments()).succeeds();
    assert!(near_ln_2(setting.losses("run")[0]));
    bpo(arguments()).succeeds().says("nothing left to do");
    bpo(run_arguments(&run)).fails_naming(&["weakened.jsonl", "`model.adapter`"]);
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["inputs"]["models"]["adapter"].is_string(), "{manifest}");
}
