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
    amber.eval(&[&none], &[]).fails_naming(&["none of 3 answers says yes or no"]);
}
