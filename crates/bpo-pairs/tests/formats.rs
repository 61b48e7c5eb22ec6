//! LLaVA's JSON, the authors' JSON and pairs in JSON Lines, valid and invalid.

use std::fs;
use std::path::Path;

use bpo_pairs::format::llava::SftData;
use bpo_pairs::format::{Answers, Format, ReadOptions, bpo, for_each_item, jsonl, llava};
use bpo_pairs::{
    Completion, CompletionKind, Contrast, ContrastMode, PairsError, Provenance, Record, SftSample,
    SkipCounts, SkipReason, Turn,
};
use proptest::prelude::*;

fn read_llava(json: &str) -> Result<SftData, PairsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("llava.json");
    fs::write(&path, json).unwrap();
    llava::read(&path)
}

fn ids(samples: &[SftSample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.id.as_str()).collect()
}

#[test]
fn photographs_are_read() {
    let data = llava::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llava.json")).unwrap();
    let expected =
        ["cat-0", "cat-1#0", "cat-1#1", "coffee-0", "rocket-0", "coins-0", "astronaut-0", "text-0"];
    assert_eq!(ids(&data.samples), expected);
    assert_eq!(data.samples[0].prompt, "<image>\nDescribe the image.");
    assert_eq!(data.samples[1].prompt, "What color are the eyes of the cat?\n<image>");
    let second = &data.samples[2];
    assert_eq!(second.prompt, "Is there a dog in the picture?");
    assert_eq!(
        second.history[..],
        [Turn { prompt: data.samples[1].prompt.clone(), answer: data.samples[1].answer.clone() }]
    );
    assert_eq!((data.samples[0].images.len(), data.samples[7].images.len()), (1, 0));
    assert_eq!(data.skipped, []);
}

/// Returns a LLaVA record whose turns alternate between user and assistant.
fn conversation(fields: &str, turns: &[&str]) -> String {
    let turn = |(k, value): (usize, &&str)| {
        let from = if k % 2 == 0 { "human" } else { "gpt" };
        serde_json::json!({"from": from, "value": value}).to_string()
    };
    let turns: Vec<_> = turns.iter().enumerate().map(turn).collect();
    format!("{{{fields} \"conversations\": [{}]}}", turns.join(","))
}

#[test]
fn llava_ids_can_be_numbers_missing_or_repeated() {
    let one = |fields| conversation(fields, &["<image>\nWhat?", "A cat."]);
    let json = [
        one(r#""id": 7, "image": "a.jpg","#),
        one(r#""image": ["a.jpg"], "width": 3, "meta": {"deep": [1]},"#),
        one(r#""id": "7", "image": "a.jpg","#),
        one(r#""id": null, "image": "a.jpg","#),
        conversation(r#""id": "7", "image": "a.jpg","#, &["<image>\nWhat?", "A cat.", "Why?", "It is."]),
    ];
    let expected = ["7", "1", "7~2", "3", "7~3#0", "7~3#1"];
    let array = read_llava(&format!("[{}]", json.join(",\n"))).unwrap();
    assert_eq!(ids(&array.samples), expected);
    assert_eq!(read_llava(&json.join("\n")).unwrap(), array);
}

#[test]
fn unusable_llava_conversations_are_counted() {
    let image = r#""image": "a.jpg","#;
    let cases: [(String, &[SkipReason]); 11] = [
        (conversation("", &["<image>\nWhat?", "A cat."]), &[SkipReason::ImageToken]),
        (conversation(r#""image": ["a", "b"],"#, &["<image>What?", "A cat."]), &[SkipReason::ImageToken]),
        (conversation(image, &[]), &[SkipReason::NoTurns]),
        (conversation(image, &["What?"]), &[SkipReason::TurnOrder]),
        (conversation(image, &["What?", "A cat.", "Why?"]), &[SkipReason::TurnOrder]),
        (conversation(image, &["<image><image>", "A cat."]), &[SkipReason::ImageToken]),
        (conversation(image, &["What?", "<image>"]), &[SkipReason::ImageToken]),
        (conversation(image, &["What?", "A cat.", "<image> Why?", "It is."]), &[SkipReason::ImageToken]),
        (conversation(image, &["<image>\n", "A cat."]), &[SkipReason::EmptyPrompt]),
        (
            conversation(image, &["What?", " ", "Why?", "It is."]),
            &[SkipReason::EmptyAnswer, SkipReason::BrokenHistory],
        ),
        (
            r#"{"image": "a.jpg", "conversations": [{"from": "tool", "value": "x"}]}"#.into(),
            &[SkipReason::UnknownRole],
        ),
    ];
    for (json, expected) in cases {
        let data = read_llava(&json).unwrap();
        let found: Vec<_> = data.skipped.iter().map(|skipped| skipped.reason).collect();
        assert_eq!((data.samples.len(), found.as_slice()), (0, expected), "{json}");
    }
}

#[test]
fn llava_turns_before_an_invalid_turn_are_kept() {
    let json = conversation(r#""id": "a", "image": "a.jpg","#, &["What?", "A cat.", "Why?", ""]);
    let data = read_llava(&json).unwrap();
    assert_eq!(ids(&data.samples), ["a#0"]);
    assert_eq!(data.samples[0].prompt, "<image>\nWhat?");
    assert_eq!((data.skipped[0].id.as_str(), data.skipped[0].reason), ("a#1", SkipReason::EmptyAnswer));
}

#[test]
fn truncated_json_error_has_file_record_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.json");
    let good = conversation(r#""image": "a.jpg","#, &["What?", "A cat."]);
    fs::write(&path, format!("[\n{good},\n{{\"id\": \"x\", \"ima")).unwrap();
    let error = llava::read(&path).unwrap_err();
    let PairsError::Json { record, line, column, .. } = error else { panic!("{error}") };
    assert_eq!((record, line, column), (2, 3, 16));
    let message = error.to_string();
    for part in ["cut.json", "record 2", "line 3", "column 16"] {
        assert!(message.contains(part), "{message}");
    }
    fs::write(&path, "").unwrap();
    assert!(matches!(llava::read(&path), Err(PairsError::Empty { .. })));
    assert!(matches!(llava::read(dir.path().join("no.json")), Err(PairsError::File(_))));
}

#[test]
fn authors_json_keeps_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bpo.json");
    let authors = concat!(
        "[\n",
        r#"{"prompt":"<image>\nWhat?","image":"a.jpg","completions":["#,
        r#"{"score":1,"response":"A cat.","type":"gt"},{"score":0.5,"response":"A dog.","type":"mine"}]}"#,
        "\n]\n"
    );
    fs::write(&path, authors).unwrap();
    let data = bpo::read(&path).unwrap();
    assert_eq!(data.records[0].id, "0");
    assert_eq!(data.records[0].completions[1].kind, CompletionKind::Other("mine".into()));
    bpo::write(&path, &data.records).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), authors);

    let loose = r#"[{"id": 4, "extra": [], "prompt": "What?", "image": "a.jpg",
        "completions": [{"score": 1.0, "response": "A cat.", "type": "gt", "model": "x"}]},
        {"prompt": "<image>\nWhat?", "completions": []}]"#;
    fs::write(&path, loose).unwrap();
    let data = bpo::read(&path).unwrap();
    assert_eq!((data.records[0].id.as_str(), data.records[0].prompt.as_str()), ("4", "<image>\nWhat?"));
    assert_eq!(data.skipped.iter().collect::<SkipCounts>().get(SkipReason::ImageToken), 1);
}

#[test]
fn unknown_provenance_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bpo.json");
    let provenance = |provenance: &str| {
        let completion =
            format!(r#"{{"score": 1, "response": "A cat.", "type": "gt", "provenance": {provenance}}}"#);
        fs::write(
            &path,
            format!(r#"[{{"prompt": "What?", "image": "a.jpg", "completions": [{completion}]}}]"#),
        )
        .unwrap();
        bpo::read(&path).unwrap().records[0].completions[0].provenance.clone()
    };
    for other in [
        "null",
        "7",
        r#""two eggs""#,
        r#"["flour"]"#,
        "{}",
        r#"{"eggs": 2}"#,
        r#"{"distortion": 3}"#,
        r#"{"variant": 1}"#,
        r#"{"error": 3}"#,
        r#"{"distortion": "no-image", "eggs": 2}"#,
        r#"{"distortion": "no-image", "contrast": {"mode": "up"}}"#,
    ] {
        assert_eq!(provenance(other), None, "{other}");
    }
    let ours = provenance(r#"{"distortion": "no-image", "prefix_words": 2, "variant": 1}"#).unwrap();
    assert_eq!((ours.distortion.as_str(), ours.prefix_words, ours.variant), ("no-image", 2, 1));
    assert_eq!(provenance(r#"{"error": "count"}"#), Some(Provenance::of_error("count")));
}

#[test]
fn non_finite_scores_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bpo.json");
    let completion = Completion {
        response: "a".into(),
        score: f64::NAN,
        kind: CompletionKind::Annotated,
        provenance: None,
    };
    let record = Record {
        id: "r".into(),
        images: vec!["a.jpg".into()],
        system: None,
        history: Default::default(),
        prompt: "<image>\nWhat?".into(),
        completions: vec![completion],
    };
    assert!(matches!(bpo::write(&path, &[record]), Err(PairsError::Score { .. })));
    assert!(!path.exists());
}

#[test]
fn pairs_in_lines_follow_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("pairs.jsonl");
    let pair = |id: &str, prompt: &str, chosen: &str, rejected: &str| {
        serde_json::json!({
            "id": id, "image": "a.jpg", "prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": "gt",
        })
        .to_string()
    };
    let text = [
        pair("good", "<image>\nWhat?", "A cat.", "A dog."),
        pair("same", "<image>\nWhat?", "A cat.", " A cat. "),
        pair("empty", "<image>\nWhat?", "A cat.", ""),
        pair("twice", "<image> <image> What?", "A cat.", "A dog."),
    ];
    fs::write(&lines, text.join("\n")).unwrap();
    let set = jsonl::read_pairs(&lines).unwrap();
    assert_eq!(set.pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["good"]);
    let skipped: Vec<_> = set.skipped.iter().map(|skipped| (skipped.id.as_str(), skipped.reason)).collect();
    let expected = [
        ("same", SkipReason::Identical),
        ("empty", SkipReason::EmptyAnswer),
        ("twice", SkipReason::ImageToken),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn pairs_are_read_from_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let (array, lines) = (dir.path().join("any.txt"), dir.path().join("pairs.jsonl"));
    let json = r#" [{"prompt": "<image>\nWhat?", "image": "a.jpg", "completions": [
        {"score": 1, "response": "A cat.", "type": "gt"}, {"score": 0, "response": "A dog.", "type": "llm-hal"},
        {"score": 0, "response": "A cat. ", "type": "mllm-hal"}]}]"#;
    fs::write(&array, json).unwrap();
    let set = jsonl::read_pairs(&array).unwrap();
    // the same records, one per line, after a blank line or a byte order mark
    let records: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&array).unwrap()).unwrap();
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    let authors = dir.path().join("authors.jsonl");
    for text in [text.clone(), format!("\n{text}"), format!("\u{feff}{text}")] {
        fs::write(&authors, text).unwrap();
        assert_eq!(jsonl::read_pairs(&authors).unwrap(), set);
    }
    assert_eq!(set.pairs.len(), 1);
    assert_eq!((set.pairs[0].id.as_str(), set.pairs[0].kind.as_str()), ("0:0>1", "llm-hal"));
    assert_eq!((set.skipped[0].id.as_str(), set.skipped[0].reason), ("0:0>2", SkipReason::Identical));

    jsonl::write_pairs(&lines, &set.pairs).unwrap();
    assert_eq!(jsonl::read_pairs(&lines).unwrap().pairs, set.pairs);
    jsonl::write_pairs(&lines, &[]).unwrap();
    assert!(jsonl::read_pairs(&lines).unwrap().pairs.is_empty());

    let twice = vec![set.pairs[0].clone(); 2];
    jsonl::write_pairs(&lines, &twice).unwrap();
    assert!(matches!(jsonl::read_pairs(&lines), Err(PairsError::DuplicateId { line: 2, .. })));
    let text = fs::read_to_string(&lines).unwrap();
    fs::write(&lines, &text[..text.len() - 5]).unwrap();
    assert!(matches!(jsonl::read_pairs(&lines), Err(PairsError::Json { line: 2, record: 2, .. })));
}

fn completions() -> impl Strategy<Value = Vec<Completion>> {
    let score = prop_oneof![(-3_i8..3).prop_map(f64::from), prop::num::f64::NORMAL, Just(-0.0)];
    let contrast =
        (any::<bool>(), prop::num::f64::NORMAL, 0.0..1.0).prop_map(|(away, alpha, plausibility)| {
            let mut contrast =
                Contrast::new(if away { ContrastMode::Vcd } else { ContrastMode::AmplifyPrior });
            (contrast.alpha, contrast.plausibility) = (alpha, plausibility);
            contrast
        });
    let other = prop::option::of("[a-zé猫/.]{1,9}");
    let counts = (0_usize..3, 0_usize..3, 0_usize..3);
    let provenance = ("[a-z:=+.0-9]{1,9}", other, prop::option::of(contrast), counts);
    let weakened = provenance.prop_map(|drawn| {
        let mut provenance = Provenance::default();
        (
            provenance.distortion,
            provenance.other,
            provenance.contrast,
            (provenance.prefix_words, provenance.cut_sentences, provenance.variant),
        ) = drawn;
        provenance
    });
    let injected = "[a-zé猫-]{0,9}".prop_map(Provenance::of_error);
    let provenance = prop::option::of(prop_oneof![weakened, injected]);
    let completion = ("\\PC{0,8}", score, "gt|llm-hal|mllm-hal|x", provenance).prop_map(
        |(response, score, kind, provenance)| Completion {
            response,
            score,
            kind: CompletionKind::from(kind),
            provenance,
        },
    );
    prop::collection::vec(completion, 0..4)
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let system = prop::option::of("[a-z]{1,9}");
    let forms = (any::<bool>(), any::<bool>());
    let images = prop::collection::vec("[a-z]{1,4}", 0..4);
    let record = (images, system, "[a-z ?\n\"é猫]{0,12}", forms, completions());
    let record = record.prop_map(|(images, system, text, (token_first, history), completions)| {
        let tokens = "<image>\n".repeat(images.len());
        let question = if token_first { format!("{tokens}{text}") } else { format!("{text}\n{tokens}") };
        let (history, prompt) = if history {
            (vec![Turn { prompt: question, answer: text.clone() }], text)
        } else {
            (vec![], question)
        };
        Record { id: String::new(), images, system, history: history.into(), prompt, completions }
    });
    let named = |(index, (mut record, bare)): (usize, (Record, bool))| {
        record.id = if bare { index.to_string() } else { format!("r{index}") };
        record
    };
    prop::collection::vec((record, any::<bool>()), 0..4)
        .prop_map(move |records| records.into_iter().enumerate().map(named).collect())
}

proptest! {
    #[test]
    fn authors_json_round_trips(records in records()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bpo.json");
        bpo::write(&path, &records).unwrap();
        let data = bpo::read(&path).unwrap();
        prop_assert_eq!(data.records, records);
        prop_assert!(data.skipped.is_empty());
    }

    #[test]
    fn readers_do_not_panic_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn readers_do_not_panic_on_damaged_files(cut in 0_usize..2700, at in 0_usize..2700, byte in any::<u8>()) {
        let mut bytes = include_bytes!("data/llava.json").to_vec();
        bytes.truncate(cut);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        read_all(&bytes);
    }
}

/// Calls all readers, which must return without a panic.
fn read_all(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.json");
    fs::write(&path, bytes).unwrap();
    let _ = jsonl::read_pairs(&path);
    for format in Format::ALL {
        let mut options = ReadOptions::default();
        options.format = Some(format);
        let _ = for_each_item(&path, &options, &mut |_| Ok(()));
    }
}

/// A record without an answer is a sample where answers are not used, and skipped elsewhere.
#[test]
fn questions_are_samples_if_answers_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    let read = |line: &str, answers: Answers| {
        fs::write(&path, line).unwrap();
        let mut options = ReadOptions::default();
        options.answers = answers;
        llava::read_with_fingerprint(&path, &options).map(|(data, _)| data)
    };
    let turn = r#"{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A cat."}"#;
    // id, number of earlier turns and answer of each sample
    type Samples = [(&'static str, usize, &'static str)];
    let expected: &[(&str, &Samples)] = &[
        (
            r#"{"id": "a", "image": "a.jpg", "messages": [{"role": "user", "content": "Why?"}]}"#,
            &[("a", 0, "")],
        ),
        (
            &format!(
                r#"{{"id": "a", "image": "a.jpg", "messages": [{turn}, {{"role": "user", "content": "Why?"}}]}}"#
            ),
            &[("a#0", 0, "A cat."), ("a#1", 1, "")],
        ),
        (
            r#"{"id": "a", "image": "a.jpg", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": " "}]}"#,
            &[("a", 0, "")],
        ),
        (r#"{"id": "a", "image": "a.jpg", "question": "Why?"}"#, &[("a", 0, "")]),
        (r#"{"id": "a", "image": "a.jpg", "question": "Why?", "answer": "See <image>."}"#, &[("a", 0, "")]),
        (
            r#"{"id": "a", "image": "a.jpg", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": 7}]}"#,
            &[("a", 0, "")],
        ),
        (r#"{"id": "a", "image": "a.jpg", "query": "Why?", "response": null}"#, &[("a", 0, "")]),
        (r#"{"question_id": "a", "image": "a.jpg", "text": "Why?", "label": "yes"}"#, &[("a", 0, "")]),
        (r#"{"id": "a", "image": "a.jpg", "question": "Why?", "prompt": "Other?"}"#, &[("a", 0, "")]),
        (
            r#"{"id": "a", "images": ["a.jpg"], "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]}]}"#,
            &[("a", 0, "")],
        ),
        (
            r#"{"id": "a", "image": "a.jpg", "conversation": [{"human": "What?", "assistant": "A cat."}, {"human": "Why?"}]}"#,
            &[("a#0", 0, "A cat."), ("a#1", 1, "")],
        ),
        (
            r#"{"id": "a", "image": "a.jpg", "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": null}]}"#,
            &[("a", 0, "")],
        ),
        (r#"{"id": "a", "image": "a.jpg", "prompt": "Why?"}"#, &[("a", 0, "")]),
        (
            r#"{"id": "a", "image": "a.jpg", "prompt": "Why?", "system": "Be brief.", "history": [{"prompt": "What?", "answer": "A cat."}]}"#,
            &[("a", 1, "")],
        ),
    ];
    for (line, samples) in expected {
        let data = read(line, Answers::Unused).unwrap();
        let found: Vec<_> = data
            .samples
            .iter()
            .map(|sample| (sample.id.as_str(), sample.history.len(), sample.answer.as_str()))
            .collect();
        assert_eq!((found.as_slice(), data.skipped.len()), (*samples, 0), "{line}");
        assert!(data.samples.iter().all(|sample| sample.images == ["a.jpg"]), "{line}");
        let first = &data.samples[0];
        let question = first.history.first().map_or(&first.prompt, |turn| &turn.prompt);
        assert!(question.starts_with("<image>\n"), "{line}");
        // the same record is not a sample where its answer is needed
        let strict = read(line, Answers::Required);
        assert!(
            strict.is_err() || strict.unwrap().samples.iter().all(|sample| !sample.answer.trim().is_empty())
        );
    }
    // an answer in the middle is needed, and so is a question
    let broken = [
        r#"{"id": "a", "image": "a.jpg", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": ""},
            {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}"#,
        r#"{"id": "a", "image": "a.jpg", "messages": [{"role": "user", "content": "Why?"}, {"role": "user", "content": "Why?"}]}"#,
        r#"{"id": "a", "image": "a.jpg", "messages": [{"role": "assistant", "content": "So."}]}"#,
        r#"{"id": "a", "image": "a.jpg", "prompt": " "}"#,
        r#"{"id": "a", "image": "a.jpg", "prompt": "Why?", "text": "What?"}"#,
        r#"{"id": "a", "image": "a.jpg", "conversation": [{"human": "Why?"}, {"human": "What?", "assistant": "A cat."}]}"#,
    ];
    for line in broken {
        let data = read(&line.replace('\n', " "), Answers::Unused).unwrap();
        assert!(data.samples.is_empty(), "{line}: {:?}", data.samples);
    }
}
