//! `bpo run` from end to end.
#![cfg(feature = "flex")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use common::{bpo, checkpoint, photos, read_lines, run_arguments, tiny};
use serde_json::Value;

#[test]
fn a_run_trains_an_adapter_and_a_second_one_has_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let first = bpo(run_arguments(&run)).succeeds();
    assert_eq!(first.stdout, "");
    let first = first.says("data: 7 samples, 1 skipped (no image: 1)").says("adapter: ");

    // loss at step 0 is ln 2, the margin rises
    let metrics = read_lines(run.join("metrics.jsonl"));
    let figure = |line: &Value, key: &str| line[key].as_f64().unwrap();
    assert!((figure(&metrics[0], "loss") - std::f64::consts::LN_2).abs() < 1e-4);
    assert!(figure(&metrics[0], "rewards/margins").abs() < 1e-4);
    let last = metrics.last().unwrap();
    assert!(figure(last, "rewards/margins") > 0.05, "{last}");
    assert!(figure(last, "loss") < figure(&metrics[0], "loss"));
    let figures = |line: &Value| (figure(line, "loss"), figure(line, "rewards/margins"));
    println!("first {:?}, last {:?}", figures(&metrics[0]), figures(last));

    // the files of the design
    for name in ["config.toml", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"] {
        assert!(run.join(name).exists(), "{name}");
    }
    let pairs = read_lines(run.join("pairs.jsonl"));
    assert!(!pairs.is_empty());
    for pair in &pairs {
        for key in ["id", "image", "prompt", "chosen", "rejected", "kind"] {
            assert!(pair[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {pair}");
        }
    }
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["stages"]["data"]["skipped"]["no-image"], 1);
    assert_eq!(manifest["stages"]["train"]["done"], pairs.len());
    let skipped = read_lines(run.join("skipped.jsonl"));
    assert_eq!((&skipped[0]["id"], &skipped[0]["reason"]), (&"text-0".into(), &"no-image".into()));

    let before = snapshot(&run);
    bpo(run_arguments(&run)).succeeds().says("nothing left to do").says("no image: 1");
    assert_eq!(snapshot(&run), before);
    drop(first);
}

/// Pairs that are not trained on, other losses, weights and figures: from the settings to the files.
#[test]
fn a_run_is_evaluated_and_keeps_its_best() {
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = (dir.path().join("bpo.toml"), dir.path().join("run"));
    let settings = r#"
        [train]
        epochs = 3
        eval_fraction = 0.3
        eval_every = 2
        keep_best = "margins"
        weighting = "wpo"
        ld_alpha = 0.5
        kind_weights = { mllm-hal = 1.0, llm-hal = 0.5 }
        divergence = { type = "alpha_divergence", alpha = 0.7 }
        loss = { type = "sum", terms = [
            { weight = 1.0, loss = { type = "hinge" } },
            { weight = 0.1, loss = { type = "sft" } },
        ] }
    "#;
    fs::write(&config, settings).unwrap();
    let arguments = run_arguments(&run).into_iter().chain(arguments!["--config", &config]);
    let told = bpo(arguments.collect::<Vec<_>>()).succeeds();
    told.says("evaluation after step 2: loss");
    let evaluations = read_lines(run.join("eval.jsonl"));
    assert!(evaluations.len() > 1 && evaluations.iter().all(|line| line["eval_loss"].is_f64()));
    let steps = read_lines(run.join("metrics.jsonl"));
    let pairs = read_lines(run.join("pairs.jsonl")).len() as u64;
    assert!(evaluations[0]["eval_pairs"].as_u64().unwrap() < pairs);
    for name in ["entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy", "lengths/chosen"] {
        assert!(steps.iter().all(|step| step[name].is_f64()), "{name}");
    }
    assert!(run.join("adapter/adapter_model.safetensors").is_file());
    assert!(fs::read(run.join("report/curves.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_run_in_full_makes_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let all = run_arguments(&run);
    let [run_command, flags @ ..] = all.as_slice() else { panic!("no arguments") };
    // those of the adapter have no meaning here
    let of_lora = |flag: &&[std::ffi::OsString]| flag[0].to_string_lossy().starts_with("--lora");
    let flags = flags.chunks(2).filter(|flag| !of_lora(flag)).flatten();
    let full = |more: &[&str]| {
        let more = more.iter().map(Into::into);
        bpo([run_command].into_iter().chain(flags.clone()).cloned().chain(more))
    };
    full(&["--full-finetune"]).succeeds().says("model: ");
    assert!(run.join("model/tokenizer.json").exists() && !run.join("adapter").exists());
    full(&["--full-finetune"]).succeeds().says("nothing left to do").says("model: ");
    full(&[]).fails_naming(&["`full_finetune.projector` was true and is now not set"]);

    // what it makes is a model like any
    let score = |model: &Path| {
        let pairs = run.join("pairs.jsonl");
        bpo(arguments!["score", "--model", model, "--pairs", pairs, "--images", photos()]).succeeds().lines()
    };
    let margin = |lines: &[Value]| -> f64 {
        let logp = |line: &Value, key: &str| line[key].as_f64().unwrap();
        lines.iter().map(|line| logp(line, "chosen_logp") - logp(line, "rejected_logp")).sum()
    };
    assert!(margin(&score(&run.join("model"))) > margin(&score(&tiny())) + 1.0);
}

/// What is dropped follows from the seed.
#[test]
fn a_run_with_dropout_gives_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = (dir.path().join("bpo.toml"), dir.path().join("run"));
    fs::write(&config, "[lora]\nlora_dropout = 0.2\n").unwrap();
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", &config])).succeeds();
    let adapter = snapshot(&run.join("adapter"));
    let file = fs::read(run.join("adapter/adapter_config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&file).unwrap()["lora_dropout"], 0.2);
    let first = &read_lines(run.join("metrics.jsonl"))[0];
    assert!((first["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-4);

    let train = |config: &Path, out: &Path| {
        let more = arguments!["--config", config, "--epochs", "3", "--lora-alpha", "16"];
        bpo(train_arguments(&run.join("pairs.jsonl"), out).into_iter().chain(more)).succeeds();
        snapshot(&out.join("adapter")).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    let again = train(&config, &dir.path().join("again"));
    assert!(again == adapter.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>());
    let none = dir.path().join("none.toml");
    fs::write(&none, "").unwrap();
    assert!(train(&none, &dir.path().join("none")) != again);
}

#[test]
fn other_settings_for_what_was_made_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    bpo(run_arguments(&run)).succeeds();
    let before = snapshot(&run);
    let with = |more: &[&str]| {
        let more = more.iter().map(Into::into);
        bpo(run_arguments(&run).into_iter().chain(more))
    };
    with(&["--noise-step", "500"]).fails_naming(&["weakened.jsonl", "`weaken.distortion`", "another --out"]);
    with(&["--beta", "0.3"]).fails_naming(&["metrics.jsonl", "`train.beta` was 0.1 and is now 0.3"]);
    with(&["--seed", "1"]).fails_naming(&["`seed` was 42 and is now 1"]);
    assert_eq!(snapshot(&run), before);
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    with(&["--beta", "0.3"]).fails_naming(&["metrics.jsonl is missing", "checkpoints", "adapter"]);
}

/// From the settings to pairs: other images, features, several answers, contrast and a beginning.
#[test]
fn answers_are_made_in_several_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = (dir.path().join("bpo.toml"), dir.path().join("run"));
    let settings = r#"
        [weaken]
        distortion = ["swap", "feature-noise:sigma=1..2+mask-tokens:share=0.9", "no-image"]
        samples = 2
        begun = 0.5
        temperature = 1.0
        contrast = { mode = "amplify_prior", alpha = 0.5 }
        "#;
    fs::write(&config, settings).unwrap();
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", &config]))
        .succeeds()
        .says("weaken: 42 answers");
    let answers = read_lines(run.join("weakened.jsonl"));
    let annotated: std::collections::HashMap<String, String> = read_lines(run.join("pairs.jsonl"))
        .iter()
        .map(|pair| {
            (
                pair["id"].as_str().unwrap().split(':').next().unwrap().into(),
                pair["chosen"].as_str().unwrap().into(),
            )
        })
        .collect();
    for (place, answer) in answers.iter().enumerate() {
        assert_eq!(answer["variant"].as_u64().unwrap_or(0), place as u64 % 6, "{answer}");
        let provenance = &answer["provenance"];
        assert_eq!(provenance["variant"], answer["variant"]);
        assert_eq!(
            provenance["contrast"],
            serde_json::json!({"mode": "amplify_prior", "alpha": 0.5, "plausibility": 0.1})
        );
        let distortion = provenance["distortion"].as_str().unwrap();
        match place % 6 / 2 {
            0 => assert!(distortion == "swap" && provenance["other"].is_string(), "{answer}"),
            1 => assert!(
                distortion.starts_with("feature-noise:sigma=1.") && !distortion.contains(".."),
                "{answer}"
            ),
            _ => assert_eq!(distortion, "no-image"),
        }
        let begun = provenance["prefix_words"].as_u64().unwrap_or(0) as usize;
        let first = |text: &str| text.split_whitespace().take(begun).map(str::to_owned).collect::<Vec<_>>();
        let text = &annotated[answer["id"].as_str().unwrap()];
        assert_eq!(begun, text.split_whitespace().count() / 2);
        // the last word may go on
        let (found, expected) = (first(answer["response"].as_str().unwrap()), first(text));
        assert!(found.join(" ").starts_with(&expected.join(" ")), "{answer} {text}");
    }
    // pairs say it, too, on disk
    let is_weakened = |pair: &&Value| pair["kind"] == "mllm-hal";
    let pairs = read_lines(run.join("pairs.jsonl"));
    assert!(pairs.iter().any(|pair| is_weakened(&pair)));
    for pair in pairs.iter().filter(is_weakened) {
        let id = pair["id"].as_str().unwrap().split(':').next();
        let is_its =
            |answer: &&Value| answer["id"].as_str() == id && answer["provenance"] == pair["provenance"];
        let answer = answers.iter().find(is_its).unwrap_or_else(|| panic!("made of no answer: {pair}"));
        assert_eq!(answer["response"], pair["rejected"]);
    }
    // a run that goes on, and one with the settings from flags
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", &config]))
        .succeeds()
        .says("nothing left to do");
    let other = dir.path().join("other");
    let flags = arguments!["--distortion", "blur:sigma=9", "--distortion", "swap", "--samples", "2"];
    bpo(run_arguments(&other).into_iter().chain(flags)).succeeds().says("weaken: 28 answers");
}

#[test]
fn a_run_in_half_precision_ends() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let with = |tolerance: &str| {
        let config = dir.path().join("bpo.toml");
        fs::write(&config, tolerance).unwrap();
        bpo(run_arguments(&run).into_iter().chain(arguments!["--dtype", "bf16", "--config", config]))
    };
    with("[train]\nstep_zero_tolerance = 0.0\n")
        .fails_naming(&["`train.initial_tolerance`", "before the first step"]);
    with("").succeeds();
    assert!(run.join("adapter/adapter_config.json").exists());
}

#[test]
fn a_stage_on_its_own_holds_its_file_to_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = photos().join("llava.json");
    let weaken = |more: &[&str]| {
        let arguments = arguments![
            "weaken",
            "--model",
            tiny(),
            "--images",
            photos(),
            "--data",
            &data,
            "--out",
            at("weakened.jsonl"),
        ];
        bpo(arguments.into_iter().chain(more.iter().map(Into::into)))
    };
    weaken(&["--max-new-tokens", "4"]).succeeds();
    let whole = fs::read_to_string(at("weakened.jsonl")).unwrap();
    let half: String = whole.split_inclusive('\n').take(3).collect();
    fs::write(at("weakened.jsonl"), &half).unwrap();
    weaken(&["--max-new-tokens", "6"]).fails_naming(&[
        "weakened.jsonl was made with other settings",
        "`weaken.max_new_tokens` was 4 and is now 6",
    ]);
    assert_eq!(fs::read_to_string(at("weakened.jsonl")).unwrap(), half);
    weaken(&["--max-new-tokens", "4"]).succeeds().says("weaken: 3 of 7 were there already");
    assert_eq!(fs::read_to_string(at("weakened.jsonl")).unwrap(), whole);

    let inject =
        |seed| bpo(arguments!["inject", "--data", &data, "--out", at("injected.jsonl"), "--seed", seed]);
    inject("1").succeeds();
    inject("2").fails_naming(&["injected.jsonl", "`seed` was 1 and is now 2"]);
    fs::remove_file(at("injected.jsonl.settings.toml")).unwrap();
    inject("1").fails_naming(&["injected.jsonl.settings.toml"]);

    let pair = |answers: &str| {
        bpo(arguments!["pair", "--data", &data, "--answers", at(answers), "--out", at("pairs.jsonl")])
    };
    pair("weakened.jsonl").succeeds();
    pair("weakened.jsonl").succeeds();
    let pairs = fs::read(at("pairs.jsonl")).unwrap();
    pair("injected.jsonl").fails_naming(&["pairs.jsonl exists and differs"]);
    assert_eq!(fs::read(at("pairs.jsonl")).unwrap(), pairs);
}

#[test]
fn training_on_its_own_holds_its_directory_to_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = at("run");
    bpo(run_arguments(&run)).succeeds();
    let train = |out: &Path, more: &[&str]| {
        let arguments = train_arguments(&run.join("pairs.jsonl"), out).into_iter();
        bpo(arguments.chain(arguments!["--max-steps", "3"]).chain(more.iter().map(Into::into)))
    };
    let out = at("trained");
    train(&out, &["--lora-alpha", "16"]).succeeds();
    let adapter = snapshot(&out.join("adapter"));
    fs::remove_dir_all(out.join("adapter")).unwrap();
    for (flags, named) in [
        (["--lora-alpha", "800"], "`lora.lora_alpha` was 16.0 and is now 800.0"),
        (["--dtype", "bf16"], "`model.dtype`"),
        (["--images", "."], "`data.images`"),
    ] {
        // a flag given again counts
        let flags = [&["--lora-alpha", "16"], &flags[..]].concat();
        train(&out, &flags).fails_naming(&[named]);
        assert!(!out.join("adapter").exists());
    }
    train(&out, &["--lora-alpha", "16"]).succeeds();
    assert_eq!(snapshot(&out.join("adapter")), adapter);

    // another model at the same place is not gone on with
    let other = at("model");
    checkpoint::copy_to(&other);
    let elsewhere = |out: &Path| train(out, &["--lora-alpha", "16", "--model", other.to_str().unwrap()]);
    elsewhere(&at("moved")).succeeds();
    fs::remove_dir_all(at("moved/adapter")).unwrap();
    let weights = fs::read(other.join("model.safetensors")).unwrap();
    let mut changed = weights.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(other.join("model.safetensors"), &changed).unwrap();
    elsewhere(&at("moved")).fails_naming(&["moved was made from other input", "`model.path`"]);
    fs::write(other.join("model.safetensors"), weights).unwrap();
    elsewhere(&at("moved")).succeeds();

    // a run's directory belongs to the run's settings
    let before = snapshot(&run);
    train(&run, &["--lora-alpha", "999"]).fails_naming(&["`lora.lora_alpha`"]);
    assert_eq!(snapshot(&run), before);
    fs::remove_file(out.join("config.toml")).unwrap();
    train(&out, &["--lora-alpha", "16"]).fails_naming(&["config.toml"]);
}

/// Whatever it holds, a file that has no settings beside it is not ours to repair.
#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("mine.jsonl");
    for text in ["{\"id\":", "notes", "{\"id\":\"a\"}\n"] {
        fs::write(&out, text).unwrap();
        let data = photos().join("llava.json");
        bpo(arguments!["inject", "--data", data, "--out", &out]).fails_naming(&["mine.jsonl"]);
        assert_eq!(fs::read_to_string(&out).unwrap(), text);
    }
}

#[test]
fn a_config_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["seed = 7\n# mine\n", "not toml at all"] {
        let out = dir.path().join("out");
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("config.toml"), text).unwrap();
        bpo(run_arguments(&out)).fails_naming(&["config.toml"]);
        assert_eq!(fs::read_to_string(out.join("config.toml")).unwrap(), text);
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn the_stages_one_by_one_give_the_files_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    bpo(run_arguments(&run)).succeeds();

    let at = |name: &str| dir.path().join(name);
    let data = photos().join("llava.json");
    let model = ["--model".into(), tiny().into_os_string(), "--images".into(), photos().into_os_string()];
    let weaken =
        arguments!["weaken", "--data", &data, "--max-new-tokens", "6", "--out", at("weakened.jsonl")];
    bpo(weaken.into_iter().chain(model)).succeeds().says("weaken: 7 answers");
    bpo(arguments!["inject", "--data", &data, "--out", at("injected.jsonl")]).succeeds();
    bpo(arguments![
        "pair",
        "--data",
        &data,
        "--answers",
        at("weakened.jsonl"),
        "--answers",
        at("injected.jsonl"),
        "--out",
        at("pairs.jsonl"),
    ])
    .succeeds();
    let train = train_arguments(&at("pairs.jsonl"), &at("trained")).into_iter();
    let more = arguments!["--lora-alpha", "16", "--epochs", "3"];
    bpo(train.chain(more)).succeeds().says("adapter: ");

    for name in ["weakened.jsonl", "injected.jsonl", "pairs.jsonl"] {
        assert_eq!(fs::read(at(name)).unwrap(), fs::read(run.join(name)).unwrap(), "{name}");
    }
    let weights = "adapter/adapter_model.safetensors";
    assert_eq!(fs::read(at("trained").join(weights)).unwrap(), fs::read(run.join(weights)).unwrap());
}

/// `bpo train` on pairs of the photographs, but for how long.
fn train_arguments(pairs: &Path, out: &Path) -> Vec<OsString> {
    let files = arguments!["--model", tiny(), "--images", photos(), "--pairs", pairs, "--out", out];
    arguments!["train", "--lr", "2e-3", "--lora-r", "4"].into_iter().chain(files).collect()
}

/// All files below a directory, with what is in them.
fn snapshot(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(snapshot(&path)),
            false => files.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}
