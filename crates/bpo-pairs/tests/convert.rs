//! Every format is written and read back, and the documented examples of other programs are read.

use std::fs;
use std::path::Path;

use bpo_pairs::format::jsonl::{read_pairs, write_pairs};
use bpo_pairs::format::{ConvertOptions, Format, Item, ReadOptions, bpo, convert, for_each_item, llava};
use bpo_pairs::{
    Completion, CompletionKind, History, PairFilter, PairsError, PreferencePair, Provenance, Record,
    SftSample, SkipReason, Skipped, Turn,
};
use proptest::prelude::*;

/// The items of a file, and what was skipped.
fn read(path: &Path, format: Option<Format>) -> Result<(Format, Vec<Item>, Vec<Skipped>), PairsError> {
    let (mut items, mut skipped) = (Vec::new(), Vec::new());
    let mut options = ReadOptions::default();
    options.format = format;
    let format = for_each_item(path, &options, &mut |item| {
        match item {
            Ok(item) => items.push(item),
            Err(one) => skipped.push(one),
        }
        Ok(())
    })?;
    Ok((format, items, skipped))
}

/// Converts a file and returns what was skipped.
fn converted(input: &Path, output: &Path, to: Format) -> Result<Vec<Skipped>, PairsError> {
    let filter = PairFilter::default().with_max_words(usize::MAX);
    let mut skipped = Vec::new();
    convert(input, output, to, &ConvertOptions::new(&filter), &mut |one| skipped.push(one.clone()))?;
    Ok(skipped)
}

/// Names of files in each container that this build writes.
fn names() -> &'static [&'static str] {
    if cfg!(feature = "parquet") {
        &["a.jsonl", "a.json", "a.jsonl.gz", "a.json.zst", "a.parquet"]
    } else {
        &["a.jsonl", "a.json"]
    }
}

/// Any Unicode text with something besides white space.
fn text() -> impl Strategy<Value = String> {
    let any = prop::collection::vec(any::<char>(), 1..12).prop_map(String::from_iter);
    any.prop_filter("text", |text: &String| !text.trim().is_empty() && !text.contains(['<', '[']))
}

/// A question with its image tokens, each on its own line, in front.
fn question(images: usize) -> impl Strategy<Value = String> {
    text().prop_map(move |text| format!("{}{text}", "<image>\n".repeat(images)))
}

fn image() -> impl Strategy<Value = String> {
    text().prop_filter("a path", |name| !name.contains(':'))
}

fn turn(images: usize) -> impl Strategy<Value = Turn> {
    (question(images), text()).prop_map(|(prompt, answer)| Turn { prompt, answer })
}

/// Images, and the turns of a conversation about them.
fn conversation(images: usize, turns: usize) -> impl Strategy<Value = (Vec<String>, Vec<Turn>)> {
    let first = turn(images);
    let rest = prop::collection::vec(turn(0), turns);
    let images = prop::collection::vec(image(), images);
    (images, first, rest)
        .prop_map(|(images, first, rest)| (images, [first].into_iter().chain(rest).collect()))
}

fn kind() -> impl Strategy<Value = CompletionKind> {
    prop_oneof![
        Just(CompletionKind::ImageWeakened),
        Just(CompletionKind::ErrorInjected),
        Just(CompletionKind::Other("unknown".into())),
        text().prop_map(CompletionKind::from),
    ]
}

fn provenance() -> impl Strategy<Value = Provenance> {
    let weakened = (text(), prop::option::of(text()), 0..4_usize).prop_map(|(distortion, other, variant)| {
        let mut provenance = Provenance::default();
        (provenance.distortion, provenance.other, provenance.variant) = (distortion, other, variant);
        provenance
    });
    prop_oneof![weakened, text().prop_map(Provenance::of_error)]
}

fn number() -> impl Strategy<Value = Option<f64>> {
    prop::option::of(prop::num::f64::NORMAL | prop::num::f64::ZERO)
}

/// A pair about `images` images with `turns` earlier turns.
fn pair(images: usize, turns: usize, with_system: bool) -> impl Strategy<Value = PreferencePair> {
    let system = prop::option::of(text()).prop_map(move |system| system.filter(|_| with_system));
    let chosen_kind = prop::option::of(Just(CompletionKind::Own));
    let contrast = prop::option::of((prop::collection::vec(image(), images), text()));
    let keys = ((kind(), chosen_kind), prop::option::of(provenance()), number(), (number(), contrast));
    (text(), conversation(images, turns), system, text(), keys)
        .prop_map(
            |(
                id,
                (images, mut turns),
                system,
                rejected,
                ((kind, chosen_kind), provenance, margin, (beta, contrast)),
            )| {
                let Turn { prompt, answer: chosen } = turns.pop().expect("a turn");
                let history = History::from(turns);
                let (contrast_images, contrast_answer) = contrast.unzip();
                let pair = PreferencePair {
                    id,
                    images,
                    system,
                    history,
                    prompt,
                    chosen,
                    rejected,
                    kind,
                    chosen_kind,
                    provenance,
                    margin,
                    beta,
                    contrast_images: contrast_images.unwrap_or_default(),
                    contrast_answer,
                };
                match pair.check_contrast() {
                    Ok(()) => pair,
                    Err(_) => PreferencePair { contrast_images: Vec::new(), contrast_answer: None, ..pair },
                }
            },
        )
        .prop_filter("different answers", |pair| pair.chosen.trim() != pair.rejected.trim())
}

/// A pair of any form.
fn any_pair() -> impl Strategy<Value = PreferencePair> {
    (0..3_usize, 0..3_usize).prop_flat_map(|(images, turns)| pair(images, turns, true))
}

/// A pair that every format can hold: one image, one question without white space around it.
fn plain_pair() -> impl Strategy<Value = PreferencePair> {
    pair(1, 0, false).prop_map(|pair| {
        let question = pair.prompt.trim_start_matches("<image>\n").trim().to_owned();
        PreferencePair { prompt: format!("<image>\n{question}"), ..pair }
    })
}

fn numbered(mut pairs: Vec<PreferencePair>) -> Vec<PreferencePair> {
    for (i, pair) in pairs.iter_mut().enumerate() {
        pair.id = format!("{i} {}", pair.id);
    }
    pairs
}

/// Writes pairs in a format and in each container, and reads them back.
fn round_trip(format: Format, pairs: &[PreferencePair]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("pairs.jsonl");
    write_pairs(&input, pairs).unwrap();
    let expected: Vec<_> = pairs.iter().cloned().map(Item::Pair).collect();
    for name in names() {
        let output = dir.path().join(name);
        prop_assert_eq!(converted(&input, &output, format).unwrap(), Vec::new());
        let (_, items, skipped) = read(&output, None).unwrap();
        prop_assert_eq!(&skipped, &[], "{} {}", format, name);
        prop_assert_eq!(&items, &expected, "{} {}", format, name);
        let (_, items, _) = read(&output, Some(format)).unwrap();
        // the name of the format gives the same, except that plain pairs need no name
        prop_assert_eq!(&items, &expected, "{} {}", format, name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversational_formats_give_back_every_pair(pairs in prop::collection::vec(any_pair(), 1..4)) {
        let pairs = numbered(pairs);
        let formats =
            [Format::Pairs, Format::Trl, Format::LlamaFactory, Format::MsSwift, Format::Povid];
        for format in formats {
            round_trip(format, &pairs)?;
        }
    }

    #[test]
    fn formats_of_one_question_give_back_every_pair(pairs in prop::collection::vec(plain_pair(), 1..4)) {
        let pairs = numbered(pairs);
        for format in [Format::TrlPlain, Format::RlhfV, Format::RlaifV] {
            round_trip(format, &pairs)?;
        }
    }

    #[test]
    fn llava_gives_back_every_conversation(
        all in prop::collection::vec((0..3_usize, 0..3_usize).prop_flat_map(|(i, t)| (conversation(i, t), prop::option::of(text()))), 1..4),
    ) {
        let mut samples = Vec::new();
        for (i, ((images, turns), system)) in all.into_iter().enumerate() {
            let turns = History::from(turns);
            for (k, turn) in turns.iter().enumerate() {
                let id = if turns.len() == 1 { i.to_string() } else { format!("{i}#{k}") };
                let (prompt, answer) = (turn.prompt.clone(), turn.answer.clone());
                let (images, system, history) = (images.clone(), system.clone(), turns.prefix(k));
                samples.push(SftSample { id, images, system, history, prompt, answer });
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.json");
        let records: Vec<_> = samples.iter().cloned().map(|sample| Item::Sample(sample).into_record().unwrap()).collect();
        bpo::write(&input, &records).unwrap();
        for name in names() {
            let output = dir.path().join(name);
            prop_assert_eq!(converted(&input, &output, Format::Llava).unwrap(), Vec::new());
            let data = llava::read(&output).unwrap();
            prop_assert_eq!(&data.skipped, &[]);
            prop_assert_eq!(&data.samples, &samples, "{}", name);
        }
    }

    #[test]
    fn bpo_gives_back_every_record(
        questions in prop::collection::vec((0..3_usize, 0..2_usize).prop_flat_map(|(i, t)| conversation(i, t)), 1..4),
        answers in prop::collection::vec((text(), kind(), number(), prop::option::of(provenance())), 0..4),
    ) {
        let record = |(i, (images, mut turns)): (usize, (Vec<String>, Vec<Turn>))| {
            let prompt = turns.pop().unwrap().prompt;
            let completions = answers.iter().cloned().map(|(response, kind, score, provenance)| {
                Completion { response, kind, score: score.unwrap_or(1.0), provenance }
            });
            let completions = completions.collect();
            Record { id: format!("r{i}"), images, system: None, history: turns.into(), prompt, completions }
        };
        let records: Vec<_> = questions.into_iter().enumerate().map(record).collect();
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.json");
        bpo::write(&input, &records).unwrap();
        for name in names() {
            let output = dir.path().join(name);
            converted(&input, &output, Format::Bpo).unwrap();
            prop_assert_eq!(&bpo::read(&output).unwrap().records, &records, "{}", name);
        }
    }
}

/// Reads records in JSON lines.
fn lines(format: Option<Format>, lines: &[&str]) -> (Format, Vec<Item>, Vec<Skipped>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    read(&path, format).unwrap()
}

fn only_pair(line: &str) -> (Format, PreferencePair) {
    match lines(None, &[line]) {
        (format, mut items, skipped) if skipped.is_empty() && items.len() == 1 => match items.remove(0) {
            Item::Pair(pair) => (format, pair),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn examples_of_llama_factory_are_read() {
    let sharegpt = r#"{"conversations": [{"from": "human", "value": "human instruction"},
        {"from": "gpt", "value": "model response"}, {"from": "human", "value": "<image>human instruction"}],
        "chosen": {"from": "gpt", "value": "chosen answer"}, "rejected": {"from": "gpt", "value": "rejected answer"},
        "images": ["a.jpg", "b.jpg"]}"#
        .replace("[\"a.jpg\", \"b.jpg\"]", "[]")
        .replace("<image>", "")
        .replace('\n', "");
    let (format, pair) = only_pair(&sharegpt);
    assert_eq!((format, pair.history.len()), (Format::LlamaFactory, 1));
    assert_eq!(
        (&*pair.prompt, &*pair.chosen, &*pair.rejected),
        ("human instruction", "chosen answer", "rejected answer")
    );
    let openai = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}], "chosen": {"role": "assistant", "content": "A"}, "rejected": {"role": "assistant", "content": "B"}, "images": ["a.jpg"]}"#;
    let (format, pair) = only_pair(openai);
    assert_eq!(
        (format, pair.system.as_deref(), &*pair.prompt),
        (Format::LlamaFactory, Some("Be brief."), "<image>\nWhat?")
    );
    let alpaca = r#"{"instruction": "human instruction", "input": "human input", "chosen": "chosen answer", "rejected": "rejected answer", "history": [["one", "two"]]}"#;
    let (format, pair) = only_pair(alpaca);
    assert_eq!((format, &*pair.prompt), (Format::LlamaFactory, "human instruction\nhuman input"));
    assert_eq!(pair.history[..], [Turn::new("one", "two")]);
    let only_input = alpaca.replace("human instruction", "");
    assert_eq!(only_pair(&only_input).1.prompt, "human input");
}

/// LLaMA-Factory fails on a file without a column that `dataset_info.json` lists.
#[test]
fn records_of_llama_factory_have_every_listed_column() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    fs::write(&input, r#"{"prompt": "What?", "chosen": "A", "rejected": "B"}"#).unwrap();
    converted(&input, &output, Format::LlamaFactory).unwrap();
    let info = fs::read(dir.path().join("dataset_info.json")).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    for (_, column) in info["out"]["columns"].as_object().unwrap() {
        assert!(record.get(column.as_str().unwrap()).is_some(), "{column} in {record}");
    }
    assert_eq!(record["system"], "");
    let (_, items, _) = read(&output, None).unwrap();
    assert!(matches!(&items[..], [Item::Pair(pair)] if pair.system.is_none()), "{items:?}");
}

#[test]
fn examples_of_ms_swift_are_read() {
    let response = r#"{"messages": [{"role": "system", "content": "You are a useful and harmless math calculator"}, {"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "It equals 2"}, {"role": "user", "content": "What about adding 1?"}, {"role": "assistant", "content": "It equals 3"}], "rejected_response": "I don't know"}"#;
    let (format, pair) = only_pair(response);
    assert_eq!((format, pair.history.len(), pair.system.is_some()), (Format::MsSwift, 1, true));
    assert_eq!((&*pair.chosen, &*pair.rejected), ("It equals 3", "I don't know"));
    let messages = r#"{"messages": [{"role": "user", "content": "<image>What is this?"}, {"role": "assistant", "content": "A kitten."}], "images": ["cat.png"], "rejected_messages": [{"role": "user", "content": "<image>What is this?"}, {"role": "assistant", "content": "A puppy."}], "rejected_images": ["cat.png"]}"#;
    let (format, pair) = only_pair(messages);
    assert_eq!((format, &*pair.rejected), (Format::MsSwift, "A puppy."));
    assert_eq!((&pair.images[..], &*pair.prompt), (&["cat.png".to_owned()][..], "<image>What is this?"));
    let other = messages.replace(r#""rejected_images": ["cat.png"]"#, r#""rejected_images": ["dog.png"]"#);
    let (_, items, skipped) = lines(None, &[&other]);
    assert!(items.is_empty() && skipped[0].detail.contains("`rejected_images`"), "{skipped:?}");
    let other = messages.replace(
        r#""<image>What is this?"}, {"role": "assistant", "content": "A puppy."#,
        r#""Another?"}, {"role": "assistant", "content": "A puppy."#,
    );
    let (_, items, skipped) = lines(None, &[&other]);
    assert!(items.is_empty() && skipped[0].detail.contains("`rejected_messages`"), "{skipped:?}");
}

/// ms-swift takes `margin` for its reward loss.
#[test]
fn records_of_ms_swift_have_the_margin_under_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    fs::write(&input, r#"{"prompt": "What?", "chosen": "A", "rejected": "B", "margin": 0.5}"#).unwrap();
    converted(&input, &output, Format::MsSwift).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert!(record.get("margin").is_none() && record["score_margin"] == 0.5, "{record}");
    let (_, items, _) = read(&output, None).unwrap();
    assert!(matches!(&items[..], [Item::Pair(pair)] if pair.margin == Some(0.5)), "{items:?}");
    let other = fs::read_to_string(&output).unwrap().replace("score_margin", "margin");
    assert_eq!(only_pair(other.trim()).1.margin, Some(0.5));
}

/// The forms that ms-swift converts to `messages`.
#[test]
fn other_forms_of_ms_swift_are_read() {
    let query = r#"{"system": "Be brief.", "query": "What?", "response": "A", "history": [["One?", "Two."]], "rejected_response": "B"}"#;
    let conversation = r#"{"system": "Be brief.", "conversation": [{"human": "One?", "assistant": "Two."}, {"human": "What?", "assistant": "A"}], "rejected_response": "B"}"#;
    let alpaca = r#"{"system": "Be brief.", "instruction": "What?", "input": "", "output": "A", "history": [["One?", "Two."]], "rejected_response": [{"role": "assistant", "content": "B"}]}"#;
    for line in [query, conversation, alpaca] {
        let (format, pair) = only_pair(line);
        assert_eq!((format, pair.system.as_deref()), (Format::MsSwift, Some("Be brief.")), "{line}");
        assert_eq!(pair.history[..], [Turn::new("One?", "Two.")], "{line}");
        assert_eq!((&*pair.prompt, &*pair.chosen, &*pair.rejected), ("What?", "A", "B"), "{line}");
    }
    for (line, named) in [
        (query.replace("\"response\": \"A\", ", ""), "`response`: expected text"),
        (
            query.replace("\"B\"", "[]"),
            "`rejected_response`: expected text or one message, found a list of 0",
        ),
        (
            query.replace("\"B\"", r#"[{"role": "user", "content": "B"}]"#),
            "`rejected_response[0]`: expected an answer",
        ),
        (conversation.replace("\"assistant\": \"Two.\"", "\"gpt\": \"Two.\""), "`conversation[0].assistant`"),
    ] {
        let (_, items, skipped) = lines(None, &[&line]);
        assert!(items.is_empty() && skipped[0].detail.contains(named), "{line}: {skipped:?}");
    }
}

#[test]
fn povid_turns_with_different_answers_become_pairs() {
    let line = r#"{"id": "a", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}, {"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "It is."}], "rejected_conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}, {"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "It is not."}]}"#;
    let (format, items, skipped) = lines(None, &[line]);
    assert_eq!((format, skipped), (Format::Povid, Vec::new()));
    let [Item::Pair(first), Item::Pair(second)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((&*first.id, &*first.rejected, first.history.len()), ("a#0", "A dog.", 0));
    assert_eq!((&*second.id, &*second.rejected, second.history.len()), ("a#1", "It is not.", 2));
    assert_eq!(second.history[0].answer, "A cat.");
    let same = line.replace("A dog.", "A cat.").replace("It is not.", "It is.");
    assert_eq!(lines(None, &[&same]).2[0].reason, SkipReason::Identical);
}

#[test]
fn trl_forms_are_read() {
    let plain = r#"{"prompt": "<image>What?", "image": "a.jpg", "chosen": "A cat.", "rejected": "A dog."}"#;
    let text = r#"{"prompt": [{"role": "user", "content": "What?"}], "images": ["a.jpg"], "chosen": [{"role": "assistant", "content": "A cat."}], "rejected": [{"role": "assistant", "content": "A dog."}]}"#;
    let implicit = r#"{"images": ["a.jpg"], "chosen": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A cat."}], "rejected": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A dog."}]}"#;
    let parts = r#"{"prompt": [{"role": "user", "content": [{"type": "image", "text": null}, {"type": "text", "text": "What?"}]}], "images": ["a.jpg"], "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}], "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}]}"#;
    for (line, format) in
        [(plain, Format::TrlPlain), (text, Format::Trl), (implicit, Format::Trl), (parts, Format::Trl)]
    {
        let (found, pair) = only_pair(line);
        assert_eq!(found, format);
        assert_eq!(pair.prompt.replace('\n', ""), "<image>What?", "{line}");
        assert_eq!((&*pair.chosen, &*pair.rejected, &*pair.images[0]), ("A cat.", "A dog.", "a.jpg"));
        assert_eq!(pair.kind.as_str(), "unknown");
    }
}

#[test]
fn unknown_format_is_named_with_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "{\"question\": \"What?\", \"caption\": \"A cat.\"}\n").unwrap();
    let error = read(&path, None).unwrap_err().to_string();
    assert!(error.contains("question, caption") && error.contains("--format"), "{error}");
    // a record that is not an object does not hide the format of the next one
    let good = r#"{"prompt": "What?", "chosen": "A", "rejected": "B"}"#;
    fs::write(&path, format!("3\n{good}\n")).unwrap();
    let (format, items, skipped) = read(&path, None).unwrap();
    assert_eq!((format, items.len(), skipped.len()), (Format::TrlPlain, 1, 1));
    // the name decides over the keys
    let (format, items, skipped) = read(&path, Some(Format::Povid)).unwrap();
    assert_eq!((format, items.len(), skipped.len()), (Format::Povid, 0, 2));
}

#[test]
fn what_a_format_cannot_hold_is_skipped_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    let own = |id: &str, more: &str| {
        format!(
            r#"{{"id": "{id}", "prompt": "What?", "chosen": "A", "rejected": "B", "kind": "llm-hal"{more}}}"#
        )
    };
    let all = [
        own("fits", r#", "images": ["a.jpg"]"#),
        own("text", ""),
        own("system", r#", "images": ["a.jpg"], "system": "Be brief.""#),
        own(
            "history",
            r#", "images": ["a.jpg"], "history": [{"prompt": "<image>\nOne?", "answer": "Two."}]"#,
        ),
        own("two", r#", "images": ["a.jpg", "b.jpg"]"#),
        own("beta", r#", "images": ["a.jpg"], "beta": 0.2"#),
        own("contrast", r#", "images": ["a.jpg"], "contrast_images": ["b.jpg"], "contrast_answer": "C""#),
        own("same", r#", "images": ["a.jpg"]"#).replace("\"B\"", "\"A\""),
    ];
    fs::write(&input, all.join("\n")).unwrap();
    let skipped = |format| {
        let skipped = converted(&input, &output, format).unwrap();
        skipped.into_iter().map(|one| (one.id, one.reason)).collect::<Vec<_>>()
    };
    let not = |ids: &[&str]| {
        let not = ids.iter().map(|id| ((*id).to_owned(), SkipReason::NotInFormat));
        not.chain([("same".to_owned(), SkipReason::Identical)]).collect::<Vec<_>>()
    };
    assert_eq!(skipped(Format::RlaifV), not(&["text", "system", "history", "two"]));
    assert_eq!(skipped(Format::TrlPlain), not(&["system", "history"]));
    assert_eq!(skipped(Format::Trl), not(&[]));
    let without_place = ["beta", "contrast"].map(|id| (id.to_owned(), SkipReason::NotInFormat));
    assert_eq!(skipped(Format::Bpo), without_place);
    assert_eq!(skipped(Format::Llava), []);
    // nothing fits: the output keeps its content
    let before = fs::read(&output).unwrap();
    fs::write(&input, own("same", "").replace("\"B\"", "\"A\"")).unwrap();
    let error = converted(&input, &output, Format::Trl).unwrap_err();
    assert!(matches!(error, PairsError::NothingConverted { .. }), "{error}");
    assert_eq!(fs::read(&output).unwrap(), before);
}

#[test]
fn scored_completions_become_the_pairs_that_pass_the_filter() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.json"), dir.path().join("out.jsonl"));
    let record = r#"[{"prompt": "<image>\nWhat?", "image": "a.jpg", "completions": [
        {"score": 1, "response": "A cat.", "type": "gt"}, {"score": 0, "response": "A dog.", "type": "mllm-hal"},
        {"score": 0, "response": "A cat and far too many words.", "type": "llm-hal"}]}]"#;
    fs::write(&input, record).unwrap();
    let filter = PairFilter::default().with_max_words(3);
    let mut skipped = Vec::new();
    let options = ConvertOptions::new(&filter);
    let done =
        convert(&input, &output, Format::MsSwift, &options, &mut |one| skipped.push(one.reason)).unwrap();
    assert_eq!((done.from, done.written, skipped), (Format::Bpo, 1, vec![SkipReason::TooLong]));
    assert_eq!(read_pairs(&output).unwrap().pairs[0].id, "0:0>1");
}

#[test]
fn llama_factory_list_keeps_its_other_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("my.pairs.json"));
    let list = dir.path().join("dataset_info.json");
    fs::write(&list, r#"{"other": {"file_name": "x.json"}}"#).unwrap();
    fs::write(&input, r#"{"prompt": "What?", "chosen": "A", "rejected": "B"}"#).unwrap();
    converted(&input, &output, Format::LlamaFactory).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    assert_eq!(info["other"]["file_name"], "x.json");
    let entry = &info["my"];
    assert_eq!((&entry["file_name"], &entry["formatting"]), (&"my.pairs.json".into(), &"sharegpt".into()));
    assert!(entry["ranking"] == true && entry["columns"]["messages"] == "conversations", "{entry}");
    fs::write(&list, "[]").unwrap();
    let error = converted(&input, &output, Format::LlamaFactory).unwrap_err().to_string();
    assert!(error.contains("dataset_info.json"), "{error}");
}

/// The format of the authors has no key for the source of a chosen answer, but each answer has a type.
#[test]
fn own_answers_stay_own_in_the_format_of_the_authors() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("pairs.jsonl"), dir.path().join("bpo.json"));
    let line = r#"{"id": "a", "image": "a.jpg", "prompt": "Why?", "chosen": "So.", "rejected": "No.", "kind": "mllm-hal", "chosen_kind": "own"}"#;
    fs::write(&input, line).unwrap();
    assert_eq!(converted(&input, &output, Format::Bpo).unwrap(), Vec::new());
    let records = bpo::read(&output).unwrap().records;
    assert_eq!(records[0].completions[0].kind, CompletionKind::Own);
    let pairs: Vec<_> = bpo_pairs::all_pairs(&records[0]).collect();
    assert_eq!(pairs[0].chosen_kind, Some(CompletionKind::Own));
}
