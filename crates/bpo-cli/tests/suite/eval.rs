//! `bpo eval`: metrics of answers in files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{bpo, generate};

#[test]
fn chair_of_answers_about_known_images() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let truth = file("truth.jsonl", "{\"image\": \"a.png\", \"objects\": [\"cup\", \"fork\"]}\n");
    let answers = file("answers.jsonl", "{\"image\": \"a.png\", \"text\": \"A cup and two dogs.\"}\n");
    let objects = file("objects.txt", "cup, mug\nfork\ndog\n");
    let report =
        &bpo(arguments!["eval", "chair", "--answers", &answers, "--truth", &truth, "--objects", &objects])
            .succeeds()
            .says("CHAIR_i")
            .lines()[0];
    assert_eq!(report["chair_i"]["value"], 0.5);
    assert_eq!(report["recall"]["value"], 0.5);
    // without a table the objects are those of the truth, and a dog is none
    let report =
        &bpo(arguments!["eval", "chair", "--answers", &answers, "--truth", &truth]).succeeds().lines()[0];
    assert_eq!(report["chair_i"]["value"], 0.0);

    let more = file(
        "more.jsonl",
        "{\"image\": \"a.png\", \"text\": \"A cup.\"}\n{\"image\": \"b.png\", \"text\": \"?\"}\n",
    );
    let outcome = bpo(arguments!["eval", "chair", "--answers", &more, "--truth", &truth])
        .fails_naming(&["1 scored, 1 answer about images", "b.png"]);
    assert_eq!(outcome.lines()[0]["items"], 1);
    let none = file("none.jsonl", "{\"image\": \"b.png\", \"text\": \"?\"}\n");
    bpo(arguments!["eval", "chair", "--answers", &none, "--truth", &truth])
        .fails_naming(&["nothing to score"]);
    bpo(arguments!["eval", "chair", "--answers", dir.path().join("gone"), "--truth", &truth])
        .fails_naming(&["gone"]);
}

#[test]
fn several_files_are_compared_with_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, lines: &[Value]| {
        let path = dir.path().join(name);
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        path
    };
    let about = |image: &str, text: &str| json!({"image": image, "text": text});
    let truth = |image: &str| json!({"image": image, "objects": ["cup", "fork"]});
    let truth = file("truth.jsonl", &["a", "b", "c"].map(truth));
    let objects = dir.path().join("objects.txt");
    fs::write(&objects, "cup\nfork\ndog\n").unwrap();
    let before =
        file("before", &[about("a", "A dog."), about("b", "A cup and a dog."), about("c", "A cup.")]);
    // in another order
    let after = file("after", &[about("c", "A cup."), about("a", "A cup."), about("b", "A cup and a dog.")]);
    let chair = |answers: &[&PathBuf]| {
        let flags = answers.iter().flat_map(|path| arguments!["--answers", path]);
        let truth = arguments!["--truth", &truth, "--objects", &objects];
        bpo(arguments!["eval", "chair"].into_iter().chain(flags).chain(truth).collect::<Vec<_>>())
    };
    let outcome = chair(&[&before, &after, &before]).succeeds().says("differences from");
    let lines = outcome.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["answers"], before.to_str().unwrap());
    assert_eq!(lines[0]["report"], chair(&[&before]).lines()[0]);
    assert!(lines[0]["differences"].is_null());
    // false mentions: 2 of 4, then 1 of 4
    assert_eq!(lines[1]["differences"]["chair_i"]["value"], -0.25);
    assert!((lines[1]["differences"]["recall"]["value"].as_f64().unwrap() - 1.0 / 6.0).abs() < 1e-12);
    assert_eq!(lines[2]["differences"]["chair_i"], json!({"value": 0.0, "low": 0.0, "high": 0.0}));
    let other = file("other", &[about("a", "A cup.")]);
    chair(&[&before, &other]).fails_naming(&["before", "other", "3 and 1 answers", "b differs"]);
    let unknown = file("unknown", &[about("a", "A cup."), about("x", "A cup.")]);
    chair(&[&other, &unknown])
        .fails_naming(&["1 answer about images that are not in the truth in", "unknown"]);

    let asked =
        |id: u64, label: &str| json!({"question_id": id, "image": "a", "text": "Is it?", "label": label});
    let questions = file("questions", &[asked(1, "yes"), asked(2, "no")]);
    let says = |name: &str, texts: [&str; 2]| {
        let answer = |(id, text): (usize, &str)| json!({"question_id": id + 1, "text": text});
        file(name, &texts.into_iter().enumerate().map(answer).collect::<Vec<_>>())
    };
    let (yes, right) = (says("yes", ["Yes", "Yes"]), says("right", ["Yes", "No"]));
    let answers = arguments!["--answers", &yes, "--answers", &right];
    let pope = arguments!["eval", "pope", "--questions", &questions].into_iter().chain(answers);
    let lines = bpo(pope.collect::<Vec<_>>()).succeeds().says("are in points").lines();
    assert_eq!(lines[1]["differences"]["accuracy"]["value"], 0.5);
    assert_eq!(lines[1]["differences"]["yes_ratio"]["value"], -0.5);
}

#[test]
fn answers_of_generate_can_be_scored() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    // as LLaVA's files of POPE's questions have it
    let asked = r#"{"question_id": 7, "image": "cat.jpg", "text": "Is there a cat?\nAnswer yes or no.", "category": "popular"}"#;
    fs::write(&questions, asked).unwrap();
    let answers = answered(&questions);
    let truth = dir.path().join("truth.jsonl");
    fs::write(&truth, "{\"image\": \"cat.jpg\", \"objects\": [\"cat\"]}\n").unwrap();
    bpo(arguments!["eval", "chair", "--answers", &answers, "--truth", &truth]).succeeds();

    let asked = dir.path().join("pope.jsonl");
    let ask = |question: &str| {
        let line = format!(
            "{{\"question_id\": 7, \"image\": \"cat.jpg\", \"text\": \"{question}\", \"label\": \"yes\"}}\n"
        );
        fs::write(&asked, line).unwrap();
    };
    let pope = || bpo(arguments!["eval", "pope", "--questions", &asked, "--answers", &answers]);
    ask("Is there a cat?");
    // the tiny model knows no words
    pope().fails_naming(&["answers.jsonl", "none of 1 answers is read as yes or no"]);
    says(&answers, "Yes.");
    let report = &pope().succeeds().says("yes ratio").lines()[0];
    assert_eq!((&report["items"], &report["unclear"]), (&1.into(), &0.into()));
    bpo(arguments![
        "eval",
        "pope",
        "--questions",
        &asked,
        "--answers",
        &answers,
        "--resamples",
        "1000000000"
    ])
    .refuses_naming(&["`--resamples` is 1000000000, above the limit of 1000000"]);
    // what generate asked is compared with the question
    ask("Is there a dog?");
    let outcome = pope().fails_naming(&["answers.jsonl: record 1", "Is there a cat?", "Is there a dog?"]);
    assert_eq!(outcome.stdout, "");
}

#[test]
fn unclear_answers_cause_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let asked =
        file("asked.jsonl", "{\"image\": \"a\", \"text\": \"Dog?\", \"label\": \"no\"}\n".repeat(3).as_str());
    let answers = file(
        "answers.jsonl",
        "{\"answer\": \"No!\"}\n{\"answer\": \"No\"}\n{\"answer\": \"No.\", \"response\": \"No, none.\"}\n",
    );
    let report = &bpo(arguments!["eval", "pope", "--questions", &asked, "--answers", &answers])
        .succeeds()
        .says("warning: 1 of 3 answers unclear under the published rule, such as \"No!\"")
        .lines()[0];
    assert_eq!((&report["unclear"], &report["yes_ratio"]["value"]), (&1.into(), &(1.0 / 3.0).into()));

    let two = file("two.jsonl", "{\"answer\": \"No\", \"prediction\": \"Yes\"}\n".repeat(3).as_str());
    bpo(arguments!["eval", "pope", "--questions", &asked, "--answers", two])
        .fails_naming(&["two.jsonl: record 1: answer and prediction are different answers"]);
}

#[test]
fn chair_as_published_equals_the_published_scorer() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let truth = file("truth.jsonl", "{\"image\": \"a.png\", \"objects\": [\"dog\"]}\n");
    let answers = file("answers.jsonl", "{\"image\": \"a.png\", \"text\": \"A dog in a bus.\"}\n");
    let objects = file("synonyms.txt", "dog, puppy\nbus, minibus\n");
    let chair = arguments!["eval", "chair", "--answers", &answers, "--truth", &truth];
    let with = |more: Vec<std::ffi::OsString>| bpo(chair.clone().into_iter().chain(more));
    let ours = &with(arguments!["--objects", &objects]).succeeds().lines()[0];
    assert_eq!(ours["chair_i"]["value"], 0.5);
    // the published rules make "bu" of a bus
    let published = &with(arguments!["--objects", &objects, "--as-published"]).succeeds().lines()[0];
    assert_eq!(published["chair_i"]["value"], 0.0);
    assert_eq!(with(arguments!["--as-published"]).code, Some(2));

    let empty = file("empty.txt", "\n");
    with(arguments!["--objects", &empty]).fails_naming(&["empty.txt: no object in the file"]);
    let panoptic = file(
        "panoptic_val2017.json",
        "{\"images\": [], \"categories\": [], \"annotations\": [{\"image_id\": 1, \"segments_info\": []}]}",
    );
    bpo(arguments!["eval", "chair", "--answers", &answers, "--coco", &panoptic]).fails_naming(&[
        "panoptic_val2017.json",
        "panoptic file",
        "instances_*.json",
    ]);
}

#[test]
fn pope_questions_are_generated_answered_and_scored() {
    let dir = tempfile::tempdir().unwrap();
    let (truth, asked) = (dir.path().join("truth.jsonl"), dir.path().join("pope.jsonl"));
    let shown =
        |image: &str, objects: &str| format!("{{\"image\": \"{image}\", \"objects\": [{objects}]}}\n");
    fs::write(&truth, shown("cat.jpg", "\"cat\"") + &shown("coffee.jpg", "\"cup\", \"spoon\"")).unwrap();
    for negatives in ["random", "popular", "adversarial"] {
        let made =
            bpo(arguments!["eval", "questions", "--truth", &truth, "--negatives", negatives]).succeeds();
        // one object of the first image and two absent ones, two of the second and one absent
        assert_eq!(made.lines().len(), 4);
        fs::write(&asked, &made.stdout).unwrap();
    }
    let answers = answered(&asked);
    says(&answers, "Yes.");
    let report =
        &bpo(arguments!["eval", "pope", "--questions", &asked, "--answers", &answers]).succeeds().lines()[0];
    assert_eq!(report["items"], 4);

    bpo(arguments!["eval", "questions", "--truth", &truth, "--negatives", "hard"])
        .code
        .filter(|code| *code == 2)
        .unwrap();
    fs::write(&truth, shown("cat.jpg", "\"cat\"")).unwrap();
    bpo(arguments!["eval", "questions", "--truth", &truth]).fails_naming(&["each shows all of them"]);
}

/// The tiny model's answers to questions, in a file beside them.
fn answered(questions: &Path) -> PathBuf {
    let made = generate(questions, arguments!["--max-new-tokens", "4"]).succeeds();
    let answers = questions.with_file_name("answers.jsonl");
    fs::write(&answers, &made.stdout).unwrap();
    answers
}

/// Puts another text into every answer of a file.
fn says(answers: &Path, text: &str) {
    let lines = fs::read_to_string(answers).unwrap();
    let lines = lines.lines().map(|line| {
        let mut answer: serde_json::Value = serde_json::from_str(line).unwrap();
        answer["text"] = text.into();
        answer.to_string() + "\n"
    });
    fs::write(answers, lines.collect::<String>()).unwrap();
}
