//! The stages as commands of their own: `bpo weaken`, `inject`, `pair`, `train`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::common::{
    bpo, checkpoint, copy_run, crates, flip_last_bit, photos, run_arguments, snapshot, tiny, train_arguments,
};

#[test]
fn stage_file_of_other_settings_is_an_error() {
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
    weaken(&["--max-new-tokens", "4"]).succeeds().says("weaken: 3 of 8 already done");
    assert_eq!(fs::read_to_string(at("weakened.jsonl")).unwrap(), whole);

    let inject =
        |seed| bpo(arguments!["inject", "--data", &data, "--out", at("injected.jsonl"), "--seed", seed]);
    inject("1").succeeds();
    inject("2").fails_naming(&["injected.jsonl", "`seed` was 1 and is now 2"]);
    fs::remove_file(at("injected.jsonl.manifest.json")).unwrap();
    inject("1").fails_naming(&["injected.jsonl.manifest.json"]);

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
fn training_directory_of_other_settings_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = at("run");
    copy_run(&run);
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
        // the last one of repeated flags counts
        let flags = [&["--lora-alpha", "16"], &flags[..]].concat();
        train(&out, &flags).fails_naming(&[named]);
        assert!(!out.join("adapter").exists());
    }
    train(&out, &["--lora-alpha", "16"]).succeeds();
    assert_eq!(snapshot(&out.join("adapter")), adapter);

    // another model at the same path is refused
    let other = at("model");
    checkpoint::copy_to(&other);
    let elsewhere = |out: &Path| train(out, &["--lora-alpha", "16", "--model", other.to_str().unwrap()]);
    elsewhere(&at("moved")).succeeds();
    fs::remove_dir_all(at("moved/adapter")).unwrap();
    let weights = other.join("model.safetensors");
    flip_last_bit(&weights);
    elsewhere(&at("moved")).fails_naming(&["moved was made from other input", "`model.path`"]);
    flip_last_bit(&weights);
    elsewhere(&at("moved")).succeeds();

    // `train` in a run directory needs the settings of the run
    let before = snapshot(&run);
    train(&run, &["--lora-alpha", "999"]).fails_naming(&["`lora.lora_alpha`"]);
    assert_eq!(snapshot(&run), before);
    fs::remove_file(out.join("manifest.json")).unwrap();
    train(&out, &["--lora-alpha", "16"]).fails_naming(&["manifest.json"]);
}

/// A file without its settings file was not written by bpo.
#[test]
fn output_file_of_another_program_is_unchanged() {
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
fn config_file_of_another_program_is_unchanged() {
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
fn single_stages_write_the_files_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);

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

/// Three shards of each stage make the pairs of a run, whatever the order of their files.
#[test]
fn shards_make_the_pairs_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);
    let at = |name: &str| dir.path().join(name);
    let config = at("bpo.toml");
    // batches of four questions and one rewriting
    fs::write(&config, "[weaken]\nbatch_size = 1\n[inject]\nbatch_size = 1\n").unwrap();
    let common = arguments!["--config", &config, "--data", photos().join("llava.json")];
    let (mut pair, mut weakened) = (arguments!["pair"], Vec::new());
    for shard in ["3/3", "1/3", "2/3"] {
        let file = at(&format!("weakened-{}.jsonl", &shard[..1]));
        let model = arguments!["--model", tiny(), "--images", photos(), "--max-new-tokens", "6"];
        let more = arguments!["--shard", shard, "--out", &file];
        bpo([arguments!["weaken"], common.clone(), model, more].concat()).succeeds();
        weakened.extend(arguments!["--weakened", &file]);
        pair.extend(arguments!["--answers", &file]);
    }
    for shard in ["2/3", "3/3", "1/3"] {
        let file = at(&format!("injected-{}.jsonl", &shard[..1]));
        let more = arguments!["--shard", shard, "--out", &file];
        bpo([arguments!["inject"], common.clone(), weakened.clone(), more].concat()).succeeds();
        pair.extend(arguments!["--answers", &file]);
    }
    pair.extend([common, arguments!["--out", at("pairs.jsonl")]].concat());
    bpo(pair).succeeds();
    assert_eq!(fs::read(at("pairs.jsonl")).unwrap(), fs::read(run.join("pairs.jsonl")).unwrap());
    let lines = |name: &str| fs::read_to_string(at(name)).unwrap().lines().count();
    let counts = ["weakened-1.jsonl", "weakened-2.jsonl", "weakened-3.jsonl"].map(lines);
    assert_eq!(counts, [4, 4, 0]);
}

/// `bpo pair` and `bpo inject --weakened` compare answer files with the data and with each other.
#[test]
fn answers_of_other_data_and_missing_shards_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = photos().join("llava.json");
    // the same ids with other questions
    let text = fs::read_to_string(&data).unwrap();
    fs::write(at("other.json"), text.replace("What", "Which")).unwrap();
    let inject = |data: &Path, shard: &str, out: &str| {
        let config = at("bpo.toml");
        fs::write(&config, "[inject]\nbatch_size = 1\n").unwrap();
        let more = arguments!["--data", data, "--shard", shard, "--out", at(out)];
        bpo([arguments!["inject", "--config", config], more].concat()).succeeds();
    };
    inject(&data, "1/2", "first.jsonl");
    inject(&data, "2/2", "second.jsonl");
    inject(&at("other.json"), "2/2", "stale.jsonl");
    let pair = |answers: &[&str], out: &str, more: &[&str]| {
        let answers: Vec<_> = answers.iter().flat_map(|name| arguments!["--answers", at(name)]).collect();
        let files = arguments!["pair", "--data", &data, "--out", at(out)];
        bpo([files, answers, more.iter().map(Into::into).collect()].concat())
    };
    pair(&["first.jsonl", "second.jsonl"], "pairs.jsonl", &[]).succeeds();
    pair(&["first.jsonl", "stale.jsonl"], "no.jsonl", &[])
        .fails_naming(&["stale.jsonl was made from other data", "--allow-mismatch"]);
    pair(&["first.jsonl"], "no.jsonl", &[])
        .fails_naming(&["shard 2/2 of `bpo inject` is missing: give its file too"]);
    assert!(!at("no.jsonl").exists());
    pair(&["first.jsonl"], "some.jsonl", &["--allow-mismatch"])
        .succeeds()
        .says("shard 2/2 of `bpo inject` is missing");
    fs::remove_file(at("second.jsonl.manifest.json")).unwrap();
    pair(&["first.jsonl", "second.jsonl"], "more.jsonl", &["--allow-mismatch"])
        .succeeds()
        .says("the file has no manifest");
    assert_eq!(fs::read(at("more.jsonl")).unwrap(), fs::read(at("pairs.jsonl")).unwrap());

    copy_run(&at("run"));
    let again = |data: &Path| {
        let weakened = arguments!["--weakened", at("run/weakened.jsonl"), "--out", at("again.jsonl")];
        bpo([arguments!["inject", "--data", data], weakened].concat())
    };
    again(&at("other.json")).fails_naming(&["weakened.jsonl was made from other data"]);
    again(&data).succeeds();
}

/// The local model rewrites answers as a text model. Interrupted, it gives the same bytes.
#[test]
fn the_model_rewrites_answers_without_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let settings = |more: &str| {
        let text =
            format!("[inject]\nbatch_size = 3\n[inject.llm]\nmax_new_tokens = 6\nattempts = 2\n{more}");
        fs::write(at("bpo.toml"), text).unwrap();
    };
    settings("");
    let inject = |more: &[&str]| {
        let data = photos().join("llava.json");
        let files = arguments!["--config", at("bpo.toml"), "--data", data, "--out", at("injected.jsonl")];
        bpo([arguments!["inject"], files, more.iter().map(Into::into).collect()].concat())
    };
    let model = tiny().display().to_string();
    let local = ["--inject-with-model", "--fallback", "co-occurrence", "--model", &model];
    inject(&local[..3]).refuses_naming(&["--model"]);
    inject(&local).succeeds();
    let whole = fs::read_to_string(at("injected.jsonl")).unwrap();
    let kinds: Vec<String> = whole
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["provenance"]["error"].to_string()
        })
        .collect();
    assert_eq!(kinds.len(), 8);
    assert!(kinds.iter().all(|kind| kind == "\"free\"" || kind == "\"co-occurrence\""), "{kinds:?}");
    for kept in [1, 4] {
        let part: String = whole.split_inclusive('\n').take(kept).collect();
        fs::write(at("injected.jsonl"), part).unwrap();
        inject(&local).succeeds();
        assert_eq!(fs::read_to_string(at("injected.jsonl")).unwrap(), whole, "{kept} lines");
    }
    inject(&[&local[..], &["--dtype", "bf16"]].concat()).fails_naming(&["`model.dtype`"]);
    inject(&[&local[..], &["--kind", "count"]].concat()).fails_naming(&["`inject.llm.kinds.count`"]);
    inject(&[&local[..], &["--server", "http://127.0.0.1:9"]].concat()).refuses_naming(&["--server"]);
    settings("templates = { question_answer = \"Lie: {{ answer }}\" }\n");
    inject(&local).fails_naming(&["template of question-answer"]);
}

/// A language model without images rewrites answers, in a stage of its own and in a run. It cannot
/// take the place of the vision-language model.
#[test]
fn a_language_model_rewrites_answers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let of_tests = |name: &str| crates().join("bpo-model/tests/language_models").join(name);
    let (qwen, llama) = (of_tests("qwen2"), of_tests("llama"));
    let settings = "[inject]\nfallback = \"co-occurrence\"\n[inject.llm]\nmax_new_tokens = 6\nattempts = 1\n";
    fs::write(at("bpo.toml"), settings).unwrap();
    let inject = |more: Vec<OsString>| {
        let data = photos().join("llava.json");
        let files = arguments!["--config", at("bpo.toml"), "--data", data, "--out", at("injected.jsonl")];
        bpo([arguments!["inject"], files, more].concat())
    };
    inject(arguments!["--inject-model", &qwen]).succeeds();
    let whole = fs::read_to_string(at("injected.jsonl")).unwrap();
    assert_eq!(whole.lines().count(), 8);
    let cut: String = whole.split_inclusive('\n').take(3).collect();
    fs::write(at("injected.jsonl"), cut).unwrap();
    inject(arguments!["--inject-model", &qwen]).succeeds();
    assert_eq!(fs::read_to_string(at("injected.jsonl")).unwrap(), whole);
    inject(arguments!["--inject-model", &llama]).fails_naming(&["`inject.model` (--inject-model)"]);
    inject(arguments!["--inject-model", at("none")]).fails_naming(&["none"]);
    for other in [vec!["--server", "http://127.0.0.1:9"], vec!["--inject-with-model"]] {
        let other = other.into_iter().map(OsString::from).collect();
        inject([arguments!["--inject-model", &qwen], other].concat()).refuses_naming(&["--inject-model"]);
    }
    inject(arguments!["--inject-with-model", "--model", &qwen]).fails_naming(&["`inject.model`"]);
    for flag in ["--model", "--adapter"] {
        inject(arguments!["--inject-model", &qwen, flag, tiny()])
            .refuses_naming(&[flag, "--inject-with-model"]);
    }
    // a flag replaces the model of the settings file
    let of_file = format!("[inject]\nfallback = \"co-occurrence\"\nmodel = {llama:?}\n[inject.llm]\n");
    fs::write(at("other.toml"), of_file + "max_new_tokens = 6\nattempts = 1\n").unwrap();
    inject(arguments!["--config", at("other.toml"), "--inject-model", &qwen]).succeeds();

    let run = |model: &Path| {
        let more = arguments!["--config", at("bpo.toml"), "--inject-model", model];
        bpo([run_arguments(&at("run")), more].concat())
    };
    run(&at("none")).fails_naming(&["none"]);
    assert!(!at("run/weakened.jsonl").exists(), "the model is checked before the first stage");
    run(&llama).succeeds();
    let manifest = fs::read_to_string(at("run/manifest.json")).unwrap();
    assert!(manifest.contains("inject_model"), "{manifest}");
    run(&llama).succeeds().says("nothing left to do");
    run(&qwen).fails_naming(&["`inject.model` (--inject-model)"]);
}

/// Tokens are counted with the images in the prompt, which have at least 16 tokens each.
#[test]
fn pairs_with_too_many_tokens_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let sample = |id: &str, images: &[&str]| {
        let prompt = format!("{}\nWhat is it?", "<image>".repeat(images.len()));
        let turns = [("human", prompt), ("gpt", "A red cup.".to_owned())];
        let turns = turns.map(|(from, value)| serde_json::json!({"from": from, "value": value}));
        serde_json::json!({"id": id, "image": images, "conversations": turns}).to_string() + "\n"
    };
    fs::write(at("data.jsonl"), sample("one", &["cat.jpg"]) + &sample("two", &["cat.jpg", "coffee.jpg"]))
        .unwrap();
    let answer = |id: &str| format!("{{\"id\":\"{id}\",\"type\":\"llm-hal\",\"response\":\"A red mug.\"}}\n");
    fs::write(at("answers.jsonl"), answer("one") + &answer("two")).unwrap();
    let pair = |most: usize, out: &str, more: &[&str]| {
        let data = arguments!["--data", at("data.jsonl"), "--images", photos(), "--allow-mismatch"];
        let files = arguments!["--answers", at("answers.jsonl"), "--out", at(out)];
        let most = arguments!["--max-tokens", most.to_string()];
        bpo([arguments!["pair"], data, files, most, more.iter().map(Into::into).collect()].concat())
    };
    let tiny = tiny().display().to_string();
    let model = ["--model", &tiny];
    pair(100, "none.jsonl", &[]).refuses_naming(&["--model"]);
    let refused = pair(1, "none.jsonl", &model)
        .fails_naming(&["model cannot take the pair: 2", "`pair.max_tokens` (--max-tokens) is 1"]);
    let prompts: Vec<usize> = refused
        .stderr
        .lines()
        .filter_map(|line| line.split_once("the prompt has ")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(prompts.len(), 2, "{}", refused.stderr);
    assert!(prompts[1] - prompts[0] >= 16, "{prompts:?}");
    let count = |most: usize| {
        let out = format!("{most}.jsonl");
        pair(most, &out, &model).without_panic();
        fs::read_to_string(at(&out)).unwrap_or_default().lines().count()
    };
    // the smallest limit with which a number of pairs is kept
    let least = |pairs: usize| {
        let (mut low, mut high) = (1, 200);
        while low < high {
            let middle = usize::midpoint(low, high);
            if count(middle) < pairs {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    };
    assert!(least(1) > prompts[0], "the answer counts");
    assert_eq!(least(2) - least(1), prompts[1] - prompts[0]);
}
