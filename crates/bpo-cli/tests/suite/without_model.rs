//! The program without models: it makes pairs, and names the feature that other commands need.

use std::ffi::OsString;
use std::fs;

#[cfg(feature = "server")]
use crate::common::server::Server;
use crate::common::{bpo, photos, read_lines};

const DATA: &str = r#"[
    {"id": "a", "image": "a.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the table?"},
        {"from": "gpt", "value": "A cup is on the table next to a plate."}]},
    {"id": "b", "image": "b.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhat is on the table?"},
        {"from": "gpt", "value": "A fork is on the table next to a plate."}]}
]"#;

#[test]
fn inject_and_pair_accept_the_settings_of_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let settings = "[lora]\nr = 8\n\n[train]\nbeta = 0.2\n\n[inject]\nmax_edits = 1\n";
    fs::write(at("bpo.toml"), settings).unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let inject = || {
        let out = arguments!["--out", at("injected.jsonl")];
        bpo([arguments!["inject"], data.clone(), out].concat())
    };
    inject().succeeds();
    // the manifest has what affects the stage, and no settings of training
    let manifest = fs::read_to_string(at("injected.jsonl.manifest.json")).unwrap();
    assert!(manifest.contains("\"inject.max_edits\": \"1\"") && !manifest.contains("train."), "{manifest}");
    assert!(manifest.contains("\"finished\": {") && manifest.contains("\"done\": 2"), "{manifest}");
    inject().succeeds();
    let files = arguments!["--answers", at("injected.jsonl"), "--out", at("pairs.jsonl")];
    bpo([arguments!["pair"], data, files].concat()).succeeds();
    assert_eq!(fs::read_to_string(at("pairs.jsonl")).unwrap().lines().count(), 2);
}

/// A stage without any answer is an error, and `bpo pair` says what it has skipped.
#[test]
fn a_stage_without_answers_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let turns = r#"[{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Zork."}]"#;
    fs::write(at("llava.json"), format!(r#"[{{"id": "a", "image": "a.jpg", "conversations": {turns}}}]"#))
        .unwrap();
    let data = arguments!["--data", at("llava.json")];
    let inject = |more: Vec<OsString>| bpo([arguments!["inject"], data.clone(), more].concat());
    for _ in 0..2 {
        inject(arguments!["--out", at("injected.jsonl")]).fails_naming(&[
            "injected.jsonl",
            "no answer is left",
            "nothing to make wrong",
        ]);
    }
    let files = arguments!["--answers", at("injected.jsonl"), "--out", at("pairs.jsonl")];
    bpo([arguments!["pair"], data.clone(), files].concat()).fails_naming(&[
        "pairs.jsonl",
        "no pair is left",
        "nothing to make wrong",
    ]);
    // other shards may have answers
    inject(arguments!["--shard", "1/2", "--out", at("shard.jsonl")]).succeeds();
}

/// Questions that do not repeat are found before an answer is made.
#[test]
fn data_without_contrasts_is_refused_first() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(
        at("llava.json"),
        DATA.replace("What is on the table?\"},", "Why?\"},").replacen("Why?", "How?", 1),
    )
    .unwrap();
    fs::write(at("bpo.toml"), "[pair]\ncontrast = \"similar\"\n").unwrap();
    let files = arguments!["--data", at("llava.json"), "--out", at("injected.jsonl")];
    bpo([arguments!["inject", "--config", at("bpo.toml")], files].concat()).fails_naming(&[
        "llava.json",
        "none of the 2 different questions",
        "--contrast",
    ]);
    assert!(!at("injected.jsonl").exists());
}

/// The shards of a stage make the same pairs as the whole stage, and the file of one shard cannot
/// be continued as another shard.
#[test]
fn shards_make_the_pairs_of_the_whole_stage() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    fs::write(at("bpo.toml"), "[inject]\nbatch_size = 1\n").unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let inject = |shard: &str, out: &str| {
        let shard = if shard.is_empty() { Vec::new() } else { arguments!["--shard", shard] };
        bpo([arguments!["inject"], data.clone(), shard, arguments!["--out", at(out)]].concat())
    };
    inject("", "whole.jsonl").succeeds();
    inject("2/2", "second.jsonl").succeeds();
    inject("1/2", "first.jsonl").succeeds();
    inject("1/2", "second.jsonl").fails_naming(&["second.jsonl", "`inject.shard`", "2/2"]);
    inject("3/2", "third.jsonl").refuses_naming(&["I/N"]);
    let pair = |answers: &[&str], out: &str| {
        let answers: Vec<_> = answers.iter().flat_map(|name| arguments!["--answers", at(name)]).collect();
        bpo([arguments!["pair"], data.clone(), answers, arguments!["--out", at(out)]].concat()).succeeds();
        fs::read(at(out)).unwrap()
    };
    let whole = pair(&["whole.jsonl"], "whole-pairs.jsonl");
    assert_eq!(pair(&["second.jsonl", "first.jsonl"], "pairs.jsonl"), whole);

    // a sample without any weakened answer has no pair, and is not asked for
    let line = r#"{"id":"a","type":"mllm-hal","reason":"image-missing","detail":"no image"}"#;
    fs::write(at("weakened.jsonl"), format!("{line}\n")).unwrap();
    let more = arguments!["--weakened", at("weakened.jsonl"), "--out", at("fewer.jsonl")];
    bpo([arguments!["inject"], data.clone(), more].concat()).succeeds();
    assert_eq!(fs::read_to_string(at("fewer.jsonl")).unwrap().lines().count(), 1);
    let fewer = pair(&["fewer.jsonl", "weakened.jsonl"], "fewer-pairs.jsonl");
    assert_eq!(pair(&["weakened.jsonl", "whole.jsonl"], "same-pairs.jsonl"), fewer);
    assert!(whole.ends_with(&fewer) && fewer.len() < whole.len());
}

/// Pairs are made with the answers of a language model behind a server, which may fail at first.
#[cfg(feature = "server")]
#[test]
fn pairs_are_made_with_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let server = Server::failing_first(1);
    let settings = format!("base_url = \"{}\"\nmodel = \"m\"\nbackoff_initial_ms = 1\n", server.url);
    fs::write(at("bpo.toml"), format!("[inject.server]\n{settings}")).unwrap();
    let data = arguments!["--config", at("bpo.toml"), "--data", at("llava.json")];
    let out = arguments!["--out", at("injected.jsonl")];
    bpo([arguments!["inject"], data.clone(), out].concat()).succeeds().says("inject: 2 answers");
    assert_eq!(server.requests().len(), 1 + 2);
    let files = arguments!["--answers", at("injected.jsonl"), "--out", at("pairs.jsonl")];
    bpo([arguments!["pair"], data, files].concat()).succeeds();
    let pairs = read_lines(at("pairs.jsonl"));
    assert_eq!(pairs.len(), 2);
    for pair in &pairs {
        assert!(pair["rejected"].as_str().unwrap().contains("purple elephant"), "{pair}");
        assert_eq!(pair["kind"], "llm-hal");
    }
}

/// No answer has a number, so no draft is requested for the kind `count`.
#[cfg(feature = "server")]
#[test]
fn answers_that_no_kind_fits_get_swapped_words() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let server = Server::failing_first(0);
    let settings = |fallback: &str, kinds: &str| {
        let server = format!("base_url = \"{}\"\nmodel = \"m\"\n", server.url);
        let text = format!(
            "[inject]\nfallback = \"{fallback}\"\n[inject.llm.kinds]\n{kinds}\n[inject.server]\n{server}"
        );
        fs::write(at("bpo.toml"), text).unwrap();
    };
    let inject = |out: &str| {
        let files = arguments!["--data", at("llava.json"), "--out", at(out)];
        bpo([arguments!["inject", "--config", at("bpo.toml")], files].concat())
    };
    settings("co-occurrence", "count = 1");
    inject("swapped.jsonl").succeeds().says("inject: 2 answers");
    assert_eq!(server.requests().len(), 0);
    for line in read_lines(at("swapped.jsonl")) {
        assert_eq!(line["provenance"]["error"], "co-occurrence", "{line}");
        assert_eq!(line["rejected"], serde_json::json!(["no_kind_fits"]), "{line}");
    }
    let manifest = fs::read_to_string(at("swapped.jsonl.manifest.json")).unwrap();
    assert!(manifest.contains("\"no_kind_fits\": 2") && manifest.contains("template of count"), "{manifest}");

    settings("skip", "count = 1");
    inject("skipped.jsonl").says("no requested kind of error fits the answer: 2");
    // the server's answers are about elephants, in place of the position
    settings("skip", "position = 1");
    inject("position.jsonl");
    settings("skip", "size = 1");
    inject("unknown.jsonl").refuses_naming(&["bpo.toml", "size", "object_added"]);
    settings("skip", "count = 0");
    inject("zero.jsonl").refuses_naming(&["`inject.llm.kinds`", "above 0"]);
    // flags override the settings
    settings("skip", "position = 1");
    let flags = arguments!["--kind", "count", "--kind", "text=0.5", "--fallback", "co-occurrence"];
    let files = arguments!["--data", at("llava.json"), "--out", at("flags.jsonl")];
    bpo([arguments!["inject", "--config", at("bpo.toml")], files.clone(), flags].concat()).succeeds();
    for line in read_lines(at("flags.jsonl")) {
        assert_eq!(line["provenance"]["error"], "co-occurrence", "{line}");
    }
    for (flags, named) in [
        (arguments!["--kind", "size"], "object-added"),
        (arguments!["--kind", "count=much"], "KIND=WEIGHT"),
        (arguments!["--kind", "count=-1"], "`inject.llm.kinds`"),
        (arguments!["--fallback", "maybe"], "co-occurrence"),
    ] {
        bpo([arguments!["inject", "--config", at("bpo.toml")], files.clone(), flags].concat())
            .refuses_naming(&[named]);
    }
    for flag in [arguments!["--kind", "count"], arguments!["--fallback", "skip"]] {
        bpo([arguments!["inject"], files.clone(), flag].concat()).refuses_naming(&["--server"]);
    }
    settings("maybe", "count = 1");
    inject("maybe.jsonl").refuses_naming(&["maybe", "co-occurrence"]);
}

/// Prompts are read from files, and answers of other prompts are not continued.
#[cfg(feature = "server")]
#[test]
fn prompts_are_files_whose_content_counts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    fs::create_dir(at("prompts")).unwrap();
    fs::write(at("prompts/question-answer.j2"), "Lie about {{ question }}: {{ answer }}").unwrap();
    let server = Server::failing_first(0);
    let inject = |prompts: &str| {
        let server = format!("[inject.server]\nbase_url = \"{}\"\nmodel = \"m\"\n", server.url);
        let templates = format!("[inject.llm.templates]\npath = {:?}\n", at(prompts));
        fs::write(at("bpo.toml"), templates + &server).unwrap();
        let files = arguments!["--data", at("llava.json"), "--out", at("injected.jsonl")];
        bpo([arguments!["inject", "--config", at("bpo.toml")], files].concat())
    };
    inject("prompts").succeeds().says("inject: 2 answers");
    assert!(server.requests()[0].contains("Lie about What is on the table?"), "{:?}", server.requests());
    // the same prompts in another place
    fs::rename(at("prompts"), at("moved")).unwrap();
    inject("moved").succeeds();
    fs::write(at("moved/question-answer.j2"), "Fib: {{ answer }}").unwrap();
    inject("moved").fails_naming(&["injected.jsonl", "template of question-answer"]);
    fs::write(at("moved/questions.j2"), "{{ answer }}").unwrap();
    inject("moved").fails_naming(&["questions.j2", "question-answer.j2"]);
    inject("gone").fails_naming(&["gone"]);
}

#[test]
fn flags_select_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("llava.json"), DATA).unwrap();
    let data = arguments!["--data", at("llava.json")];
    bpo([arguments!["inject"], data.clone(), arguments!["--out", at("injected.jsonl")]].concat()).succeeds();
    let pair = |flags: &[&str], out: &str| {
        let files = arguments!["--answers", at("injected.jsonl"), "--out", at(out)];
        let flags: Vec<_> = flags.iter().flat_map(|flag| arguments![flag]).collect();
        bpo([arguments!["pair"], data.clone(), files, flags].concat())
    };
    let count = |name: &str| fs::read_to_string(at(name)).unwrap().lines().count();
    let rules = ["--rule", "best-worst", "--max-per-sample", "1", "--dedup", "--seed", "7"];
    pair(&rules, "pairs.jsonl").succeeds();
    assert_eq!(count("pairs.jsonl"), 2);
    let eval = at("eval.jsonl").display().to_string();
    let split = ["--eval-percent", "50", "--eval-out", &eval];
    // one of the seeds puts one image on each side
    let sizes = (0..20).find_map(|seed| {
        let out = format!("train-{seed}.jsonl");
        let _ = fs::remove_file(at("eval.jsonl"));
        pair(&[&split[..], &["--seed", &seed.to_string()]].concat(), &out).succeeds();
        let sizes = (count(&out), count("eval.jsonl"));
        assert_eq!(sizes.0 + sizes.1, 2);
        (sizes == (1, 1)).then_some(sizes)
    });
    assert_eq!(sizes, Some((1, 1)));

    let refusal =
        r#"{"id": "a", "type": "mllm-hal", "response": "I'm sorry, I cannot see it.", "finish": "stop"}"#;
    fs::write(at("weakened.jsonl"), format!("{refusal}\n")).unwrap();
    let with_refusal = |flags: &[&str], out: &str| {
        let weakened = at("weakened.jsonl").display().to_string();
        pair(&[&["--answers", &weakened], flags].concat(), out)
    };
    with_refusal(&[], "kept.jsonl").succeeds().says("weakened answers decline to answer").says("answers: 1");
    with_refusal(&["--skip-refusals", "--skip-cut"], "left.jsonl")
        .succeeds()
        .says("weakened answer declines to answer: 1");
    assert_eq!([count("kept.jsonl"), count("left.jsonl")], [3, 2]);

    // the images of a misspelt key are not left out without a word
    fs::write(at("text.json"), DATA.replace("\"image\"", "\"picture\"").replace(r"<image>\n", "")).unwrap();
    let text = arguments!["--data", at("text.json"), "--out", at("text.jsonl")];
    bpo([arguments!["inject"], text].concat()).succeeds().says("no sample has an image");

    pair(&["--subset", ".=0%"], "none.jsonl")
        .fails_naming(&["none.jsonl", "outside the subset of its source: 2"]);
    pair(&["--subset", "coco=50"], "warned.jsonl").succeeds().says("no sample has this source");
    for (flags, named) in [
        (&["--rule", "worst"][..], "--rule"),
        (&["--subset", "coco"], "SOURCE=PERCENT"),
        (&["--subset", "coco=200"], "`pair.subset.coco`"),
        (&["--dedup", "2"], "`pair.dedup`"),
        (&["--max-per-sample", "0"], "`pair.max_per_sample`"),
        (&["--eval-percent", "5"], "--eval-out"),
        (&["--eval-out", "e.jsonl"], "--eval-percent"),
        (&["--eval-percent", "100", "--eval-out", "e.jsonl"], "`pair.eval_percent`"),
        (&["--max-tokens", "100"], "--features model"),
    ] {
        pair(flags, "refused.jsonl").refuses_naming(&[named]);
    }
    let out = at("same.jsonl").display().to_string();
    pair(&["--eval-percent", "5", "--eval-out", &out], "same.jsonl").refuses_naming(&["--eval-out", "--out"]);
}

#[test]
fn commands_that_need_a_model_name_the_feature() {
    for command in ["quickstart", "run", "train", "score", "generate", "merge", "convert-checkpoint"] {
        bpo(arguments![command, "--model", "m"])
            .refuses_naming(&[&format!("`bpo {command}` needs a program built with `--features model`")]);
    }
    for flag in ["--model", "--device", "--adapter"] {
        bpo(arguments!["judge", "--data", "d.json", flag, "x"])
            .refuses_naming(&[&format!("`{flag}` needs a program built with `--features model`")]);
        bpo(arguments!["weaken", "--data", "d.json", flag, "x"])
            .refuses_naming(&[&format!("`{flag}` needs a program built with `--features model`")]);
    }
    bpo(arguments!["inject", "--modle", "m"]).refuses_naming(&["unexpected argument '--modle'"]);
    bpo(arguments!["trian"]).refuses_naming(&["unrecognized subcommand \"trian\""]);
}

#[test]
fn help_lists_only_commands_of_this_build() {
    let help = bpo(["help"]).succeeds().stdout;
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        names,
        ["weaken", "inject", "judge", "pair", "inspect", "stats", "convert", "distort", "eval", "help"]
    );
}

/// All but the last file would be ignored.
#[test]
fn a_second_data_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = photos().join("llava.json");
    let out = dir.path().join("injected.jsonl");
    bpo(arguments!["inject", "--data", &data, "--data", &data, "--out", &out])
        .refuses_naming(&["`--data`", "2 files"]);
    assert!(!out.exists());
}
