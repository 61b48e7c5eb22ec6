//! `bpo eval` with the questions of benchmarks, which need no model.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{Outcome, bpo};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file of JSON lines.
    fn write(&self, name: &str, lines: &[Value]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        path
    }
}

/// AMBER's files with three questions, and answers to them.
struct Amber {
    files: Files,
    questions: PathBuf,
    annotations: PathBuf,
}

impl Amber {
    fn new() -> Self {
        let files = Files::new();
        let asked =
            |id: u64| json!({"id": id, "image": format!("AMBER_{id}.jpg"), "query": format!("Is it {id}?")});
        let known = |id: u64, kind: &str, truth: &str| json!({"id": id, "type": kind, "truth": truth});
        let questions = files.write("query.json", &[asked(1005), asked(1006), asked(1007)]);
        let annotations = files.write(
            "annotations.json",
            &[
                json!({"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["dog"]}),
                known(1005, "discriminative-attribute-state", "yes"),
                known(1006, "discriminative-hallucination", "no"),
                known(1007, "relation", "no"),
            ],
        );
        Self { files, questions, annotations }
    }

    fn answers(&self, name: &str, texts: [&str; 3]) -> PathBuf {
        let answer = |(i, text)| json!({"id": 1005 + i, "response": text});
        self.files.write(name, &texts.into_iter().enumerate().map(answer).collect::<Vec<_>>())
    }

    fn eval(&self, answers: &[&PathBuf], flags: &[&str]) -> Outcome {
        let files =
            arguments!["eval", "amber", "--questions", &self.questions, "--annotations", &self.annotations];
        let answers = answers.iter().flat_map(|path| arguments!["--answers", path]);
        let flags = flags.iter().flat_map(|flag| arguments![flag]);
        bpo(files.into_iter().chain(answers).chain(flags).collect::<Vec<_>>())
    }
}

#[test]
fn amber_scores_each_kind_and_compares_files() {
    let amber = Amber::new();
    let before = amber.answers("before", ["Yes", "Yes", "No"]);
    let after = amber.answers("after", ["Yes", "No", "No"]);
    let outcome = amber.eval(&[&after], &[]).succeeds().says("existence accuracy");
    let report = &outcome.lines()[0];
    // what the published script prints for one question: 1 / 1.001
    assert!((report["existence"]["accuracy"]["value"].as_f64().unwrap() - 0.999).abs() < 1e-4);
    assert_eq!((&report["number"], &report["unclear"]), (&Value::Null, &json!(0)));
    assert!(!outcome.stderr.contains("number accuracy"), "{}", outcome.stderr);

    let lines = amber.eval(&[&before, &after], &[]).succeeds().says("differences from").lines();
    let difference = &lines[1]["differences"]["existence"]["accuracy"];
    assert!((difference["value"].as_f64().unwrap() - 0.999).abs() < 1e-4, "{difference}");
    assert_eq!(lines[1]["differences"]["state"]["accuracy"]["value"], 0.0);

    let missing = amber.files.write("missing", &[json!({"id": 1005, "response": "Yes"})]);
    let outcome = amber.eval(&[&missing], &[]).fails_naming(&["2 questions have no answer (1006, 1007)"]);
    assert_eq!(outcome.stdout, "");
    let other = amber.files.write("other.json", &[json!({"id": 1, "type": "relation", "truth": "no"})]);
    let other = Amber { annotations: other, ..amber };
    other.eval(&[&before], &[]).fails_naming(&["query.json: record 1", "other.json has no annotation"]);
}

#[test]
fn amber_scores_descriptions_by_their_nouns() {
    let files = Files::new();
    let asked =
        |id: u64| json!({"id": id, "image": format!("AMBER_{id}.jpg"), "query": "Describe this image."});
    let questions = files.write("query.json", &[asked(1), asked(2)]);
    let known = |id: u64| json!({"id": id, "type": "generative", "truth": ["dog"], "hallu": ["wolf"]});
    let annotations = files.write("annotations.json", &[known(1), known(2)]);
    let relation = files.write("relation.json", &[json!({"dog": ["puppy"], "wolf": [], "cup": []})]);
    let text = |name: &str, text: &str| {
        let path = files.write(name, &[]);
        fs::write(&path, text).unwrap();
        path
    };
    let (safe, vectors) =
        (text("safe.txt", "cup\n"), text("vectors.txt", "dog 1 0\nwolf 0 1\npuppy 1 0.1\n"));
    let described = |id: u64, nouns: Value| json!({"id": id, "response": "An image.", "nouns": nouns});
    let before = files.write("before", &[described(1, json!(["wolf", "sky"])), described(2, json!(["dog"]))]);
    let after = files.write("after", &[described(1, json!(["dog", "cup"])), described(2, json!(["puppy"]))]);
    let eval = |answers: &[&PathBuf], more: Vec<std::ffi::OsString>| {
        let answers = answers.iter().flat_map(|path| arguments!["--answers", path]);
        let files = arguments!["eval", "amber", "--questions", &questions, "--annotations", &annotations];
        bpo(files.into_iter().chain(answers).chain(more).collect::<Vec<_>>())
    };
    let words = arguments!["--relation", &relation, "--safe-words", &safe, "--vectors", &vectors];
    let lines = eval(&[&before, &after], words.clone())
        .succeeds()
        .says("Cover")
        .says("warning: 1 word of relation.json has no vector, and no similar word: cup")
        .lines();
    let value = |report: &Value, metric: &str| report[metric]["value"].as_f64().unwrap();
    let report = &lines[0]["report"];
    assert!((value(report, "chair") - 1.0 / 2.001).abs() < 1e-12, "{report}");
    assert!((value(report, "cog") - 1.0 / 2.001).abs() < 1e-12, "{report}");
    assert!((value(&lines[1]["differences"], "hal") + 1.0 / 2.001).abs() < 1e-12);
    let none = files.write("none", &[described(1, json!(["sky"])), described(2, json!([]))]);
    eval(&[&none], words.clone()).succeeds().says("warning: no answer has a noun of relation.json");
    eval(&[&before], vec![]).fails_naming(&["all questions are of the generative task"]);
    assert_eq!(eval(&[&before], arguments!["--relation", &relation]).code, Some(2));
    assert_eq!(eval(&[&before], [words.clone(), arguments!["--first-word"]].concat()).code, Some(2));
    let bare = files.write("bare", &[json!({"id": 1, "response": "A dog."}), described(2, json!([]))]);
    eval(&[&bare], words).fails_naming(&["bare: record 1: none of the keys nouns"]);
}

#[test]
fn amber_counts_unclear_answers() {
    let amber = Amber::new();
    let answers = amber.answers("answers", ["Yes", "No, there is none.", "I cannot tell."]);
    let exact = amber
        .eval(&[&answers], &[])
        .succeeds()
        .says("warning: 2 of 3 answers unclear under the published rule, such as \"No, there is none.\"");
    assert_eq!(exact.lines()[0]["existence"]["accuracy"]["value"], 0.0);
    let first = amber
        .eval(&[&answers], &["--first-word"])
        .succeeds()
        .says("warning: 1 of 3 answers unclear by their first word, such as \"I cannot tell.\"");
    assert_ne!(first.lines()[0]["existence"]["accuracy"]["value"], 0.0);
    let none = amber.answers("none", ["yes", "no", "no"]);
    amber.eval(&[&none], &[]).fails_naming(&["none of 3 answers is read as yes or no"]);
}

#[test]
fn ranked_lists_are_scored_and_compared() {
    let files = Files::new();
    let asked = |id: u64, label: &str| json!({"id": id, "prompt": "Which film?", "label": label});
    let questions = files.write("questions", &[asked(1, "Alien"), asked(2, "Brazil")]);
    let answers = |name: &str, texts: [&str; 2]| {
        let answer = |(i, text)| json!({"id": i + 1, "text": text});
        files.write(name, &texts.into_iter().enumerate().map(answer).collect::<Vec<_>>())
    };
    let eval = |answers: &[&PathBuf], flags: Vec<std::ffi::OsString>| {
        let answers = answers.iter().flat_map(|path| arguments!["--answers", path]);
        let questions = arguments!["eval", "ranking", "--questions", &questions];
        bpo(questions.into_iter().chain(answers).chain(flags).collect::<Vec<_>>())
    };
    let before = answers("before", ["\"Brazil\"\n\"Alien\"", ""]);
    let after = answers("after", ["\"Alien\"\n\"Brazil\"", "Alien"]);
    let outcome =
        eval(&[&before], vec![]).succeeds().says("HR@3").says("warning: 1 of 2 answers without an item");
    assert_eq!(outcome.lines()[0]["hit_rate"]["value"], 0.5);
    let lines = eval(&[&before, &after], arguments!["--k", "1"]).succeeds().says("NDCG@1").lines();
    assert_eq!((&lines[0]["report"]["ndcg"]["value"], &lines[0]["report"]["k"]), (&json!(0.0), &json!(1)));
    assert_eq!(lines[1]["differences"]["ndcg"]["value"], 0.5);
    assert_eq!(eval(&[&before], arguments!["--k", "0"]).code, Some(2));
    let numbered = answers("numbered", ["1. Alien", "1. Brazil"]);
    eval(&[&numbered], vec![]).succeeds().says("warning: no answer lists the item of its label");
    let one = files.write("one", &[json!({"id": 1, "text": "Alien"})]);
    eval(&[&one], vec![]).fails_naming(&["1 questions have no answer (2)"]);
}

#[test]
fn auc_of_answers_and_of_scores() {
    let files = Files::new();
    let labels = ["Yes", "No", "Yes", "No"];
    let asked =
        |(i, label): (usize, &str)| json!({"id": i, "prompt": "Will the user like it?", "label": label});
    let questions = files.write("questions", &labels.into_iter().enumerate().map(asked).collect::<Vec<_>>());
    let answers = |name: &str, key: &str, values: [Value; 4]| {
        let answer = |(i, value)| json!({"id": i, key: value});
        files.write(name, &values.into_iter().enumerate().map(answer).collect::<Vec<_>>())
    };
    let eval = |answers: &[&PathBuf], flags: Vec<std::ffi::OsString>| {
        let answers = answers.iter().flat_map(|path| arguments!["--answers", path]);
        let questions = arguments!["eval", "auc", "--questions", &questions];
        bpo(questions.into_iter().chain(answers).chain(flags).collect::<Vec<_>>())
    };
    let texts = answers("texts", "text", ["yes", "No", "Yes, surely.", "YES"].map(Value::from));
    let outcome = eval(&[&texts], vec![])
        .succeeds()
        .says("warning: 1 of 4 answers unclear under the published rule, such as \"Yes, surely.\"");
    assert_eq!(
        (&outcome.lines()[0]["auc"]["value"], &outcome.lines()[0]["unclear"]),
        (&json!(0.75), &json!(1))
    );
    let outcome = eval(&[&texts], arguments!["--first-word"]).succeeds();
    assert_eq!(outcome.lines()[0]["unclear"], 0);
    let scores = answers("scores", "score", [0.9, 0.1, 0.8, 0.2].map(Value::from));
    eval(&[&scores], arguments!["--first-word"])
        .fails_naming(&["scores: the answers are numbers", "no effect"]);
    let lines = eval(&[&texts, &scores], vec![]).succeeds().says("AUC").lines();
    assert_eq!(lines[1]["differences"]["auc"]["value"], 0.25);
    let same = answers("same", "text", ["yes", "?", "yes", "?"].map(Value::from));
    let outcome = eval(&[&same], vec![]).succeeds().says("warning: there is no AUC");
    assert_eq!(outcome.lines()[0]["auc"]["value"], Value::Null);
}

#[test]
fn extracted_objects_are_scored_and_compared() {
    let files = Files::new();
    let answer = |image: &str, objects: Value| json!({"image": image, "text": "An answer of five words.", "objects": objects});
    let truth = files.write(
        "truth",
        &[json!({"image": "a", "objects": ["dog"]}), json!({"image": "b", "objects": ["cup"]})],
    );
    let before = files.write("before", &[answer("a", json!(["dogs", "cups"])), answer("b", json!(["sky"]))]);
    let after =
        files.write("after", &[answer("b", json!(["cups", "wooden cup"])), answer("a", json!(["dog"]))]);
    let eval = |answers: &[&PathBuf], flags: &[&str]| {
        let answers = answers.iter().flat_map(|path| arguments!["--answers", path]);
        let flags = flags.iter().flat_map(|flag| arguments![flag]);
        let truth = arguments!["eval", "chair", "--truth", &truth];
        bpo(truth.into_iter().chain(answers).chain(flags).collect::<Vec<_>>())
    };
    let lines = eval(&[&before, &after], &["--extracted"])
        .succeeds()
        .says("before: 1 name is not in the table and not counted: sky")
        .says("after: 1 name is not in the table and not counted: wooden cup")
        .lines();
    let report = &lines[0]["report"];
    // one of two answers, and the only one with an object
    assert_eq!((&report["chair_s"]["value"], &report["chair_s_naming"]["value"]), (&json!(0.5), &json!(1.0)));
    assert_eq!(lines[1]["differences"]["chair_i"]["value"], -0.5);
    // the texts name no object
    eval(&[&before], &[]).succeeds().says("warning: no answer mentions an object");
    let texts = files.write("texts", &[json!({"image": "a", "text": "A dog."})]);
    eval(&[&texts], &["--extracted"]).fails_naming(&["texts: record 1: none of the keys objects"]);
}
