//! `bpo eval mm-vet` and `bpo eval mmhal`: answers that a judge behind a server grades.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::common::vlm_server::{Reply, VlmServer};
use crate::common::{Outcome, bpo, read_lines};

/// A directory, and a judge whose reply is what stands after `say ` in the prompt.
struct Setting {
    dir: tempfile::TempDir,
    server: VlmServer,
    /// Whether the server refuses all requests for load after the first two.
    is_busy: Arc<AtomicBool>,
}

impl Setting {
    fn new() -> Self {
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        let server = VlmServer::start(move |number, request| {
            let said = text(request).rsplit("say ").next().unwrap_or_default().lines().next();
            match said.unwrap_or_default() {
                _ if busy.load(Ordering::SeqCst) && number >= 2 => Reply::Status(503, ""),
                "refused" => Reply::Status(400, ""),
                said => Reply::Text(format!("<think>1.0 Rating: 1</think>{said}")),
            }
        });
        Self { dir: tempfile::tempdir().unwrap(), server, is_busy }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl ToString) -> PathBuf {
        fs::write(self.at(name), text.to_string()).unwrap();
        self.at(name)
    }

    /// MM-Vet's questions, and answers to them.
    fn questions(&self) -> PathBuf {
        let asked = |number: u64, needs: Value| json!({"imagename": "a.png", "question": format!("What is {number}?"), "answer": "-1<AND>-5", "capability": needs});
        let questions = json!({
            "v1_0": asked(0, json!(["ocr", "math"])), "v1_1": asked(1, json!(["ocr"])), "v1_2": asked(2, json!(["rec"])),
        });
        self.write("mm-vet.json", questions)
    }

    fn answers(&self, name: &str, says: [&str; 3]) -> PathBuf {
        let [zero, one, two] = says.map(|says| format!("I say {says}"));
        self.write(name, json!({"v1_0": zero, "v1_1": one, "v1_2": two}))
    }

    /// A command with the judge.
    fn graded(&self, command: Vec<OsString>, more: Vec<OsString>) -> Outcome {
        let judge = arguments!["--judge-server", self.server.url.clone(), "--judge-model", "big"];
        bpo([command, judge, more].concat())
    }

    fn mm_vet(&self, files: &[(&str, &str)], more: Vec<OsString>) -> Outcome {
        let mut command = arguments!["eval", "mm-vet", "--questions", self.questions()];
        for (answers, grades) in files {
            command.extend(arguments!["--answers", self.at(answers), "--out", self.at(grades)]);
        }
        self.graded(command, more)
    }
}

fn text(request: &Value) -> &str {
    request["messages"][0]["content"].as_str().unwrap()
}

#[test]
fn answers_to_mm_vet_are_graded_once() {
    let setting = Setting::new();
    setting.answers("answers.json", ["0.5", "**1.0**", "0"]);
    let grade = || setting.mm_vet(&[("answers.json", "g.jsonl")], arguments!["--runs", "2"]);
    let outcome = grade().succeeds().says("prompt: our own, so the scores cannot be compared");
    let report = &outcome.says("exactly ocr_math").says("std (runs)").lines()[0];
    assert_eq!(
        (&report["total"]["score"]["value"], &report["total"]["published"]),
        (&json!(0.5), &json!(50.0))
    );
    assert_eq!((&report["runs"], &report["std"]), (&json!([50.0, 50.0]), &json!(0.0)));
    assert_eq!(
        (&report["capabilities"][0]["name"], &report["capabilities"][0]["published"]),
        (&json!("ocr"), &json!(75.0))
    );
    let requests = setting.server.requests();
    assert_eq!(requests.len(), 6);
    for request in &requests {
        let text = text(request);
        assert!(text.contains("Correct answer: -1 <AND> -5\nAnswer to grade: I say "), "{text}");
        assert_eq!((&request["model"], &request["temperature"]), (&json!("big"), &json!(0.0)));
    }
    let lines = read_lines(setting.at("g.jsonl"));
    assert_eq!(lines.len(), 6);
    assert!(
        lines
            .iter()
            .any(|line| line["id"] == "v1_1" && line["variant"] == 1 && line["judgment"]["score"] == 1.0)
    );
    // the same command asks nothing, and a changed answer is graded again
    assert_eq!(grade().succeeds().lines()[0], *report);
    assert_eq!(setting.server.requests().len(), 6);
    setting.answers("answers.json", ["0.5", "**1.0**", "1"]);
    assert_eq!(grade().succeeds().says("made again").lines()[0]["total"]["published"], 83.3);
    assert_eq!(setting.server.requests().len(), 8);
    // fewer runs would drop grades
    setting
        .mm_vet(&[("answers.json", "g.jsonl")], vec![])
        .refuses_naming(&["`--runs`", "1, and 2 in the file"]);
    assert_eq!(read_lines(setting.at("g.jsonl")).len(), 6);
    // grades of another prompt, judge or question do not mix
    let prompt = setting.write("prompt.txt", "{{ annotation }} {{ answer }}");
    let files = [("answers.json", "g.jsonl")];
    let twice = |more: Vec<OsString>| setting.mm_vet(&files, [arguments!["--runs", "2"], more].concat());
    twice(arguments!["--prompt", prompt]).fails_naming(&["g.jsonl", "the prompt changed", "another --out"]);
    twice(arguments!["--judge-model", "other"]).fails_naming(&["`judge.server.model`", "other"]);
    assert_eq!(setting.server.requests().len(), 8);
}

#[test]
fn the_prompt_of_a_file_is_sent_as_it_is() {
    let setting = Setting::new();
    setting.answers("answers.json", ["0.5 or so", "0.5\n", "about 0.5"]);
    // as MM-Vet's script joins its prompt and the answer
    let prompt = setting.write("prompt.txt", "Grade.\n\n{{ question }} | {{ annotation }} | {{ answer }} | ");
    let outcome = setting.mm_vet(&[("answers.json", "g.jsonl")], arguments!["--prompt", prompt]);
    // the judge repeats the rest of the line
    let outcome = outcome.fails_naming(&["2 answers graded, 1 without a grade and left out: v1_2"]);
    assert!(!outcome.stderr.contains("prompt: our own"), "{}", outcome.stderr);
    let outcome = outcome.says("skipped: v1_2: ").says("no grade from 0 to 1, or several: \"about 0.5 |");
    let report = &outcome.lines()[0];
    assert_eq!((&report["items"], &report["ungraded"]), (&json!(2), &json!(["v1_2"])));
    let mut sent: Vec<String> =
        setting.server.requests().iter().map(|request| text(request).to_owned()).collect();
    sent.sort();
    let expected =
        |i: usize, answer: &str| format!("Grade.\n\nWhat is {i}? | -1 <AND> -5 | I say {answer} | ");
    assert_eq!(sent, [expected(0, "0.5 or so"), expected(1, "0.5\n"), expected(2, "about 0.5")]);
}

#[test]
fn a_stopped_grading_continues() {
    let setting = Setting::new();
    setting.answers("answers.json", ["0.5", "1", "refused"]);
    let config = setting.write(
        "bpo.toml",
        format!(
            "[judge.server]\nbase_url = \"{}\"\nmodel = \"big\"\nmax_retries = 0\nmax_concurrency = 1\n",
            setting.server.url
        ),
    );
    let grade = |more: Vec<OsString>| {
        let command = arguments![
            "eval",
            "mm-vet",
            "--questions",
            setting.questions(),
            "--answers",
            setting.at("answers.json")
        ];
        bpo([command, arguments!["--out", setting.at("g.jsonl"), "--config", &config], more].concat())
    };
    setting.is_busy.store(true, Ordering::SeqCst);
    let stopped = grade(vec![]).fails_naming(&["503"]);
    assert_eq!((stopped.stdout.as_str(), read_lines(setting.at("g.jsonl")).len()), ("", 2));
    setting.is_busy.store(false, Ordering::SeqCst);
    let asked = setting.server.requests().len();
    let refused = grade(vec![]).fails_naming(&["2 answers graded, 1 without a grade and left out: v1_2"]);
    let refused = refused.says("add --retry-skipped").says("status 400");
    assert_eq!(refused.lines()[0]["total"]["published"], 75.0);
    assert_eq!(setting.server.requests().len(), asked + 1);
    // other grades of the file are kept
    grade(vec![]).fails_naming(&["left out: v1_2"]);
    assert_eq!(setting.server.requests().len(), asked + 1);
    grade(arguments!["--retry-skipped"])
        .fails_naming(&["left out: v1_2"])
        .says("1 skipped answer to try again");
    assert_eq!(setting.server.requests().len(), asked + 2);
}

#[test]
fn files_of_answers_are_compared() {
    let setting = Setting::new();
    setting.answers("before.json", ["0.5", "0", "0.5"]);
    let line = |id: &str, says: &str| json!({"id": id, "text": format!("I say {says}")}).to_string() + "\n";
    setting.write("after.jsonl", line("v1_2", "1") + &line("v1_0", "1") + &line("v1_1", "0"));
    let files = [("before.json", "b.jsonl"), ("after.jsonl", "a.jsonl")];
    let lines = setting.mm_vet(&files, vec![]).succeeds().says("differences from").lines();
    let differences = &lines[1]["differences"];
    assert!((differences["total"]["score"]["value"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(differences["combinations"][1]["name"], "ocr");

    let grades = json!({"v1_0": {"score": [0.5, 1]}, "v1_1": {"score": [0, 0]}, "v1_2": {"score": [1, 0.5]}});
    let grades = setting.write("model_gpt-4-grade-2runs.json", grades);
    let graded = arguments!["eval", "mm-vet", "--questions", setting.questions(), "--graded", &grades];
    let report = &bpo(&graded).succeeds().says("50.0 %").lines()[0];
    assert_eq!((&report["total"]["published"], &report["runs"]), (&json!(50.0), &json!([50.0, 50.0])));
    let first = bpo([graded.clone(), arguments!["--runs", "1"]].concat()).succeeds();
    assert_eq!(first.lines()[0]["runs"], json!([50.0]));
    let less = setting.write("less.json", json!({"v1_0": {"score": [0.5]}}));
    bpo(arguments!["eval", "mm-vet", "--questions", setting.questions(), "--graded", less])
        .fails_naming(&["1 answer graded, 2 without a grade and left out: v1_1, v1_2"]);
}

#[test]
fn flags_of_a_judge_must_fit() {
    let setting = Setting::new();
    let answers = setting.answers("answers.json", ["1", "1", "1"]);
    let command = arguments!["eval", "mm-vet", "--questions", setting.questions(), "--answers", &answers];
    bpo(&command).refuses_naming(&["--judge-server", "--out"]);
    let grades = arguments!["--out", setting.at("g.jsonl")];
    let with = |more: Vec<OsString>| setting.graded([command.clone(), grades.clone()].concat(), more);
    with(grades.clone()).refuses_naming(&["`--out`", "as often as --answers", "2 files"]);
    let same = setting.graded(command.clone(), arguments!["--out", &answers]);
    assert_eq!(same.code, Some(2), "{same:?}");
    assert!(fs::read_to_string(&answers).unwrap().contains("I say"));
    for (table, key) in [
        ("method = \"claims\"", "judge.method"),
        ("images = true", "judge.images"),
        ("highest = 10", "judge.highest"),
        ("prompts = \"p\"", "judge.prompts"),
    ] {
        let config = setting.write("bpo.toml", format!("[judge]\n{table}\n"));
        with(arguments!["--config", config]).refuses_naming(&[key, "--prompt"]);
    }
    let prompt = setting.write("p.txt", "{{ answer }}");
    with(arguments!["--prompt", prompt]).fails_naming(&["--prompt", "`annotation`"]);
    assert_eq!(with(arguments!["--graded", &answers]).code, Some(2));
    assert_eq!(setting.server.requests().len(), 0);
    bpo([command, grades, arguments!["--judge-model", "m"]].concat())
        .refuses_naming(&["`--judge-model`", "alone"]);
}

#[test]
fn answers_to_mmhal_are_rated() {
    let setting = Setting::new();
    let kinds = ["attribute", "adversarial", "comparison", "counting"];
    let record = |(i, says): (usize, &str)| {
        json!({"question_type": kinds[i], "question_topic": "food", "image_id": format!("i{i}"), "image_src": "https://example.org",
            "image_content": ["Cat", "Mat"], "question": format!("What is {i}?"), "gt_answer": "A cat.", "model_answer": format!("I say {says}")})
    };
    let answers = |name: &str, says: [&str; 4]| {
        setting.write(name, json!(says.into_iter().enumerate().map(record).collect::<Vec<_>>()))
    };
    let mmhal = |files: &[(&PathBuf, &str)], more: Vec<OsString>| {
        let mut command = arguments!["eval", "mmhal"];
        for (answers, grades) in files {
            command.extend(arguments!["--answers", answers, "--out", setting.at(grades)]);
        }
        setting.graded(command, more)
    };
    let before = answers("before.json", ["Rating: 6, good", "Rating: 2", "rating: 1", "Rating: 3"]);
    let outcome =
        mmhal(&[(&before, "b.jsonl")], vec![]).succeeds().says("prompt: our own").says("hallucination rate");
    let report = &outcome.says("3.00 [").lines()[0];
    assert_eq!(
        (&report["score"]["value"], &report["hallucination_rate"]["value"]),
        (&json!(3.0), &json!(0.5))
    );
    assert_eq!(
        (&report["kinds"][3]["kind"], &report["kinds"][3]["score"]["value"]),
        (&json!("counting"), &json!(3.0))
    );
    for request in setting.server.requests() {
        assert!(text(&request).contains("Objects in the image: Cat, Mat\nQuestion: What is "), "{request}");
    }
    let after = answers("after.json", ["Rating: 6", "Rating: 4", "Rating: 4 or rating: 5", "5"]);
    let files = [(&before, "b.jsonl"), (&after, "a.jsonl")];
    let outcome = mmhal(&files, vec![]).fails_naming(&["after.json", "2 without a grade and left out: 3, 4"]);
    let outcome = outcome.says("no rating from 0 to 6, or several");
    assert_eq!(outcome.lines()[1]["differences"]["score"]["value"], 1.0);

    // the answers of `bpo generate`
    let lines: String = (0..4)
        .map(|i| {
            json!({"id": null, "image": format!("i{i}.jpg"), "prompt": format!("What is {i}?"),
        "text": "I say Rating: 5", "finish": "stop"})
            .to_string()
                + "\n"
        })
        .collect();
    let generated = setting.write("generated.jsonl", lines);
    let outcome = mmhal(&[(&generated, "c.jsonl")], arguments!["--questions", &before]).succeeds();
    assert_eq!(outcome.lines()[0]["score"]["value"], 5.0);

    let completion = |text: &str| json!({"choices": [{"message": {"content": text}}]});
    let replies: Vec<Value> = ["Rating: 6", "Rating: 1", "?", "Rating: 4", "?", "?", "?", "?"]
        .into_iter()
        .map(completion)
        .collect();
    let replies = setting.write("evaluation.json", json!(replies));
    let read = arguments!["eval", "mmhal", "--replies", &replies];
    bpo(&read).fails_naming(&["3 answers graded, 5 without a grade and left out: 3, 5, 6, 7, 8"]);
    let report = &bpo([read, arguments!["--as-published"]].concat()).succeeds().lines()[0];
    assert_eq!((&report["items"], &report["score"]["value"]), (&json!(8), &json!(11.0 / 8.0)));
    mmhal(&[(&before, "d.jsonl")], arguments!["--as-published"])
        .refuses_naming(&["`--as-published`", "--replies"]);
}
