//! The reference of training: cache files and other models; evaluation and samples during training.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::common::{
    Outcome, bpo, checkpoint, flip_last_bit, losses, photos, read_lines, run_arguments, score, tiny,
    write_pairs, write_three_pairs,
};

fn train(model: &Path, pairs: &Path, out: &Path, more: Vec<OsString>) -> Outcome {
    let mut arguments =
        arguments!["train", "--model", model, "--images", photos(), "--pairs", pairs, "--out", out];
    arguments.extend(arguments![
        "--learning-rate",
        "2e-3",
        "--lora-r",
        "4",
        "--epochs",
        "2",
        "--batch-size",
        "2"
    ]);
    bpo(arguments.into_iter().chain(more))
}

fn fill_cache(model: &Path, pairs: &Path, cache: &Path) -> Outcome {
    score(model, pairs, arguments!["--cache", cache])
}

#[test]
fn cache_of_score_gives_the_losses_of_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (file, cache) = (at("pairs.jsonl"), at("reference.safetensors"));
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    let plain = score(&tiny(), &file, vec![]);
    let (plain, kept) = (plain.succeeds().lines(), fill_cache(&tiny(), &file, &cache).succeeds().lines());
    assert_eq!(plain.len(), kept.len());
    for (plain, kept) in plain.iter().zip(&kept) {
        for key in ["chosen_logp", "rejected_logp"] {
            let (plain, kept) = (plain[key].as_f64().unwrap(), kept[key].as_f64().unwrap());
            assert!((plain - kept).abs() < 1e-4 * plain.abs(), "{plain} {kept}");
        }
    }
    let bytes = fs::read(&cache).unwrap();

    let with = arguments!["--reference-cache", &cache];
    train(&tiny(), &file, &at("plain"), vec![]).succeeds();
    train(&tiny(), &file, &at("cached"), with).succeeds();
    assert_eq!(fs::read(&cache).unwrap(), bytes, "nothing was computed again");
    for (plain, cached) in losses(&at("plain")).iter().zip(losses(&at("cached"))) {
        assert!((plain - cached).abs() < 1e-4, "{plain} {cached}");
    }
    // training fills the same file
    let filled = at("filled.safetensors");
    train(&tiny(), &file, &at("filled"), arguments!["--reference-cache", &filled]).succeeds();
    assert_eq!(fs::read(filled).unwrap(), bytes);
}

/// Pairs with contrasts, a cache with their rows, and pairs without.
#[test]
fn symmpo_trains_on_contrasts_with_a_cached_reference() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (file, cache, config) = (at("pairs.jsonl"), at("reference.safetensors"), at("bpo.toml"));
    let pair = |id: &str, images: [&str; 2], chosen: &str, other: &str| {
        serde_json::json!({
            "id": id, "images": [images[0]], "prompt": "<image>\nWhat is it?", "chosen": chosen, "rejected": "A dog.",
            "kind": "llm-hal", "contrast_images": [images[1]], "contrast_answer": other,
        })
        .to_string()
    };
    let pairs = [
        pair("a", ["cat.jpg", "coffee.jpg"], "A cat.", "A red cup."),
        pair("b", ["coffee.jpg", "cat.jpg"], "A red cup.", "A cat."),
        pair("c", ["cat.jpg", "rocket.jpg"], "A striped cat.", "A rocket."),
        pair("gone", ["cat.jpg", "unicorn.jpg"], "A cat.", "A unicorn."),
    ];
    fs::write(&file, pairs.join("\n")).unwrap();
    let symmpo = arguments!["--loss", "symmpo"];
    let plain = train(&tiny(), &file, &at("plain"), symmpo.clone()).succeeds();
    plain.says("skipped: gone").says("unicorn.jpg");
    assert!((losses(&at("plain"))[0] - 4.0 * std::f64::consts::LN_2).abs() < 1e-4);
    let steps = read_lines(at("plain").join("metrics.jsonl"));
    assert!(steps.iter().all(|step| step["rewards/contrast_margins"].is_f64()), "{steps:?}");

    // the cache of `score` has the rows of contrasts
    fs::write(&config, "[train.loss]\ntype = \"symmpo\"\n").unwrap();
    let scored = score(&tiny(), &file, arguments!["--cache", &cache, "--config", &config]);
    assert_eq!((scored.code, scored.lines().len()), (Some(1), 3), "{scored:?}");
    let bytes = fs::read(&cache).unwrap();
    let cached = [symmpo.clone(), arguments!["--reference-cache", &cache]].concat();
    train(&tiny(), &file, &at("cached"), cached).succeeds();
    assert_eq!(fs::read(&cache).unwrap(), bytes, "nothing was computed again");
    for (plain, cached) in losses(&at("plain")).iter().zip(losses(&at("cached"))) {
        assert!((plain - cached).abs() < 1e-4, "{plain} {cached}");
    }

    write_three_pairs(&file, ["A cat.", "A red cup."]);
    train(&tiny(), &file, &at("without"), symmpo).fails_naming(&["no pair to train on", "contrast_images"]);
}

#[test]
fn stale_cache_is_an_error_with_all_changes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (model, file, cache) = (at("model"), at("pairs.jsonl"), at("reference.safetensors"));
    checkpoint::copy_to(&model);
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    fill_cache(&model, &file, &cache).succeeds();
    let stale = |named: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        train(&model, &file, out.path(), arguments!["--reference-cache", &cache]).fails_naming(named);
        assert!(!out.path().join("metrics.jsonl").exists());
    };

    let template = model.join("chat_template.jinja");
    let text = fs::read_to_string(&template).unwrap();
    let other = text.replace(r"'<image>\n'", "'<image> '");
    assert_ne!(other, text);
    fs::write(&template, other).unwrap();
    stale(&["reference.safetensors", "`template`"]);
    fs::write(&template, text).unwrap();

    let weights = model.join("model.safetensors");
    flip_last_bit(&weights);
    stale(&["reference.safetensors", "`model`"]);
    flip_last_bit(&weights);

    // other answers are computed, not refused
    write_three_pairs(&file, ["A striped cat.", "A red cup."]);
    let cached = arguments!["--reference-cache", &cache];
    train(&model, &file, &at("other"), cached).succeeds();

    fs::write(&cache, b"not a cache").unwrap();
    stale(&["reference.safetensors"]);
}

/// `bpo run` finds a stale cache, another tokenizer and missing images to evaluate on before its
/// first stage, and names all of them.
#[test]
fn a_run_finds_a_stale_cache_and_missing_evaluation_images_first() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (other, cache, config) = (at("other"), at("reference.safetensors"), at("bpo.toml"));
    checkpoint::copy_to(&other);
    let template = other.join("chat_template.jinja");
    let text = fs::read_to_string(&template).unwrap();
    fs::write(&template, text.replace(r"'<image>\n'", "'<image> '")).unwrap();
    write_three_pairs(&at("pairs.jsonl"), ["A cat.", "A red cup."]);
    fill_cache(&other, &at("pairs.jsonl"), &cache).succeeds();
    write_pairs(&at("eval.jsonl"), &[("gone", "unicorn.jpg", "What is it?", "A cat.", "A dog.")]);
    let run = |settings: &str, named: &[&str]| {
        fs::write(&config, format!("{settings}\n[data]\neval_pairs = {:?}\n", at("eval.jsonl"))).unwrap();
        let arguments = run_arguments(&at("run")).into_iter().chain(arguments!["--config", &config]);
        let outcome = bpo(arguments).fails_naming(named);
        assert!(!outcome.stderr.contains("weaken:") && !at("run").exists(), "{}", outcome.stderr);
    };
    let images = ["the run cannot start", "eval.jsonl", "unicorn.jpg"];
    let stale = format!("[reference]\ncache = {cache:?}\n");
    run(&stale, &[&images[..], &["reference.safetensors", "`template`"]].concat());
    let unlike = format!("[reference]\npath = {other:?}\n");
    run(&unlike, &[&images[..], &["another chat template"]].concat());
    // some pairs that cannot be used are skipped, unless the settings forbid it
    let mut pairs = fs::read_to_string(at("eval.jsonl")).unwrap();
    pairs.push('\n');
    pairs.push_str(&fs::read_to_string(at("pairs.jsonl")).unwrap());
    fs::write(at("eval.jsonl"), pairs).unwrap();
    run(
        "[train]\nvalidate_pairs = false\n",
        &["eval.jsonl: pair gone", "unicorn.jpg", "`train.validate_pairs`"],
    );
}

/// `score` scores `--model`, not the reference of the settings.
#[test]
fn score_ignores_reference_settings() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (other, file, cache, config) =
        (at("other"), at("pairs.jsonl"), at("reference.safetensors"), at("bpo.toml"));
    checkpoint::copy_to(&other);
    flip_last_bit(&other.join("model.safetensors"));
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    fs::write(&config, format!("[reference]\npath = {other:?}\n")).unwrap();
    let with = |cache: &Path| arguments!["--config", &config, "--reference-cache", cache];
    score(&tiny(), &file, arguments!["--cache", &cache, "--config", &config]).succeeds();
    train(&tiny(), &file, &at("run"), with(&cache)).fails_naming(&["reference.safetensors", "`model`"]);
    train(&tiny(), &file, &at("run"), arguments!["--reference-cache", &cache]).succeeds();
}

#[test]
fn synchronized_reference_needs_full_finetuning() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("pairs.jsonl"), dir.path().join("bpo.toml"));
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    fs::write(&config, "[train.reference_sync]\nsteps = 1000\n").unwrap();
    let more = arguments!["--config", &config, "--reference", tiny()];
    train(&tiny(), &file, &dir.path().join("run"), more).refuses_naming(&["`train.reference_sync`"]);
}

/// Training skips the pair, and samples use another question.
#[test]
fn question_longer_than_the_context_is_not_sampled() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("pairs.jsonl"), dir.path().join("run"));
    let long = "How many words fit into this? ".repeat(400);
    write_pairs(
        &file,
        &[
            ("a", "cat.jpg", &long, "Too many.", "A dog."),
            ("b", "cat.jpg", "What is it?", "A cat.", "A dog."),
        ],
    );
    train(&tiny(), &file, &out, arguments!["--sample-every", "1"]).succeeds().says("skipped: a");
    let samples = read_lines(out.join("samples.jsonl"));
    assert!(!samples.is_empty());
    assert!(samples.iter().all(|line| line["chosen"] == "A cat."), "{samples:?}");
}

#[test]
fn another_reference_needs_reference_differs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = at("pairs.jsonl");
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    train(&tiny(), &file, &at("run"), vec![]).succeeds();
    let reference = arguments!["--reference-adapter", at("run/adapter")];
    train(&tiny(), &file, &at("other"), reference.clone())
        .fails_naming(&["training cannot start", "the reference is another model"]);
    let config = at("bpo.toml");
    fs::write(&config, "[train]\nreference_differs = true\n").unwrap();
    let meant = [reference, arguments!["--config", &config]].concat();
    train(&tiny(), &file, &at("meant"), meant).succeeds();
    assert!((losses(&at("meant"))[0] - std::f64::consts::LN_2).abs() > 1e-3);
    // the model itself is not another reference
    let itself = arguments!["--reference", tiny()];
    train(&tiny(), &file, &at("itself"), itself).succeeds();
    let plain = arguments!["--loss", "hinge"];
    train(&tiny(), &file, &at("hinge"), plain).succeeds();
    assert!((losses(&at("itself"))[0] - std::f64::consts::LN_2).abs() < 1e-4);
}

#[test]
fn flags_set_loss_evaluation_and_samples() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (file, other) = (at("pairs.jsonl"), at("eval.jsonl"));
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    write_three_pairs(&other, ["A grey cat.", "A cup."]);
    let out = at("run");
    let flags =
        arguments!["--loss", "mdpo", "--eval-pairs", &other, "--eval-every", "2", "--sample-every", "2"];
    train(&tiny(), &file, &out, flags).succeeds();
    let steps = read_lines(out.join("metrics.jsonl"));
    assert!((losses(&out)[0] - 3.0 * std::f64::consts::LN_2).abs() < 1e-4);
    assert!(steps.iter().all(|step| step["rewards/weakened"].is_f64()));
    let evaluations = read_lines(out.join("eval.jsonl"));
    assert_eq!(evaluations.last().unwrap()["eval_pairs"], 3);
    let samples = read_lines(out.join("samples.jsonl"));
    // two questions, after steps 2 and 4
    assert_eq!(samples.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 2, 4, 4]);
    assert!(samples.iter().all(|line| line["chosen"] == "A grey cat." || line["chosen"] == "A cup."));
    for (flag, key) in [("--reference", "`reference.path`"), ("--reference-adapter", "`reference.adapter`")] {
        let more = arguments!["--loss", "simpo", flag, tiny()];
        train(&tiny(), &file, &at("simpo"), more).refuses_naming(&[key, "the loss simpo"]);
    }
    for (flag, what) in [("--reference", "no directory"), ("--reference-adapter", "not a PEFT adapter")] {
        train(&tiny(), &file, &at("nothing"), arguments![flag, at("nope")]).fails_naming(&["nope", what]);
    }
    let empty = at("empty.jsonl");
    fs::write(&empty, "").unwrap();
    train(&tiny(), &file, &at("unevaluated"), arguments!["--eval-pairs", &empty])
        .fails_naming(&["empty.jsonl", "no pair is left"]);
    let cache = arguments!["--loss", "sft", "--reference-cache", at("r.safetensors")];
    train(&tiny(), &file, &at("sft"), cache).refuses_naming(&["`reference.cache`", "sft"]);
    let cache = arguments!["--loss", "chip", "--reference-cache", at("r.safetensors")];
    train(&tiny(), &file, &at("cached"), cache).refuses_naming(&["`reference.cache`", "chip", "`tok_beta`"]);
    let flags = arguments!["--loss", "chip", "--eval-pairs", &other, "--eval-every", "2"];
    train(&tiny(), &file, &at("chip"), flags).succeeds();
    assert!((losses(&at("chip"))[0] - std::f64::consts::LN_2).abs() < 1e-4);
    let evaluations = read_lines(at("chip").join("eval.jsonl"));
    assert!(evaluations.last().unwrap()["eval_loss"].is_f64(), "{evaluations:?}");
    let unknown = arguments!["--loss", "dpo"];
    let outcome = train(&tiny(), &file, &at("dpo"), unknown);
    assert_eq!(outcome.code, Some(2));
    outcome.says("sigmoid_norm");
}

#[test]
fn dry_run_estimates_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = at("pairs.jsonl");
    write_three_pairs(&file, ["A cat.", "A red cup."]);
    let out = at("run");
    let dry = train(&tiny(), &file, &out, arguments!["--dry-run", "--reference-cache", at("r.safetensors")]);
    let dry = dry.succeeds().says("parameters").says("answers of").says("the first steps took");
    assert!(!out.exists() && !at("r.safetensors").exists());
    let plan = &dry.lines()[0];
    train(&tiny(), &file, &out, vec![]).succeeds();
    assert_eq!(plan["steps"].as_u64().unwrap() as usize, losses(&out).len());
    assert_eq!((&plan["pairs"], &plan["skipped"]), (&3.into(), &0.into()));
    assert_eq!(plan["seconds"].as_array().unwrap().len(), 3);
    let footprint = &plan["footprint"];
    let adapter = fs::read(out.join("adapter/adapter_model.safetensors")).unwrap();
    let adapter = safetensors::SafeTensors::deserialize(&adapter).unwrap();
    let trained: usize = adapter.iter().map(|(_, tensor)| tensor.shape().iter().product::<usize>()).sum();
    assert_eq!(footprint["trained"].as_u64().unwrap() as usize, trained);
    assert_eq!(footprint["optimizer"], 8 * trained);
    assert!(plan["activations"].as_u64().unwrap() > 0);
    // evaluation pairs are read as in training
    let other = at("eval.jsonl");
    write_three_pairs(&other, ["A grey cat.", "A cup."]);
    let config = at("bpo.toml");
    fs::write(&config, "[train]\nkeep_best = \"loss\"\n").unwrap();
    let evaluated = arguments!["--dry-run", "--eval-pairs", &other, "--config", &config];
    assert_eq!(train(&tiny(), &file, &out, evaluated).succeeds().lines()[0]["eval_pairs"], 3);
    // frozen weights are shared with the reference
    let full = |part: &str| {
        fs::write(&config, format!("[full_finetune]\n{part}")).unwrap();
        let arguments =
            arguments!["train", "--model", tiny(), "--images", photos(), "--pairs", &file, "--dry-run"];
        bpo(arguments.into_iter().chain(arguments!["--config", &config])).succeeds().lines().swap_remove(0)
    };
    let plan = full("language_model = false\nprojector = true\n");
    assert_eq!(plan["reference"], plan["footprint"]["gradients"]);
    let two = bpo(arguments!["train", "--model", tiny(), "--images", photos(), "--pairs", &file]);
    assert_eq!(two.code, Some(2), "{two:?}");
}
