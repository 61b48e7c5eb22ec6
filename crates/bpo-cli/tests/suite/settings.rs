//! Settings and flags that are refused before any work starts, with exit code 2; and the presets.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::common::{
    Outcome, bpo, checkpoint, generate, photos, read_lines, run_arguments, snapshot, tiny, write_samples,
    write_three_pairs,
};

fn train(model: &Path, pairs: &Path, more: Vec<OsString>) -> Outcome {
    let arguments = arguments!["train", "--model", model, "--images", photos(), "--pairs", pairs];
    bpo(arguments.into_iter().chain(more))
}

#[test]
fn all_missing_settings_are_named() {
    let all = ["`model.path` (--model)", "`data.path` (--data)", "`data.images` (--images)", "--out"];
    bpo(["run"]).refuses_naming(&all);
    bpo(["weaken"]).refuses_naming(&all);
    bpo(["inject"]).refuses_naming(&["`data.path` (--data)", "--out"]);
    bpo(["pair"]).refuses_naming(&["`data.path` (--data)", "--answers", "--out"]);
    let train = ["`model.path` (--model)", "`data.images` (--images)", "--pairs", "--out"];
    bpo(["train"]).refuses_naming(&train);
    let dry = bpo(["train", "--dry-run"]).refuses_naming(&train[..3]);
    assert!(!dry.stderr.contains("--out"), "{}", dry.stderr);
    bpo(["score"]).refuses_naming(&["`model.path`", "`data.images`", "--pairs"]);
    bpo(["generate"]).refuses_naming(&["`model.path`", "`data.images`", "--questions"]);
    bpo(["merge"]).refuses_naming(&["`model.path`", "--adapter", "--out"]);
}

#[test]
fn numbers_outside_of_f32_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_three_pairs(&at("pairs.jsonl"), ["A cat.", "A red cup."]);
    let refused = |more: Vec<OsString>, key: &str, found: &str| {
        let more = more.into_iter().chain(arguments!["--out", at("run")]).collect();
        train(&tiny(), &at("pairs.jsonl"), more).refuses_naming(&[key, "f32", found]);
        assert!(!at("run").exists());
    };
    refused(arguments!["--learning-rate", "1e39"], "`train.learning_rate`", "not 1e39");
    refused(arguments!["--lora-alpha", "1e39"], "`lora.lora_alpha`", "not 1000");
    for (text, key) in [
        ("[train]\nadam_epsilon = 1e-50\n", "`train.adam_epsilon`"),
        ("[train]\nweight_decay = 1e308\n", "`train.weight_decay`"),
        ("[weaken]\ntemperature = 1e-50\n", "`weaken.temperature`"),
    ] {
        fs::write(at("bpo.toml"), text).unwrap();
        refused(arguments!["--config", at("bpo.toml")], key, "not ");
    }
}

/// Each setting is finite in f32, but not their product.
#[test]
fn non_finite_training_saves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_three_pairs(&at("pairs.jsonl"), ["A cat.", "A red cup."]);
    fs::write(at("bpo.toml"), "[train]\nweight_decay = 10.0\nwarmup_ratio = 0.0\n").unwrap();
    let more = arguments![
        "--config",
        at("bpo.toml"),
        "--learning-rate",
        "3e38",
        "--lora-r",
        "4",
        "--max-steps",
        "1",
        "--out",
        at("run")
    ];
    train(&tiny(), &at("pairs.jsonl"), more).fails_naming(&["not finite after step 1", "lora"]);
    assert!(!at("run/adapter").exists());
    assert!(fs::read_dir(at("run/checkpoints")).map_or(0, Iterator::count) == 0);
}

#[test]
fn training_input_as_output_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = at("pairs.jsonl");
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    for name in ["w/model", "m/adapter", "own"] {
        checkpoint::copy_to(&at(name));
    }
    fs::write(at("w/config.toml"), "[full_finetune]\n").unwrap();
    fs::create_dir(at("e")).unwrap();
    let line = fs::read_to_string(&file).unwrap();
    fs::write(at("e/eval.jsonl"), line.lines().next().unwrap()).unwrap();
    fs::write(at("e/metrics.jsonl"), "").unwrap();
    let before = snapshot(dir.path());
    let refused = |model: &Path, more: Vec<OsString>, named: &[&str]| {
        train(model, &file, more).refuses_naming(named);
        assert_eq!(snapshot(dir.path()), before);
    };
    let config = at("w/config.toml");
    refused(
        &at("w/model"),
        arguments!["--config", &config, "--out", at("w")],
        &["w/model (model.path)", "(--out)"],
    );
    // `model` and `adapter` are reserved, whichever of the two is trained
    refused(&at("w/model"), arguments!["--out", at("w")], &["model.path", "w/model"]);
    refused(&at("m/adapter"), arguments!["--out", at("m")], &["model.path", "m/adapter"]);
    refused(
        &tiny(),
        arguments!["--eval-pairs", at("e/eval.jsonl"), "--out", at("e")],
        &["data.eval_pairs", "e/eval.jsonl"],
    );
    refused(
        &tiny(),
        arguments!["--reference-cache", &file, "--out", at("run")],
        &["--pairs", "reference.cache", "pairs.jsonl"],
    );
    refused(
        &tiny(),
        arguments!["--reference-cache", at("e/metrics.jsonl"), "--out", at("e")],
        &["reference.cache", "e/metrics.jsonl"],
    );
    refused(
        &at("own"),
        arguments!["--reference-cache", at("own/r.safetensors"), "--out", at("run")],
        &["model.path", "own/r.safetensors"],
    );
}

#[test]
fn input_of_other_commands_as_output_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_samples(&at("data.json"), &[("a", "cat.jpg", "What is it?", "A cat.")]);
    write_three_pairs(&at("pairs.jsonl"), ["A cat.", "A red cup."]);
    fs::create_dir(at("run")).unwrap();
    fs::copy(at("data.json"), at("run/pairs.jsonl")).unwrap();
    checkpoint::copy_to(&at("model"));
    fs::copy(photos().join("cat.jpg"), at("cat.png")).unwrap();
    let before = snapshot(dir.path());
    let refused = |arguments: Vec<OsString>, named: &[&str]| {
        bpo(arguments).refuses_naming(named);
        assert_eq!(snapshot(dir.path()), before);
    };
    let data = at("data.json");
    let model = arguments!["--model", tiny(), "--images", photos()];
    let with = |command: &str, more: Vec<OsString>| [arguments![command], model.clone(), more].concat();
    let named = ["data.path", "--out"];
    refused(with("weaken", arguments!["--data", &data, "--out", &data]), &named);
    refused(arguments!["inject", "--data", &data, "--out", &data], &named);
    refused(arguments!["pair", "--data", &data, "--answers", &data, "--out", &data], &named);
    refused(with("run", arguments!["--data", at("run/pairs.jsonl"), "--out", at("run")]), &named);
    let file = at("pairs.jsonl");
    refused(with("score", arguments!["--pairs", &file, "--cache", &file]), &["--pairs", "--cache"]);
    let (merged, adapter) = (at("model"), at("model"));
    refused(
        arguments!["merge", "--model", tiny(), "--adapter", &adapter, "--out", merged.join("merged")],
        &["--adapter", "--out"],
    );
    let image = at("cat.png");
    refused(arguments!["distort", &image, "--distortion", "blur:sigma=2", "--out", &image], &["IN", "--out"]);
    refused(arguments!["distort", &image, "--sheet", &image], &["IN", "--sheet"]);
}

#[test]
fn preset_equals_the_authors_settings() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    // --lora-r 4, --lora-alpha 16, --epochs 3 and --lr 2e-3 are flags here
    bpo(run_arguments(&run).into_iter().chain(arguments!["--preset", "paper"])).succeeds();
    let config: toml::Table = fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(config["preset"].as_str(), Some("paper"));
    let lora = &config["lora"];
    assert_eq!((lora["r"].as_integer(), lora["lora_dropout"].as_float()), (Some(4), Some(0.05)));
    assert_eq!(config["filter"]["whole_sample"].as_bool(), Some(true));
    assert_eq!(config["train"]["learning_rate"].as_float(), Some(2e-3));
    // dropout does not change the first loss of a new adapter
    let first = read_lines(run.join("metrics.jsonl"))[0]["loss"].as_f64().unwrap();
    assert!((first - std::f64::consts::LN_2).abs() < 1e-4);
    let again = arguments!["run", "--config", run.join("config.toml"), "--out", &run];
    bpo(again).succeeds().says("nothing left to do");
    let plain = bpo(arguments!["run", "--preset", "authors"]);
    assert_eq!(plain.code, Some(2));
    plain.says("`script`, `paper`, `seva`");
}

/// The warning about a file that has all settings is one short line.
#[test]
fn overridden_preset_is_warned_of_in_a_short_line() {
    let dir = tempfile::tempdir().unwrap();
    let (run, config) = (dir.path().join("run"), dir.path().join("bpo.toml"));
    let text = "[weaken]\ntemperature = 0.5\nmax_new_tokens = 3\n[filter]\nmax_words = 9\n[lora]\nr = 2\n\
        target_modules = { regex = '.*language_model.*q_proj' }\nlora_alpha = 3.0\n[train]\nbeta = 0.2\nmax_steps = 1\n";
    let warning = |text: &str| {
        fs::write(&config, text).unwrap();
        let files =
            arguments!["--config", &config, "--preset", "script", "--model", "no-model", "--out", &run];
        let data = arguments!["run", "--images", photos(), "--data", photos().join("llava.json")];
        let stderr = bpo(data.into_iter().chain(files)).stderr;
        let line = stderr.lines().find(|line| line.contains("preset script")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{stderr}"))
    };
    assert_eq!(
        warning(text),
        "warning: the settings file overrides 7 settings of the preset script: filter.max_words, \
         lora.lora_alpha, lora.r, lora.target_modules, train.beta and 2 more"
    );
    assert_eq!(
        warning("[lora]\nr = 2\n"),
        "warning: the settings file overrides 1 setting of the preset script: lora.r"
    );
}

/// The limit counts words. With the authors' preset it drops the whole sample.
#[test]
fn long_answer_removes_its_pair_or_sample() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_samples(&at("data.json"), &[("a", "cat.jpg", "What is it?", "A cat.")]);
    let answer = |text: &str, variant: usize| {
        serde_json::json!({"id": "a", "variant": variant, "type": "mllm-hal", "response": text}).to_string()
    };
    let long = "A dog ".repeat(200);
    fs::write(at("answers.jsonl"), [answer("A dog.", 0), answer(&long, 1)].join("\n") + "\n").unwrap();
    let pair = |out: &str, more: Vec<OsString>| {
        let arguments =
            arguments!["pair", "--data", at("data.json"), "--answers", at("answers.jsonl"), "--out", at(out)];
        bpo(arguments.into_iter().chain(more))
    };
    pair("default.jsonl", vec![]).succeeds().says("answer too long");
    assert_eq!(read_lines(at("default.jsonl")).len(), 1);
    let none = pair("script.jsonl", arguments!["--preset", "script"]);
    none.fails_naming(&["no pair is left", "answer too long: 1"]).says("skipped: a: answer too long");
}

fn with_config(text: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bpo.toml");
    fs::write(&config, text).unwrap();
    bpo(run_arguments(&dir.path().join("run")).into_iter().chain(arguments!["--config", config]))
}

#[test]
fn unknown_key_error_suggests_the_nearest_key() {
    with_config("[train]\nlerning_rate = 1e-3\n").refuses_naming(&[
        "bpo.toml",
        "line 2, column 1",
        "`lerning_rate`",
        "did you mean `learning_rate`?",
    ]);
    with_config("[weaken]\nmax_tokens = 1\n").refuses_naming(&["`max_tokens`", "`max_new_tokens`"]);
}

/// All unknown keys of a file are named at once, each with its place.
#[test]
fn unknown_keys_are_named_together() {
    let text = "seeds = 1\n[train]\nlerning_rate = 1e-3\nepoch = 1\n[weaken]\nmax_tokens = 1\n[inject.lm]\ntop_p = 1\n";
    with_config(text).refuses_naming(&[
        "line 1, column 1: unknown key `seeds`: did you mean `seed`?",
        "line 3, column 1: unknown key `lerning_rate`: did you mean `learning_rate`?",
        "line 4, column 1: unknown key `epoch`: did you mean `epochs`?",
        "line 6, column 1: unknown key `max_tokens`: did you mean `max_new_tokens`?",
        "line 7, column 9: unknown key `lm`: did you mean `llm`?",
    ]);
    // a wrong value among them is found after the keys
    with_config("seeds = 1\n[train]\nbeta = \"big\"\n").refuses_naming(&["`seeds`"]);
    let many: String = (0..1000).map(|number| format!("key_{number} = 1\n")).collect();
    let outcome = with_config(&many).refuses_naming(&["`key_0`", "more unknown keys"]);
    assert!(outcome.stderr.len() < 20_000, "{}", outcome.stderr.len());
}

#[test]
fn invalid_settings_are_named() {
    with_config("[train]\nbeta = \"big\"\n").refuses_naming(&["bpo.toml", "line 2"]);
    with_config("[weaken]\nbatch_size = 0\n").refuses_naming(&["`weaken.batch_size`", "at least 1"]);
    with_config("[train]\nbatch_size = 0\n").refuses_naming(&["`train.batch_size`", "at least 1"]);
    for (flag, key) in [("--learning-rate", "`train.learning_rate`"), ("--beta", "`train.beta`")] {
        let out = run_arguments("never".as_ref());
        bpo(out.into_iter().chain(arguments![flag, "-1"])).refuses_naming(&[key, "not -1"]);
    }
    with_config("[train\n").refuses_naming(&["bpo.toml", "line 1"]);
    bpo(arguments!["run", "--config", "/no/such/bpo.toml", "--out", "x"])
        .fails_naming(&["/no/such/bpo.toml"]);
    bpo(arguments!["run", "--out", "x"]).refuses_naming(&["`data.images`", "--images"]);
}

/// Messages name the expected value, not the parser's failure.
#[test]
fn unparsable_values_are_named() {
    for (flag, value, expected) in [
        ("--learning-rate", "fast", "expected a number"),
        ("--lora-r", "many", "expected a whole number, at least 0"),
        ("--preset", "authors", "`script`, `paper`, `seva`"),
    ] {
        let outcome = bpo(run_arguments("never".as_ref()).into_iter().chain(arguments![flag, value]));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        outcome.says(flag).says(expected);
    }
    with_config("[train]\nschedule = \"cosin\"\n")
        .refuses_naming(&["`train.schedule`", "did you mean `cosine`?"]);
    with_config("[inject.server]\nmodel = \"m\"\n").refuses_naming(&["missing key `base_url`"]);
    let train = "[train]\nlr_groups = [{ path = \"nothing\", learning_rate = 1e-3 }]\n";
    with_config(train).fails_naming(&["[train]: ", "`nothing`"]);
}

/// Commands offer only flags that change what they do.
#[test]
fn commands_have_no_flags_without_effect() {
    for (command, flag) in [
        ("score", "--seed"),
        ("score", "--preset"),
        ("generate", "--preset"),
        ("merge", "--seed"),
        ("merge", "--preset"),
    ] {
        let help = bpo(["help", command]).succeeds().stdout;
        assert!(!help.contains(flag), "bpo {command} offers {flag}");
    }
}

#[test]
fn invalid_sampling_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    fs::write(&questions, "{\"image\": \"cat.jpg\", \"prompt\": \"What is it?\"}\n").unwrap();
    for (flag, value, key) in [("--top-p", "2", "`--top-p`"), ("--temperature", "-1", "`--temperature`")] {
        generate(&questions, arguments![flag, value]).refuses_naming(&[key, value]);
    }
}
