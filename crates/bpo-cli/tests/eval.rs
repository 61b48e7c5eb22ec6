//! `bpo eval`: files to figures.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{bpo, photos, tiny};

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
        .fails_naming(&["1 scored, 1 answers about images", "b.png"]);
    assert_eq!(outcome.lines()[0]["items"], 1);
    let none = file("none.jsonl", "{\"image\": \"b.png\", \"text\": \"?\"}\n");
    bpo(arguments!["eval", "chair", "--answers", &none, "--truth", &truth])
        .fails_naming(&["nothing to score"]);
    bpo(arguments!["eval", "chair", "--answers", dir.path().join("gone"), "--truth", &truth])
        .fails_naming(&["gone"]);
}

#[test]
fn answers_of_generate_are_scored_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    fs::write(&questions, "{\"id\": \"7\", \"image\": \"cat.jpg\", \"prompt\": \"Is there a cat?\"}\n")
        .unwrap();
    let answers = answered(&questions);
    let truth = dir.path().join("truth.jsonl");
    fs::write(&truth, "{\"image\": \"cat.jpg\", \"objects\": [\"cat\"]}\n").unwrap();
    bpo(arguments!["eval", "chair", "--answers", &answers, "--truth", &truth]).succeeds();

    let asked = dir.path().join("pope.jsonl");
    fs::write(&asked, "{\"question_id\": 7, \"image\": \"cat.jpg\", \"text\": \"?\", \"label\": \"yes\"}\n")
        .unwrap();
    let report = &bpo(arguments!["eval", "pope", "--questions", &asked, "--answers", &answers])
        .succeeds()
        .says("answers yes")
        .lines()[0];
    assert_eq!(report["items"], 1);
}

#[test]
fn questions_are_made_answered_and_scored() {
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
    let model = arguments!["generate", "--model", tiny(), "--images", photos(), "--max-new-tokens", "4"];
    let made = bpo(model.into_iter().chain(arguments!["--questions", questions])).succeeds();
    let answers = questions.with_file_name("answers.jsonl");
    fs::write(&answers, &made.stdout).unwrap();
    answers
}
