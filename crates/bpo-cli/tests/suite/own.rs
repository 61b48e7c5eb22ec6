//! Pairs with the model's own answers: `--chosen own` and `--chosen revised`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{bpo, checkpoint, photos, read_lines, run_arguments, snapshot};
use crate::kill::{Moment, kill_at};

/// Copies the tiny model, and lets it end its answers at every fifth token of its vocabulary.
fn model(dir: &Path) {
    checkpoint::copy_to(dir);
    let ends: Vec<usize> = (0..200).map(|token| 5 * token).collect();
    let path = dir.join("generation_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["eos_token_id"] = ends.into();
    fs::write(&path, config.to_string()).unwrap();
}

/// Writes questions about the photographs, without answers.
fn write_questions(path: &Path) {
    let mut lines = String::new();
    for image in ["cat", "coffee", "coins", "rocket", "astronaut"] {
        for question in ["Describe the image.", "What is in the picture?"] {
            let id = format!("{image}-{}", question.len());
            lines += &json!({"id": id, "image": format!("{image}.jpg"), "prompt": question}).to_string();
            lines.push('\n');
        }
    }
    fs::write(path, lines).unwrap();
}

/// `bpo run` from questions alone, with own answers of at most 64 tokens.
fn own_run(dir: &Path, out: &Path) -> Vec<OsString> {
    arguments![
        "run",
        "--model",
        dir.join("model"),
        "--data",
        dir.join("questions.jsonl"),
        "--images",
        photos(),
        "--out",
        out,
        "--chosen",
        "own",
        "--max-new-tokens",
        "64",
        "--learning-rate",
        "2e-3",
        "--lora-r",
        "4",
        "--save-every",
        "2",
    ]
}

#[test]
fn a_run_needs_no_annotated_answers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    model(&at("model"));
    write_questions(&at("questions.jsonl"));
    let run = at("run");
    bpo(own_run(dir.path(), &run)).succeeds();
    let answers = read_lines(run.join("weakened.jsonl"));
    let own = |id: &Value| answers.iter().find(|line| line["type"] == "own" && line["id"] == *id).unwrap();
    let pairs = read_lines(run.join("pairs.jsonl"));
    assert!(!pairs.is_empty() && !run.join("injected.jsonl").exists());
    for pair in &pairs {
        let (id, _) = pair["id"].as_str().unwrap().split_once(':').unwrap();
        assert_eq!(pair["chosen"], own(&id.into())["response"]);
        assert_eq!(pair["kind"], "mllm-hal");
        assert_ne!(pair["chosen"], pair["rejected"]);
    }
    let before = snapshot(&run);
    bpo(own_run(dir.path(), &run)).succeeds().says("nothing left to do");
    assert!(snapshot(&run) == before);

    // the stages one by one give the same pairs
    let shared =
        || arguments!["--data", at("questions.jsonl"), "--images", photos(), "--chosen", "own"].into_iter();
    let weaken =
        arguments!["weaken", "--model", at("model"), "--max-new-tokens", "64", "--out", at("w.jsonl")];
    bpo(weaken.into_iter().chain(shared())).succeeds();
    let pair = arguments!["pair", "--answers", at("w.jsonl"), "--out", at("pairs.jsonl")];
    bpo(pair.into_iter().chain(shared())).succeeds();
    assert_eq!(fs::read(at("pairs.jsonl")).unwrap(), fs::read(run.join("pairs.jsonl")).unwrap());
    // without the flag, the questions are no annotated data
    let inject = arguments!["inject", "--data", at("questions.jsonl"), "--out", at("i.jsonl")];
    bpo(inject.clone()).fails_naming(&["questions.jsonl"]);
    fs::write(at("bpo.toml"), "chosen = \"own\"\n").unwrap();
    let with_file = inject.into_iter().chain(arguments!["--config", at("bpo.toml")]);
    bpo(with_file).refuses_naming(&["`chosen`", "bpo inject"]);

    for moment in [Moment::Weaken(7), Moment::Weaken(15), Moment::Pair, Moment::Train(3), Moment::Adapter] {
        kill_at(moment, Duration::from_millis(1), &at("killed"), &own_run(dir.path(), &at("killed")));
    }
    bpo(own_run(dir.path(), &at("killed"))).succeeds();
    for name in ["weakened.jsonl", "pairs.jsonl", "metrics.jsonl", "adapter/adapter_model.safetensors"] {
        assert!(fs::read(at("killed").join(name)).unwrap() == fs::read(run.join(name)).unwrap(), "{name}");
    }
}

/// At temperature 0 the own answers are those of `bpo generate`.
#[test]
fn own_answers_are_those_about_the_clean_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    model(&at("model"));
    write_questions(&at("questions.jsonl"));
    fs::write(
        at("bpo.toml"),
        "chosen = \"own\"\n[weaken]\ntemperature = 0.0\ncontrast = { mode = \"amplify_prior\" }\n",
    )
    .unwrap();
    let shared =
        || arguments!["--model", at("model"), "--images", photos(), "--max-new-tokens", "64"].into_iter();
    let weaken = arguments![
        "weaken",
        "--data",
        at("questions.jsonl"),
        "--config",
        at("bpo.toml"),
        "--out",
        at("w.jsonl"),
        "--samples",
        "2",
        "--distortion",
        "blur:sigma=4",
        "--distortion",
        "no-image"
    ];
    bpo(weaken.into_iter().chain(shared())).succeeds();
    let generate = arguments!["generate", "--questions", at("questions.jsonl")];
    let generated = bpo(generate.into_iter().chain(shared())).succeeds().lines();
    let own: Vec<Value> =
        read_lines(at("w.jsonl")).into_iter().filter(|line| line["type"] == "own").collect();
    assert_eq!((own.len(), generated.len()), (10, 10));
    for (own, generated) in own.iter().zip(&generated) {
        assert_eq!((&own["id"], &own["response"]), (&generated["id"], &generated["text"]));
        assert_eq!(own["variant"], 4);
    }
}

#[test]
fn settings_that_contradict_own_answers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bpo.toml");
    let run = |settings: &str, flags: &[&str]| {
        fs::write(&config, settings).unwrap();
        let more = flags.iter().map(OsString::from).chain(arguments!["--config", &config]);
        bpo(run_arguments(&dir.path().join("run")).into_iter().chain(more))
    };
    run("[weaken]\nprefix_fraction = 0.5\n", &["--chosen", "own"])
        .refuses_naming(&["weaken.prefix_fraction", "chosen"]);
    run("", &["--chosen", "own", "--cut-sentences", "2"]).refuses_naming(&["weaken.cut_sentences", "chosen"]);
    run("[truth]\npath = \"truth.jsonl\"\n", &["--chosen", "own"]).refuses_naming(&["truth.path", "chosen"]);
    run("", &["--chosen", "revised"]).refuses_naming(&["truth.path", "--truth", "--coco"]);
    run("", &["--chosen", "revised", "--truth", "missing.jsonl"]).fails_naming(&["missing.jsonl"]);
    run("chosen = \"mine\"\n", &[]).refuses_naming(&["chosen", "annotated"]);
    run("[weaken]\nchosen = \"own\"\n", &[]).refuses_naming(&["`chosen`", "above the first `[table]`"]);
    run("", &["--chosen", "own", "--inject-with-model"]).refuses_naming(&["inject.with_model", "chosen"]);
    run("[train]\nkind_weights = { llm-hal = 0.5 }\n", &["--chosen", "own"])
        .refuses_naming(&["train.kind_weights", "llm-hal"]);
    assert!(!dir.path().join("run").exists());
}

/// Pairs are made of files that have the answers which they need.
#[test]
fn answer_files_without_own_answers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    model(&at("model"));
    let data = photos().join("llava.json");
    let weaken = |out: &str, flags: &[&str]| {
        let shared = arguments!["weaken", "--model", at("model"), "--data", &data, "--images", photos()];
        let more = arguments!["--max-new-tokens", "64", "--out", at(out)];
        bpo(shared.into_iter().chain(more).chain(flags.iter().map(OsString::from))).succeeds();
    };
    weaken("plain.jsonl", &[]);
    weaken("own.jsonl", &["--chosen", "own"]);
    fs::write(at("truth.jsonl"), "{\"image\": \"cat.jpg\", \"objects\": [\"cat\"]}\n").unwrap();
    let truth = at("truth.jsonl");
    let pair = |answers: &str, out: &str, flags: Vec<OsString>| {
        let shared = arguments!["pair", "--data", &data, "--answers", at(answers), "--out", at(out)];
        bpo(shared.into_iter().chain(flags))
    };
    pair("plain.jsonl", "1", arguments!["--chosen", "own"])
        .fails_naming(&["plain.jsonl", "`bpo weaken --chosen own`"]);
    pair("plain.jsonl", "2", arguments!["--chosen", "revised", "--truth", &truth])
        .fails_naming(&["plain.jsonl", "`bpo weaken --chosen revised`"]);
    pair("own.jsonl", "3", arguments![]).succeeds().says("which are not used");
    pair("own.jsonl", "4", arguments!["--chosen", "own"])
        .succeeds()
        .says("with an answer of the model chosen");
    pair("own.jsonl", "5", arguments!["--chosen", "revised", "--truth", &truth])
        .succeeds()
        .says("not in the ground truth");
    let card = at("card.md");
    bpo(arguments!["stats", at("4"), "--card", &card]).succeeds();
    let card = fs::read_to_string(card).unwrap();
    assert!(card.contains("chosen answers are the model's own") && !card.contains("annotated"), "{card}");
    // questions without the flag
    write_questions(&at("questions.jsonl"));
    bpo(arguments!["inject", "--data", at("questions.jsonl"), "--out", at("i.jsonl")])
        .fails_naming(&["--chosen own"]);
}

/// An annotated answer that is not used can be longer than the model's context.
#[test]
fn annotated_answers_that_are_not_used_may_be_long() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    model(&at("model"));
    let long = "word ".repeat(2 * checkpoint::context());
    let mut lines = String::new();
    for image in ["cat", "coffee", "coins"] {
        let record =
            json!({"id": image, "image": format!("{image}.jpg"), "question": "What is it?", "answer": long});
        lines += &(record.to_string() + "\n");
    }
    fs::write(at("questions.jsonl"), lines).unwrap();
    bpo(own_run(dir.path(), &at("run"))).succeeds();
    // a question that is too long is found before the model answers
    let short = own_run(dir.path(), &at("short")).into_iter().chain(arguments!["--max-length", "8"]);
    bpo(short.collect::<Vec<_>>()).fails_naming(&["no sample can be used"]);
    assert!(!at("short").exists());
}

/// Each round makes own answers with the model of the round before.
#[test]
fn rounds_have_own_answers_of_their_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    model(&at("model"));
    write_questions(&at("questions.jsonl"));
    let rounds = own_run(dir.path(), &at("rounds")).into_iter().chain(arguments!["--rounds", "2"]);
    bpo(rounds.collect::<Vec<_>>()).succeeds();
    bpo(own_run(dir.path(), &at("first"))).succeeds();
    let next =
        own_run(dir.path(), &at("next")).into_iter().chain(arguments!["--adapter", at("first/adapter")]);
    bpo(next.collect::<Vec<_>>()).succeeds();
    for (round, run) in [("round-0", "first"), ("round-1", "next")] {
        for name in ["weakened.jsonl", "pairs.jsonl", "adapter/adapter_model.safetensors"] {
            let (round, run) = (at("rounds").join(round).join(name), at(run).join(name));
            assert!(fs::read(&round).unwrap() == fs::read(&run).unwrap(), "{}", round.display());
        }
    }
    assert!(!at("rounds/round-1/injected.jsonl").exists());
}
