//! Data in the forms of other programs, and single records that cannot be used.

use std::fs;
use std::path::Path;

use crate::common::{
    Outcome, bpo, checkpoint, conversation, generate, ids, photos, read_lines, score, tiny, write_pairs,
};
use serde_json::{Value, json};

#[test]
fn pair_with_the_tokens_of_an_earlier_pair_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    write_pairs(
        &pairs,
        &[
            ("first", "cat.jpg", "What?", "A cat.", "A dog."),
            ("space", "cat.jpg", "What?", "A cat.", "A dog. "),
            ("other", "cat.jpg", "What?", "A cat.", "A bird."),
            ("end", "cat.jpg", "What?", "A cat.</s>", "A fish."),
            ("line", "cat.jpg", "What?", "A cat.", "A bird.\n"),
            ("image", "coins.jpg", "What?", "A cat.", "A dog. "),
        ],
    );
    let whole = score(&tiny(), &pairs, arguments!["--batch-size", "8"]);
    for outcome in [&whole, &score(&tiny(), &pairs, arguments!["--batch-size", "1"])] {
        assert_eq!(ids(&outcome.lines()), ["first", "other", "image"], "{}", outcome.stderr);
        assert!(outcome.stderr.contains("3 done, 3 skipped (same tokens as an earlier pair: 3)"));
        assert!(
            outcome.stderr.contains(
                r#"space: another answer has the same tokens as "A dog. ": "A dog." (pair "first")"#
            )
        );
    }
    let cache = dir.path().join("reference.safetensors");
    let cached = score(&tiny(), &pairs, arguments!["--cache", cache]);
    assert_eq!(ids(&cached.lines()), ["first", "other", "image"], "{}", cached.stderr);

    // the same pairs to evaluate on: a reference has what both need
    let reference = dir.path().join("training.safetensors");
    bpo(arguments![
        "train",
        "--model",
        tiny(),
        "--images",
        photos(),
        "--pairs",
        &pairs,
        "--eval-pairs",
        &pairs,
        "--reference-cache",
        reference,
        "--out",
        dir.path().join("out"),
        "--max-steps",
        "1",
        "--lora-r",
        "2"
    ])
    .succeeds()
    .says("3 pairs trained on, 6 skipped (same tokens as an earlier pair: 6)");
}

fn inject(dir: &Path, data: &[Value]) -> Outcome {
    let (file, out) = (dir.join("data.json"), dir.join("out.jsonl"));
    fs::write(&file, serde_json::to_vec(data).unwrap()).unwrap();
    bpo(arguments!["inject", "--data", file, "--out", out])
}

#[test]
fn invalid_record_is_skipped_and_a_file_of_invalid_records_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = [
        conversation("good", "What is it?", "A cat sits on a red mat."),
        json!({"id": "null", "image": "cat.jpg", "conversations": [{"from": "human", "value": null}]}),
        conversation("here", "<ImageHere>What is it?", "A cat sits on a red mat."),
        json!({"id": "two", "images": ["cat.jpg"], "messages": [{"role": "user", "content": "<image> or <image>?"}, {"role": "assistant", "content": "A."}]}),
        conversation("last", "What is there?", "A cat and a dog sit on a red mat."),
    ];
    inject(dir.path(), &data)
        .succeeds()
        .says("data: 2 samples, 3 skipped")
        .says("null: record not of the expected form: `conversations[0].value`: expected text, found null (record 2)")
        .says("`conversations[0].value`: expected <image> or no placeholder, found \"<ImageHere>\" (record 3)")
        .says("two: image token repeated or misplaced: expected <image> once, in the first question, found it 2 times (record 4)");

    let other = tempfile::tempdir().unwrap();
    inject(other.path(), &data[1..4]).fails_naming(&[
        "data.json: no sample can be used (3 skipped: ",
        "the first, null: record not of the expected form: `conversations[0].value`",
    ]);
    let pairs = other.path().join("pairs.jsonl");
    fs::write(&pairs, "{\"id\": \"a\", \"image\": null}\n").unwrap();
    score(&tiny(), &pairs, vec![]).fails_naming(&[
        "no pair can be used (1 skipped: record not of the expected form: 1); the first, a: ",
    ]);
    fs::write(&pairs, "{\"id\": \"a\"}\n\n{\"id\" \"b\"}\n").unwrap();
    let outcome = score(&tiny(), &pairs, vec![])
        .fails_naming(&["pairs.jsonl: record 2, line 3, column 7: expected `:`"]);
    assert!(!outcome.stderr.contains("at line"), "{}", outcome.stderr);
}

/// A few lines about skipped records, then a count.
#[test]
fn number_of_lines_about_skipped_records_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let bad = |number: usize| conversation(&format!("bad-{number}"), "What?", "");
    let mut data: Vec<Value> = (0..30).map(bad).collect();
    data.push(conversation("good", "What is it?", "A cat sits on a red mat."));
    let outcome = inject(dir.path(), &data).succeeds();
    assert_eq!(outcome.stderr.matches("skipped: bad-").count(), 20, "{}", outcome.stderr);
    outcome
        .says("data: 1 sample, 30 skipped (empty answer: 30)")
        .says("... 10 more skipped: RUST_LOG=info lists them");
}

#[test]
fn unreadable_question_keeps_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    let ask = |lines: &[&str]| {
        fs::write(&questions, lines.join("\n")).unwrap();
        generate(&questions, arguments!["--max-new-tokens", "2"])
    };
    let (good, bad) = (r#"{"image": "cat.jpg", "prompt": "What?"}"#, r#"{"image": "cat.jpg", "prompt": 3}"#);
    let outcome = ask(&[bad, good]);
    assert_eq!((outcome.code, ids(&outcome.lines())), (Some(1), vec!["1"]), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("0: record not of the expected form: `prompt`: expected text, found 3 (record 1)")
    );
    ask(&[bad]).fails_naming(&["no question can be used", "`prompt`: expected text, found 3"]);
    ask(&[good, "{"]).fails_naming(&["questions.jsonl: record 2, line 2, column 1: EOF while parsing"]);

    let system = good.replace("{", r#"{"system": "Be short.","#);
    let with = ask(&[&system]).succeeds();
    assert!(!with.stderr.contains("left out"), "{}", with.stderr);
}

#[test]
fn messages_are_read_as_conversations() {
    let answers = |data: &[Value]| {
        let dir = tempfile::tempdir().unwrap();
        inject(dir.path(), data).succeeds().says("data: 2 samples");
        fs::read(dir.path().join("out.jsonl")).unwrap()
    };
    let (first, second) = ("A cat sits on a red mat.", "A cat and a dog sit on a red mat.");
    let expected = answers(&[conversation("a", "What?", first), conversation("b", "What?", second)]);
    let parts = |text: &str| json!([{"type": "image"}, {"type": "text", "text": text}]);
    let messages = |id: &str, content: Value, answer: &str| {
        json!({"id": id, "images": [{"bytes": null, "path": "cat.jpg"}], "messages": [
            {"role": "user", "content": content}, {"role": "assistant", "content": answer},
        ]})
    };
    let found = answers(&[messages("a", parts("What?"), first), messages("b", json!("What?"), second)]);
    assert_eq!(found, expected);
}

/// A copy of the tiny checkpoint whose chat template leaves system messages out.
fn without_system(dir: &Path) {
    checkpoint::copy_to(dir);
    let file = dir.join("chat_template.jinja");
    let template = fs::read_to_string(&file).unwrap();
    let rest =
        template.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}");
    assert_ne!(rest, template);
    fs::write(&file, rest).unwrap();
}

#[test]
fn system_texts_are_used_if_the_template_supports_them() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, with_system) = (dir.path().join("plain.jsonl"), dir.path().join("system.jsonl"));
    write_pairs(&plain, &[("a", "cat.jpg", "What?", "A cat.", "A dog.")]);
    let mut pair = read_lines(&plain).remove(0);
    pair["system"] = "Be short.".into();
    fs::write(&with_system, pair.to_string()).unwrap();
    let with = score(&tiny(), &with_system, vec![]).succeeds();
    assert!(!with.stderr.contains("system"), "{}", with.stderr);
    assert_ne!(with.lines(), score(&tiny(), &plain, vec![]).succeeds().lines());

    let no_system = dir.path().join("model");
    without_system(&no_system);
    let left_out =
        "WARN the system text of 1 pairs is left out: the model's chat template has no place for one";
    let without = score(&no_system, &with_system, vec![]).succeeds();
    assert_eq!(without.stderr.matches("system text").count(), 1, "{}", without.stderr);
    assert!(without.stderr.contains(left_out.trim_start_matches("WARN ")), "{}", without.stderr);
    assert_eq!(without.lines(), score(&no_system, &plain, vec![]).succeeds().lines());
}

#[test]
fn system_text_is_kept_in_all_stages() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.json");
    let mut conversations = vec![conversation("a", "What is it?", "A cat sits on a red mat.")];
    conversations.push(json!({"id": "b", "image": "cat.jpg", "conversations": [
        {"from": "system", "value": "Be short."},
        {"from": "human", "value": "What is it?"},
        {"from": "gpt", "value": "A cat sits on a red mat."},
    ]}));
    fs::write(&data, serde_json::to_vec(&conversations).unwrap()).unwrap();
    let run = |model: &Path, out: &Path| {
        bpo(arguments![
            "run",
            "--model",
            model,
            "--data",
            &data,
            "--images",
            photos(),
            "--out",
            out,
            "--max-new-tokens",
            "6",
            "--epochs",
            "1",
            "--lora-r",
            "2",
            "--sample-every",
            "1",
        ])
        .succeeds()
    };
    let out = dir.path().join("run");
    let outcome = run(&tiny(), &out);
    assert!(!outcome.stderr.contains("left out"), "{}", outcome.stderr);
    let pairs = read_lines(out.join("pairs.jsonl"));
    for pair in &pairs {
        let system = pair["id"].as_str().unwrap().starts_with('b').then_some("Be short.");
        assert_eq!(pair.get("system").and_then(Value::as_str), system, "{pair}");
    }
    assert!(pairs.iter().any(|pair| pair.get("system").is_some()));

    let no_system = dir.path().join("model");
    without_system(&no_system);
    let outcome = run(&no_system, &dir.path().join("no_system"));
    assert_eq!(
        outcome.stderr.matches("the system text of 1 samples is left out").count(),
        1,
        "{}",
        outcome.stderr
    );
}
