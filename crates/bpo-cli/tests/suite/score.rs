//! `bpo score`, `bpo generate` and `bpo merge`.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use crate::common::{
    bpo, command, copy_run, generate, ids, margin, photos, read_lines, score, tiny, write_pairs,
};

#[test]
fn scores_change_by_training_and_not_by_merging() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy_run(&run);
    let merged = dir.path().join("merged");
    // as shells complete it
    let mut slash = merged.clone().into_os_string();
    slash.push("/");
    bpo(arguments!["merge", "--model", tiny(), "--adapter", run.join("adapter"), "--out", slash]).succeeds();

    let scores =
        |model: &Path, more: Vec<OsString>| score(model, &run.join("pairs.jsonl"), more).succeeds().lines();
    let (before, after) =
        (scores(&tiny(), vec![]), scores(&tiny(), arguments!["--adapter", run.join("adapter")]));
    let pairs = read_lines(run.join("pairs.jsonl"));
    assert_eq!(ids(&before), ids(&pairs));
    assert_eq!(ids(&after), ids(&pairs));
    for line in before.iter().chain(&after) {
        assert!(
            line["chosen_logp"].as_f64() < Some(0.0) && line["rejected_logp"].as_f64() < Some(0.0),
            "{line}"
        );
    }
    assert!(margin(&after) > margin(&before) + 1.0, "{} {}", margin(&before), margin(&after));

    for (merged, adapted) in scores(&merged, vec![]).iter().zip(&after) {
        for key in ["chosen_logp", "rejected_logp"] {
            let (merged, adapted) = (merged[key].as_f64().unwrap(), adapted[key].as_f64().unwrap());
            assert!((merged - adapted).abs() < 1e-3, "{key}: {merged} {adapted}");
        }
    }
}

#[test]
fn pairs_in_the_authors_format_can_be_scored() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bpo.json");
    let completion = |score: f64, response: &str, kind: &str| serde_json::json!({"score": score, "response": response, "type": kind});
    let record = serde_json::json!([{
        "prompt": "<image>\nWhat is on the table?", "image": "coffee.jpg",
        "completions": [
            completion(1.0, "A red cup.", "gt"), completion(0.0, "A blue cup.", "llm-hal"),
            completion(0.0, "A dog.", "mllm-hal"),
        ],
    }]);
    fs::write(&file, record.to_string()).unwrap();
    let scores = score(&tiny(), &file, vec![]).succeeds().lines();
    assert_eq!(ids(&scores), ["0:0>1", "0:0>2"]);
    assert_eq!(scores[0]["chosen_logp"], scores[1]["chosen_logp"]);
}

#[test]
fn invalid_pairs_are_named_and_others_scored() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs.jsonl");
    write_pairs(
        &file,
        &[
            ("good", "cat.jpg", "What is it?", "A cat.", "A dog."),
            ("nothing", "cat.jpg", "What is it?", "A cat.", "  "),
            ("gone", "unicorn.jpg", "What is it?", "A cat.", "A dog."),
        ],
    );
    let outcome = score(&tiny(), &file, vec![]).fails_naming(&[
        "nothing: ",
        "empty answer",
        "gone: ",
        "unicorn.jpg",
        "1 done, 2 skipped (empty answer: 1, image missing: 1)",
    ]);
    assert_eq!(outcome.lines()[0]["id"], "good");
    assert_eq!(outcome.lines().len(), 1);
}

#[test]
fn questions_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("questions.jsonl");
    let question = |image: &str| format!("{{\"image\": \"{image}\", \"prompt\": \"What is it?\"}}\n");
    let first = "{\"id\": 7, \"image\": \"cat.jpg\", \"prompt\": \"What is it?\"}\n".to_owned();
    fs::write(&file, first.clone() + &question("coins.jpg")).unwrap();
    let ask = || generate(&file, arguments!["--max-new-tokens", "5", "--temperature", "0.9"]);
    let answers = ask().succeeds().lines();
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&"7".into(), &"1".into()));
    assert!(answers.iter().all(|answer| answer["tokens"].as_u64().unwrap() <= 5));
    assert_eq!(ask().succeeds().lines(), answers);

    // POPE's own form
    let pope =
        first.replace("\"id\"", "\"question_id\"").replace("\"prompt\"", "\"label\": \"no\", \"text\"");
    fs::write(&file, pope + &question("coins.jpg")).unwrap();
    assert_eq!(ask().succeeds().lines(), answers);

    fs::write(&file, first.replace('7', "1") + &question("coins.jpg")).unwrap();
    ask().fails_naming(&["\"1\""]);
    fs::write(&file, first + &question("unicorn.jpg")).unwrap();
    let outcome = ask().fails_naming(&["unicorn.jpg", "1 done, 1 skipped (image missing: 1)"]);
    assert_eq!(outcome.lines(), answers[..1]);
}

#[test]
fn closed_pipe_ends_the_command_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs.jsonl");
    write_pairs(&file, &[("a", "cat.jpg", "What is it?", "A cat.", "A dog.")]);
    let mut child = command(arguments!["score", "--model", tiny(), "--pairs", &file, "--images", photos()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(stderr, "");
}
