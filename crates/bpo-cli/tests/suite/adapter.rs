//! Adapters: training that continues from one, and adapters that do not fit.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::{
    Outcome, bpo, checkpoint, copy_dir, copy_run, flip_last_bit, losses, margin, photos, run_arguments,
    score, tiny, write_pairs, write_three_pairs,
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
fn training_starts_from_an_adapter() {
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
    // and so does noise
    fs::write(setting.at("bpo.toml"), "[lora]\nlora_noise = 0.05\n").unwrap();
    setting.continue_training("noise", &["--config", setting.at("bpo.toml").to_str().unwrap()]).succeeds();
    assert!(!near_ln_2(setting.losses("noise")[0]));
    // a dry run continues from the adapter as well
    let dry = setting.continue_training("dry", &["--dry-run"]).succeeds();
    assert_eq!(dry.lines()[0]["reference"], dry.lines()[0]["footprint"]["gradients"]);
}

#[test]
fn settings_that_contradict_the_adapter_are_errors() {
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
    setting.train("third", &["--adapter", "nowhere"]).fails_naming(&["nowhere", "not a PEFT adapter"]);
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
fn cache_and_resumed_training_check_the_adapter() {
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
fn run_starts_from_an_adapter() {
    let setting = Setting::new();
    let run = setting.at("run");
    let arguments = || run_arguments(&run).into_iter().chain(arguments!["--adapter", setting.adapter()]);
    bpo(arguments()).succeeds();
    assert!(near_ln_2(setting.losses("run")[0]));
    bpo(arguments()).succeeds().says("nothing left to do");
    bpo(run_arguments(&run)).fails_naming(&["`model.adapter` (--adapter) is not set now"]);
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["stages"]["train"]["inputs"]["adapter"].is_string(), "{manifest}");
}

/// As with PEFT, `adapter_config.json` decides, and a warning names surplus and missing weights of
/// the file.
#[test]
fn extra_or_missing_adapter_weights_cause_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy_run(&at("run"));
    let (adapter, pairs) = (at("run/adapter"), at("run/pairs.jsonl"));
    let config = adapter.join("adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut scored = Vec::new();
    for (targets, said) in [
        ("(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)", None),
        ("(q_proj|k_proj)", Some("does not select")),
        (
            "(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)|.*fc1",
            Some("lacks the adapters of 2 modules"),
        ),
    ] {
        let stated = "(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)";
        assert!(text.contains(stated), "{text}");
        fs::write(&config, text.replace(stated, targets)).unwrap();
        let arguments = arguments![
            "score",
            "--model",
            tiny(),
            "--adapter",
            &adapter,
            "--pairs",
            &pairs,
            "--images",
            photos()
        ];
        let outcome = bpo(arguments).succeeds();
        assert_eq!(outcome.stderr.contains("as with PEFT"), said.is_some(), "{}", outcome.stderr);
        let outcome = outcome.says(said.unwrap_or_default());
        scored.push(outcome.lines()[0]["chosen_logp"].as_f64().unwrap());
    }
    assert!((scored[0] - scored[1]).abs() > 1e-4 && (scored[0] - scored[2]).abs() < 1e-4, "{scored:?}");
}

#[test]
fn mismatched_adapter_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    write_pairs(&pairs, &[("a", "cat.jpg", "What is it?", "A cat.", "A dog.")]);
    let adapter = dir.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    let score = || score(&tiny(), &pairs, arguments!["--adapter", &adapter]);
    score().fails_naming(&["adapter_config.json"]);
    // the directory of a run in place of the adapter in it
    fs::create_dir(adapter.join("adapter")).unwrap();
    fs::write(adapter.join("adapter/adapter_config.json"), "{}").unwrap();
    let inside = adapter.join("adapter");
    score().fails_naming(&["did you mean", inside.to_str().unwrap()]);
    let merged = dir.path().join("merged");
    bpo(arguments!["merge", "--model", tiny(), "--adapter", &adapter, "--out", merged])
        .fails_naming(&["did you mean", inside.to_str().unwrap()]);
    fs::write(adapter.join("adapter_config.json"), "{\"peft_type\": \"LOHA\", \"r\": 4, \"lora_alpha\": 8}")
        .unwrap();
    score().fails_naming(&["adapter_config.json", "LOHA"]);
}

#[test]
fn adapter_of_another_base_or_as_base_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy_run(&at("run"));
    let (adapter, pairs) = (at("run/adapter"), at("run/pairs.jsonl"));
    let score = |model: &Path, adapter: &Path| score(model, &pairs, arguments!["--adapter", adapter]);
    let fits = |model: &Path| {
        let outcome = score(model, &adapter).succeeds();
        assert!(!outcome.stderr.contains("another model"), "{}", outcome.stderr);
    };
    fits(&tiny());
    checkpoint::copy_to(&at("moved"));
    fits(&at("moved"));

    // other weights of the same shapes
    checkpoint::copy_to(&at("another"));
    checkpoint::change_head(&at("another"), |head| head[0] ^= 1);
    let other = ["trained on other weights", "base.json"];
    score(&at("another"), &adapter).fails_naming(&other);
    let (another, merged) = (at("another"), at("merged"));
    bpo(arguments!["merge", "--model", &another, "--adapter", &adapter, "--out", merged])
        .fails_naming(&other);
    // an adapter without base.json, such as PEFT's: another name of the base model is a warning
    fs::remove_file(adapter.join("base.json")).unwrap();
    score(&at("another"), &adapter).succeeds().says("made for another model");
    fits(&tiny());

    // shapes that differ are not taken
    let config = adapter.join("adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"r\": 4", "\"r\": 5")).unwrap();
    let misfit = ["the weights do not fit", "q_proj.lora_A.weight is [4, 32], expected [5, 32]"];
    score(&tiny(), &adapter).fails_naming(&misfit);
    let reference = arguments!["--reference-adapter", &adapter];
    bpo(run_arguments(&at("other")).into_iter().chain(reference)).fails_naming(&misfit);
    fs::write(&config, text).unwrap();

    // an adapter on an adapter
    let nested = ["is an adapter", "bpo merge"];
    bpo(run_arguments(&at("nested")).into_iter().chain(arguments!["--model", &adapter]))
        .fails_naming(&nested);
    bpo(arguments!["merge", "--model", &adapter, "--adapter", &adapter, "--out", at("merged")])
        .fails_naming(&nested);
    fs::copy(&config, at("moved/adapter_config.json")).unwrap();
    score(&at("moved"), &adapter).fails_naming(&nested);
}
