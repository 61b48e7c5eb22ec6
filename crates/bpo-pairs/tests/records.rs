//! Records that cannot be used are skipped, and the other records of the file are read.

use std::fs;
use std::path::Path;

use bpo_pairs::format::questions::Question;
use bpo_pairs::format::{Item, ReadOptions, bpo, for_each_item, jsonl, llava, questions};
use bpo_pairs::{NoVideos, PairSet, PairsError, SkipReason, Skipped, chain};

/// Returns id, reason and detail of each skipped item.
fn skips(items: &[Skipped]) -> Vec<(&str, SkipReason, &str)> {
    items.iter().map(|item| (item.id.as_str(), item.reason, item.detail.as_str())).collect()
}

const TURNS: &str = r#"[{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]"#;

#[test]
fn null_in_conversations_skips_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.json");
    let records = [
        format!(r#"{{"id": "good", "image": "a.jpg", "conversations": {TURNS}}}"#),
        r#"{"id": "null", "image": "a.jpg", "conversations": null}"#.to_owned(),
        r#"{"id": "value", "image": "a.jpg", "conversations": [{"from": "human", "value": null}]}"#
            .to_owned(),
        format!(r#"{{"id": 1.5, "image": "a.jpg", "conversations": {TURNS}}}"#),
        "null".to_owned(),
        format!(r#"{{"id": "last", "image": "b.jpg", "conversations": {TURNS}}}"#),
    ];
    let expected = [
        (
            "null",
            SkipReason::NoTurns,
            "no conversation: expected a list of turns under `conversations` or `messages`, or `question` and `answer`, found null (record 2)",
        ),
        (
            "value",
            SkipReason::Malformed,
            "record not of the expected form: `conversations[0].value`: expected text, found null (record 3)",
        ),
        (
            "3",
            SkipReason::Malformed,
            "record not of the expected form: `id`: expected text or an integer, found 1.5 (record 4)",
        ),
        (
            "4",
            SkipReason::Malformed,
            "record not of the expected form: expected an object, found null (record 5)",
        ),
    ];
    for text in [format!("[{}]", records.join(",\n")), records.join("\n")] {
        fs::write(&path, text).unwrap();
        let data = llava::read(&path).unwrap();
        let ids: Vec<&str> = data.samples.iter().map(|sample| sample.id.as_str()).collect();
        assert_eq!(ids, ["good", "last"]);
        assert_eq!(skips(&data.skipped), expected);
    }
}

#[test]
fn wrong_value_in_completions_skips_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bpo.json");
    let record = |prompt: &str, score: &str| {
        format!(
            r#"{{"prompt": {prompt}, "image": "a.jpg", "completions": [
                {{"score": {score}, "response": "A cat.", "type": "gt"}},
                {{"score": 0, "response": "A dog.", "type": "llm-hal"}}]}}"#
        )
    };
    let records = [
        record("\"What?\"", "1"),
        record("\"What?\"", "\"16\""),
        record("null", "1"),
        record("\"<ImageHere> What?\"", "1"),
        r#"{"prompt": "What?", "image": "a.jpg", "completions": {}}"#.to_owned(),
    ];
    fs::write(&path, format!("[{}]", records.join(","))).unwrap();
    let expected = [
        (
            "1",
            SkipReason::Malformed,
            r#"record not of the expected form: `completions[0].score`: expected a number, found "16" (record 2)"#,
        ),
        (
            "2",
            SkipReason::Malformed,
            "record not of the expected form: `prompt`: expected text, found null (record 3)",
        ),
        (
            "3",
            SkipReason::OtherPlaceholder,
            r#"placeholder of another model: `prompt`: expected <image> or no placeholder, found "<ImageHere>" (record 4)"#,
        ),
        (
            "4",
            SkipReason::Malformed,
            "record not of the expected form: `completions`: expected a list of completions, found an empty object (record 5)",
        ),
    ];
    let data = bpo::read(&path).unwrap();
    assert_eq!((data.records.len(), skips(&data.skipped).as_slice()), (1, &expected[..]));
    let PairSet { pairs, skipped } = jsonl::read_pairs(&path).unwrap();
    assert_eq!((pairs.len(), skips(&skipped).as_slice()), (1, &expected[..]));
}

#[test]
fn wrong_value_in_pairs_skips_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.jsonl");
    let pair = |id: &str, image: &str, more: &str| {
        format!(
            r#"{{"id": {id}, "image": {image}, "prompt": "What?", "chosen": "A cat.", "rejected": "A dog.", "kind": "mine"{more}}}"#
        )
    };
    let lines = [
        pair("\"good\"", "\"a.jpg\"", ""),
        pair("7", "[\"a.jpg\"]", r#", "margin": null, "system": "Be short.""#),
        pair("\"number\"", "3", ""),
        pair("\"margin\"", "\"a.jpg\"", r#", "margin": "1""#),
        pair("\"key\"", "\"a.jpg\"", r#", "betta": 1"#),
        pair("\"provenance\"", "\"a.jpg\"", r#", "provenance": [1]"#),
        pair("null", "\"a.jpg\"", ""),
        "[1]".to_owned(),
        pair("\"other\"", "\"a.jpg\"", r#", "score": 1"#),
    ];
    fs::write(&path, lines.join("\n")).unwrap();
    let set = jsonl::read_pairs(&path).unwrap();
    let ids: Vec<&str> = set.pairs.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["good", "7"]);
    assert_eq!(set.pairs[1].system.as_deref(), Some("Be short."));
    let form = "record not of the expected form: ";
    let expected = [
        (
            "number",
            SkipReason::Malformed,
            format!("{form}`image`: expected the path of an image, found 3 (record 3)"),
        ),
        (
            "margin",
            SkipReason::Malformed,
            format!("{form}`margin`: expected a number, found \"1\" (record 4)"),
        ),
        (
            "key",
            SkipReason::Malformed,
            format!(
                "{form}\"betta\" is not a known key, found 1: did you mean \"beta\"? Rename it, or remove it if it means \
                 something else (record 5)"
            ),
        ),
        (
            "provenance",
            SkipReason::Malformed,
            format!("{form}`provenance`: expected an object, found a list of 1 (record 6)"),
        ),
        (
            "6",
            SkipReason::Malformed,
            format!("{form}`id`: expected text or an integer, found no such key (record 7)"),
        ),
        ("7", SkipReason::Malformed, format!("{form}expected an object, found a list of 1 (record 8)")),
        (
            "other",
            SkipReason::Malformed,
            format!("{form}\"score\" is not a key of a pair, found 1 (record 9)"),
        ),
    ];
    let found = skips(&set.skipped);
    let expected: Vec<_> = expected.iter().map(|(id, reason, text)| (*id, *reason, text.as_str())).collect();
    assert_eq!(found, expected);
}

/// Reads records of a foreign format, the first of which is right and shows the format.
fn read_foreign(records: &[String]) -> Vec<Result<Item, Skipped>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    fs::write(&path, records.join("\n")).unwrap();
    let mut items = Vec::new();
    for_each_item(&path, &ReadOptions::default(), &mut |item| {
        items.push(item);
        Ok(())
    })
    .unwrap();
    items
}

#[test]
fn misspelt_keys_of_foreign_records_are_named() {
    let plain = r#""prompt": "What?", "chosen": "A cat.", "rejected": "A dog.""#;
    let turns =
        r#""conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]"#;
    let scored = r#""prompt": "What?", "completions": [{"score": 1, "response": "A cat.", "type": "gt"}]"#;
    for (good, key, meant) in [
        (plain, "imagess", "images"),
        (plain, "contrast_image", "contrast_images"),
        (plain, "Margin", "margin"),
        (turns, "imgae", "image"),
        (scored, "systm", "system"),
    ] {
        let wrong = format!("{{{good}, {key:?}: \"a.jpg\"}}");
        let other = format!("{{{good}, \"score_chosen\": 8.5, \"prompt_id\": \"a\", \"meta\": 1}}");
        let items = read_foreign(&[format!("{{{good}}}"), wrong, other]);
        let [Ok(_), Err(skipped), Ok(_)] = &items[..] else { panic!("{key}: {items:?}") };
        let named = format!(
            "{key:?} is not a known key, found \"a.jpg\": did you mean {meant:?}? Rename it, or remove it if it means \
             something else (record 2)"
        );
        assert!(skipped.detail.ends_with(&named), "{}", skipped.detail);
    }
    // a required key
    let wrong = r#"{"prompt": "What?", "chosen": "A cat.", "rejectd": "A dog."}"#.to_owned();
    let items = read_foreign(&[format!("{{{plain}}}"), wrong]);
    assert!(items[1].as_ref().unwrap_err().detail.contains("did you mean \"rejected\"?"), "{items:?}");
}

#[test]
fn unknown_format_names_a_misspelt_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.jsonl");
    fs::write(&path, r#"{"prompt": "What?", "chosen": "A cat.", "rejectd": "A dog."}"#).unwrap();
    let error = for_each_item(&path, &ReadOptions::default(), &mut |_| Ok(())).unwrap_err().to_string();
    for part in
        ["pairs.jsonl", "prompt, chosen, rejectd", "did you mean `rejected` by `rejectd`?", "--format"]
    {
        assert!(error.contains(part), "{error}");
    }
    // `bpo train --pairs` takes such a file for its own pairs
    let set = jsonl::read_pairs(&path).unwrap();
    assert!(set.skipped[0].detail.contains("did you mean \"rejected\"?"), "{:?}", set.skipped);
}

#[test]
fn wrong_value_in_questions_skips_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("questions.jsonl");
    let lines = [
        r#"{"image": "a.jpg", "prompt": "What?", "category": 3}"#,
        r#"{"question_id": 1, "image": "a.jpg", "text": "Is there a cat?", "label": "yes"}"#,
        r#"{"image": "a.jpg", "prompt": null}"#,
        r#"{"image": "a.jpg", "prompt": "What?", "text": "A cat."}"#,
        r#"{"image": "a.jpg", "text": "<video> What?"}"#,
        r#"{"image": "a.jpg", "prompt": "What?", "video": "a.mp4"}"#,
        r#"{"image": "a.jpg", "prompt": "Why?", "system_prompt": "Be short."}"#,
        r#"{"id": 1005, "image": "AMBER_1.jpg", "query": "Is there a dog?"}"#,
        r#"{"image": "a.jpg", "query": "Why?", "response": "So."}"#,
    ];
    fs::write(&path, lines.join("\n")).unwrap();
    let data = questions::read(&path, &NoVideos).unwrap();
    let ids: Vec<String> = data.questions.iter().map(|question| question.id_at(9)).collect();
    assert_eq!(ids, ["0", "1", "6", "1005"]);
    assert_eq!(data.questions[3].prompt, "Is there a dog?");
    assert_eq!(data.questions[1].prompt, "Is there a cat?");
    assert_eq!(data.questions[2].system.as_deref(), Some("Be short."));
    assert_eq!(Question::new("a.jpg", "What?").id_at(9), "9");
    let form = "record not of the expected form: ";
    let expected = [
        ("2", SkipReason::Malformed, format!("{form}`prompt`: expected text, found null (record 3)")),
        (
            "3",
            SkipReason::Malformed,
            format!("{form}`text`: expected no second question beside `prompt`, found \"A cat.\" (record 4)"),
        ),
        (
            "4",
            SkipReason::OtherPlaceholder,
            "placeholder of another model: `text`: expected <image> or no placeholder, found \"<video>\" (record 5)".into(),
        ),
        (
            "5",
            SkipReason::OtherMedia,
            "video or audio: expected images and nothing else, found the video \"a.mp4\" (record 6)".into(),
        ),
        ("8", SkipReason::Malformed, format!("{form}`prompt`: expected text, found no such key (record 9)")),
    ];
    let expected: Vec<_> = expected.iter().map(|(id, reason, text)| (*id, *reason, text.as_str())).collect();
    assert_eq!(skips(&data.skipped), expected);
}

#[test]
fn syntax_error_is_an_error_with_one_position() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    let good = format!(r#"{{"image": "a.jpg", "conversations": {TURNS}}}"#);
    let pair = r#"{"id": 1, "prompt": "What?", "chosen": "A cat.", "rejected": "A dog."}"#;
    let expected = format!("{}: record 3, line 4, column 10: expected `:`", path.display());
    let write = |good: &str| {
        fs::write(&path, format!("{good}\n\n{good}\n{{\"image\" \"a.jpg\"}}\n{good}\n")).unwrap();
    };
    write(&good);
    assert_eq!(chain(&llava::read(&path).unwrap_err()), expected);
    write(pair);
    assert_eq!(chain(&jsonl::read_pairs(&path).unwrap_err()), expected);
}

#[test]
fn missing_file_is_an_error() {
    assert!(matches!(llava::read(Path::new("no-such-file")), Err(PairsError::File(_))));
}
