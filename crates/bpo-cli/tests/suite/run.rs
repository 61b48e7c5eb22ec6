//! `bpo run` from end to end.

use std::f64::consts::LN_2;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::common::{
    bpo, copy_run, losses, margin, read_lines, run_arguments, score, snapshot, tiny, train_arguments,
};
use serde_json::Value;

#[test]
fn second_run_in_a_finished_directory_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let first = bpo(run_arguments(&run)).succeeds();
    assert_eq!(first.stdout, "");
    let first =
        first.says("data: 8 samples").says("weaken: 7 answers, 1 skipped (no image: 1)").says("adapter: ");

    // the first loss is ln 2, and the margin grows
    let metrics = read_lines(run.join("metrics.jsonl"));
    let metric = |line: &Value, key: &str| line[key].as_f64().unwrap();
    assert!((metric(&metrics[0], "loss") - LN_2).abs() < 1e-4);
    assert!(metric(&metrics[0], "rewards/margins").abs() < 1e-4);
    let last = metrics.last().unwrap();
    assert!(metric(last, "rewards/margins") > 0.05, "{last}");
    assert!(metric(last, "loss") < metric(&metrics[0], "loss"));

    for name in ["config.toml", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"] {
        assert!(run.join(name).exists(), "{name}");
    }
    let pairs = read_lines(run.join("pairs.jsonl"));
    assert!(!pairs.is_empty());
    for pair in &pairs {
        for key in ["id", "prompt", "chosen", "rejected", "kind"] {
            assert!(pair[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {pair}");
        }
        let is_text = pair["id"].as_str().unwrap().starts_with("text-0");
        assert_eq!(pair["images"].as_array().unwrap().len(), usize::from(!is_text), "{pair}");
    }
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["stages"]["weaken"]["finished"]["skipped"]["no-image"], 1);
    assert_eq!(manifest["stages"]["train"]["finished"]["done"], pairs.len());
    let skipped = read_lines(run.join("skipped.jsonl"));
    assert_eq!((&skipped[0]["id"], &skipped[0]["reason"]), (&"text-0".into(), &"no-image".into()));

    let before = snapshot(&run);
    bpo(run_arguments(&run)).succeeds().says("nothing left to do").says("no image: 1");
    assert_eq!(snapshot(&run), before);
    drop(first);
}

/// Settings of evaluation, loss, weighting and divergence reach the files of the run.
#[test]
fn run_keeps_the_best_evaluation() {
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
    bpo(arguments).succeeds().says("evaluation after step 2: loss");
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
fn run_with_full_finetuning_writes_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let all = run_arguments(&run);
    let [run_command, flags @ ..] = all.as_slice() else { panic!("no arguments") };
    // flags of the adapter do not apply here
    let of_lora = |flag: &&[OsString]| flag[0].to_string_lossy().starts_with("--lora");
    let flags = flags.chunks(2).filter(|flag| !of_lora(flag)).flatten();
    let full = |more: &[&str]| {
        let more = more.iter().map(Into::into);
        bpo([run_command].into_iter().chain(flags.clone()).cloned().chain(more))
    };
    full(&["--full-finetune"]).succeeds().says("model: ");
    assert!(run.join("model/tokenizer.json").exists() && !run.join("adapter").exists());
    full(&["--full-finetune"]).succeeds().says("nothing left to do").says("model: ");
    full(&[]).fails_naming(&["`full_finetune.projector` was true and is now not set"]);

    // the result loads as a model
    let scores = |model: &Path| {
        let pairs = run.join("pairs.jsonl");
        score(model, &pairs, vec![]).succeeds().lines()
    };
    assert!(margin(&scores(&run.join("model"))) > margin(&scores(&tiny())) + 1.0);
}

/// Dropout masks and noise follow from the seed.
#[test]
fn runs_with_dropout_or_noise_are_reproducible() {
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = (dir.path().join("bpo.toml"), dir.path().join("run"));
    fs::write(&config, "[lora]\nlora_dropout = 0.2\n").unwrap();
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", &config])).succeeds();
    let adapter = snapshot(&run.join("adapter"));
    let file = fs::read(run.join("adapter/adapter_config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&file).unwrap()["lora_dropout"], 0.2);
    assert!((losses(&run)[0] - LN_2).abs() < 1e-4);

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

    // noise follows from the seed too, also in layers that are computed again
    fs::write(&config, "[lora]\nlora_noise = 0.05\n").unwrap();
    let noisy = dir.path().join("noisy");
    assert!(train(&config, &noisy) == train(&config, &dir.path().join("noisy again")));
    let losses_of_noisy = losses(&noisy);
    assert!((losses_of_noisy[0] - LN_2).abs() > 1e-4, "{losses_of_noisy:?}");
    fs::write(&config, "[model]\ngradient_checkpointing = true\n[lora]\nlora_noise = 0.05\n").unwrap();
    let recomputed = dir.path().join("recomputed");
    train(&config, &recomputed);
    for (found, expected) in losses(&recomputed).iter().zip(&losses_of_noisy) {
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
    }
}

#[test]
fn changed_settings_of_finished_stages_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);
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

/// Several distortions and samples, contrast decoding and an answer prefix: from the settings to
/// the pairs.
#[test]
fn run_with_all_weakening_settings_makes_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let (config, run) = (dir.path().join("bpo.toml"), dir.path().join("run"));
    let settings = r#"
        [weaken]
        distortion = ["swap", "feature-noise:sigma=1..2+mask-tokens:share=0.9", "no-image"]
        samples = 2
        prefix_fraction = 0.5
        temperature = 1.0
        contrast = { mode = "amplify_prior", alpha = 0.5 }
        "#;
    fs::write(&config, settings).unwrap();
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", &config]))
        .succeeds()
        .says("weaken: 42 answers");
    let mut answers = read_lines(run.join("weakened.jsonl"));
    // the text without an image, which is the last sample
    assert!(answers.split_off(42).iter().all(|skipped| skipped["reason"] == "no-image"));
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
        let prefix = provenance["prefix_words"].as_u64().unwrap_or(0) as usize;
        let first = |text: &str| text.split_whitespace().take(prefix).map(str::to_owned).collect::<Vec<_>>();
        let text = &annotated[answer["id"].as_str().unwrap()];
        assert_eq!(prefix, text.split_whitespace().count() / 2);
        // the answer may continue the last word
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
    // the same settings continue the run; flags give the same settings
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", &config]))
        .succeeds()
        .says("nothing left to do");
    let other = dir.path().join("other");
    let flags = arguments!["--distortion", "blur:sigma=9", "--distortion", "swap", "--samples", "2"];
    bpo(run_arguments(&other).into_iter().chain(flags)).succeeds().says("weaken: 28 answers");
}

#[test]
fn run_in_half_precision_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let with = |tolerance: &str| {
        let config = dir.path().join("bpo.toml");
        fs::write(&config, tolerance).unwrap();
        bpo(run_arguments(&run).into_iter().chain(arguments!["--dtype", "bf16", "--config", config]))
    };
    with("[train]\ninitial_tolerance = 0.0\n")
        .fails_naming(&["`train.initial_tolerance`", "before the first step"]);
    with("").succeeds();
    assert!(run.join("adapter/adapter_config.json").exists());
}
