//! Scores of answers by a judge behind a server, and the pairs that are made of them.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::vlm_server::{Reply, VlmServer};
use crate::common::{bpo, photos, read_lines};

/// Six questions about photographs, and a server that answers and judges.
struct Setting {
    dir: tempfile::TempDir,
    server: VlmServer,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<Value> = (0..6)
            .map(|place| {
                let image = ["cat", "coffee", "rocket"][place % 3];
                let turns = json!([
                    {"from": "human", "value": format!("<image>\nWhat is at place {place}?")},
                    {"from": "gpt", "value": format!("A thing is at place {place}.")},
                ]);
                json!({"id": format!("s{place}"), "image": format!("{image}.jpg"), "conversations": turns})
            })
            .collect();
        fs::write(dir.path().join("llava.json"), json!(records).to_string()).unwrap();
        Self { dir, server: VlmServer::start(|_, request| Reply::Text(reply(request))) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> Vec<OsString> {
        arguments!["--data", self.at("llava.json"), "--images", photos(), "--chosen", "judged"]
    }

    /// The arguments of `bpo weaken` for three own answers.
    fn weaken(&self) -> Vec<OsString> {
        let server =
            arguments!["weaken", "--vlm-server", self.server.url.clone(), "--out", self.at("w.jsonl")];
        let answers = arguments!["--samples", "0", "--own-samples", "3", "--temperature", "1"];
        [server, answers, self.data()].concat()
    }

    fn judge(&self, more: Vec<OsString>) -> Vec<OsString> {
        let server = arguments!["judge", "--judge-server", self.server.url.clone(), "--judge-model", "big"];
        let files = arguments!["--answers", self.at("w.jsonl"), "--out", self.at("j.jsonl")];
        [server, files, self.data(), more].concat()
    }

    /// The requests to the judge.
    fn judged(&self) -> Vec<Value> {
        self.server.requests().into_iter().filter(|request| request["model"] == "big").collect()
    }
}

/// The text of a request, without its images.
fn text(request: &Value) -> String {
    match &request["messages"][0]["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().unwrap().iter().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// An answer with a number that depends on the seed, or the score that this number stands for.
fn reply(request: &Value) -> String {
    if request["model"] != "big" {
        return format!("There are {} things.", request["seed"].as_u64().unwrap() % 5 + 1);
    }
    let text = text(request);
    let answer = text.rsplit("There are ").next().unwrap();
    format!("<think>Score: 1</think>It is what it is.\n**Score: {}**", &answer[..1])
}

#[test]
fn pairs_follow_the_scores_of_a_judge() {
    let setting = Setting::new();
    bpo(setting.weaken()).succeeds().says("weaken: 18 answers");
    bpo(setting.judge(vec![])).succeeds().says("judge: 18 answers").says("judge: 18 responses of the server");
    let requests = setting.judged();
    assert_eq!(requests.len(), 18);
    for request in &requests {
        let text = text(request);
        assert!(text.contains("Reference answer: A thing is at place"), "{text}");
        assert!(!request.to_string().contains("image_url") && request["temperature"] == 0.0);
    }
    let answers = read_lines(setting.at("j.jsonl"));
    for line in &answers {
        let number: f64 = line["response"].as_str().unwrap()[10..11].parse().unwrap();
        assert_eq!((&line["type"], line["judgment"]["score"].as_f64()), (&json!("own"), Some(number)));
    }
    // the same command asks nothing, and another model would give other scores
    bpo(setting.judge(vec![])).succeeds();
    assert_eq!(setting.judged().len(), 18);
    bpo(setting.judge(arguments!["--judge-model", "other"])).fails_naming(&["`judge.server.model`", "other"]);

    let pair = |answers: &str, more: Vec<OsString>| {
        let files = arguments!["pair", "--answers", setting.at(answers), "--out", setting.at("pairs.jsonl")];
        let _ = fs::remove_file(setting.at("pairs.jsonl"));
        bpo([files, setting.data(), more].concat())
    };
    pair("w.jsonl", vec![]).fails_naming(&["w.jsonl", "bpo judge"]);
    pair("w.jsonl", arguments!["--allow-mismatch"]).fails_naming(&["no score", "bpo judge"]);
    pair("j.jsonl", arguments!["--rule", "best-worst"]).succeeds();
    let pairs = read_lines(setting.at("pairs.jsonl"));
    assert!(!pairs.is_empty() && pairs.len() <= 6);
    for pair in &pairs {
        let number = |key: &str| pair[key].as_str().unwrap()[10..11].parse::<f64>().unwrap();
        assert_eq!(pair["margin"].as_f64().unwrap(), number("chosen") - number("rejected"));
        assert_eq!((&pair["kind"], &pair["chosen_kind"]), (&json!("own"), &json!("own")));
    }
    // an answer that changed is judged again, and no other one
    let changed = fs::read_to_string(setting.at("w.jsonl")).unwrap().replacen("things", "cups", 1);
    fs::write(setting.at("w.jsonl"), changed).unwrap();
    bpo(setting.judge(vec![])).fails_naming(&["w.jsonl", "changed"]);
    bpo(setting.judge(arguments!["--allow-mismatch"])).succeeds().says("made again");
    assert_eq!(setting.judged().len(), 19);
}

#[test]
fn the_judge_sees_images_if_asked() {
    let setting = Setting::new();
    bpo(setting.weaken()).succeeds();
    fs::write(setting.at("bpo.toml"), "[judge]\nannotation = false\n").unwrap();
    let more = arguments!["--judge-images", "--config", setting.at("bpo.toml")];
    bpo(setting.judge(more)).succeeds();
    for request in setting.judged() {
        let image = request["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap();
        assert!(image.starts_with("data:image/png;base64,"));
        assert!(!text(&request).contains("A thing is at place"));
    }
}

#[test]
fn a_flag_switches_off_what_the_file_switches_on() {
    let setting = Setting::new();
    bpo(setting.weaken()).succeeds();
    fs::write(setting.at("bpo.toml"), "[judge]\nimages = true\n").unwrap();
    let more = arguments!["--judge-images=false", "--config", setting.at("bpo.toml")];
    bpo(setting.judge(more)).succeeds();
    assert!(!setting.judged().is_empty());
    assert!(setting.judged().iter().all(|request| !request.to_string().contains("image_url")));
}

#[test]
fn flags_of_a_judge_without_a_use_are_refused() {
    let setting = Setting::new();
    let pair = arguments!["pair", "--data", setting.at("llava.json"), "--answers", setting.at("w.jsonl")];
    let accept = arguments!["--out", setting.at("p.jsonl"), "--accept-from", "4"];
    bpo([pair, accept].concat()).refuses_naming(&["`judge.accept_from`", "revised"]);
    let own = [setting.judge(vec![]), arguments!["--chosen", "own"]].concat();
    bpo(own).refuses_naming(&["`judge.server`", "judged"]);
    let annotated = arguments!["judge", "--chosen", "annotated", "--answers", setting.at("w.jsonl")];
    bpo([annotated, arguments!["--out", setting.at("j.jsonl")]].concat())
        .refuses_naming(&["bpo judge", "--accept-from"]);
    bpo([arguments!["judge"], setting.data()].concat()).refuses_naming(&["--answers", "--out"]);
}

/// The scores of one shard, which `--allow-mismatch` accepts, are not taken for those of all.
#[test]
fn a_judged_shard_stays_a_shard() {
    let setting = Setting::new();
    fs::write(setting.at("bpo.toml"), "[weaken]\nbatch_size = 1\n").unwrap();
    let config = arguments!["--config", setting.at("bpo.toml")];
    bpo([setting.weaken(), config.clone(), arguments!["--shard", "1/2"]].concat()).succeeds();
    bpo(setting.judge(config.clone())).fails_naming(&["2/2", "bpo weaken"]);
    bpo(setting.judge([config, arguments!["--allow-mismatch"]].concat())).succeeds();
    let files = arguments!["pair", "--answers", setting.at("j.jsonl"), "--out", setting.at("pairs.jsonl")];
    bpo([files.clone(), setting.data()].concat()).fails_naming(&["shard 2/2", "is missing"]);
    bpo([files, setting.data(), arguments!["--allow-mismatch"]].concat()).succeeds();
}

#[test]
fn images_that_the_judge_does_not_see_are_named() {
    let setting = Setting::new();
    bpo(setting.weaken()).succeeds();
    bpo(setting.judge(vec![])).succeeds().says("--judge-images");
}

/// The tiny model cannot follow instructions, so none of its replies is a judgment.
#[cfg(feature = "flex")]
#[test]
fn the_model_itself_can_be_the_judge() {
    let setting = Setting::new();
    bpo(setting.weaken()).succeeds();
    fs::write(setting.at("bpo.toml"), "[judge]\nmax_new_tokens = 4\n").unwrap();
    let model = arguments!["judge", "--model", crate::common::tiny(), "--config", setting.at("bpo.toml")];
    let files = arguments!["--answers", setting.at("w.jsonl"), "--out", setting.at("j.jsonl")];
    bpo([model, files, setting.data()].concat()).fails_naming(&["`judge.max_new_tokens`"]);
    assert_eq!(fs::read(setting.at("j.jsonl")).unwrap(), b"");
}
