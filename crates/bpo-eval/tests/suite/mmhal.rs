//! MMHal-Bench: comparison with the published script (tools/golden/mmhal.py makes the golden file), and
//! the reading of questions, answers and replies.

use bpo_eval::{
    Bootstrap, EvalError, MmhalDifferences, MmhalItem, MmhalKind, MmhalReport, ReportTable, Scored,
    read_mmhal_answers, read_mmhal_answers_to, read_mmhal_replies,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Value = serde_json::from_str(include_str!("../golden/mmhal.json")).unwrap();
    let replies = golden["replies"].as_array().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let files = Files::new();
        let texts: Vec<&str> = case["places"]
            .as_array()
            .unwrap()
            .iter()
            .map(|place| replies[place.as_u64().unwrap() as usize].as_str().unwrap())
            .collect();
        let completion = |text: &&str| json!({"choices": [{"message": {"content": text}}]});
        let completions: Vec<Value> = texts.iter().map(completion).collect();
        let path = files.write("evaluation.json", &json!(completions).to_string());
        let Scored { items, .. } = read_mmhal_replies(&path, true).unwrap();
        let report = MmhalReport::new(&items, bootstrap());
        assert_eq!((report.items, report.ungraded.len()), (96, 0));
        let shown = |value: Option<f64>| format!("{:.2}", value.unwrap());
        let figures = &case["figures"];
        assert_eq!(shown(report.score.value), figures["score"].as_str().unwrap());
        assert_eq!(shown(report.hallucination_rate.value), figures["hallucination_rate"].as_str().unwrap());
        let kinds: Vec<String> = report.kinds.iter().map(|kind| shown(kind.score.value)).collect();
        let expected = figures["kinds"].as_array().unwrap();
        let expected: Vec<String> = expected.iter().map(|mean| shown(mean.as_f64())).collect();
        assert_eq!(kinds, expected);
        assert_eq!(report.kinds.iter().map(|kind| kind.kind).collect::<Vec<_>>(), MmhalKind::ALL);

        // without the published rule, replies without a clear rating are left out
        let strings = files.write("strings.json", &json!(texts).to_string());
        let Scored { items, .. } = read_mmhal_replies(&strings, false).unwrap();
        let unclear = texts.iter().filter(|text| MmhalItem::read_rating(text).is_none()).count();
        let report = MmhalReport::new(&items, bootstrap());
        assert_eq!((report.items, report.ungraded.len()), (96 - unclear, unclear));
    }
}

#[test]
fn ratings_are_read_like_the_published_script() {
    for (reply, rating) in [
        ("Rating: 0", Some(0)),
        ("RATING: 6, very informative", Some(6)),
        ("rating: 3\nRating: 3", Some(3)),
        ("- Rating: 4/6", Some(4)),
        ("Rating:4", None),
        ("Rating: 7", None),
        ("Rating: 2 or rating: 3", None),
        ("5", None),
        ("", None),
    ] {
        assert_eq!(MmhalItem::read_rating(reply), rating, "{reply:?}");
    }
}

/// Questions as in `response_template.json`.
fn template(number: usize, change: impl Fn(usize, &mut Value)) -> String {
    let record = |i: usize| {
        let mut record = json!({
            "question_type": MmhalKind::ALL[i % 8].as_str(), "question_topic": "food", "image_id": format!("image{i}"),
            "image_src": "https://example.org/a.jpg", "image_content": ["Cat", "Mat"],
            "question": format!("What is at {i}?"), "gt_answer": "A cat.", "model_answer": format!("A dog at {i}."),
        });
        change(i, &mut record);
        record
    };
    serde_json::to_string_pretty(&(0..number).map(record).collect::<Vec<_>>()).unwrap()
}

#[test]
fn answers_are_in_the_template_or_in_a_file_of_their_own() {
    let files = Files::new();
    let filled = files.write("filled.json", &template(9, |_, _| {}));
    let Scored { items, .. } = read_mmhal_answers(&filled).unwrap();
    assert_eq!((items.len(), items[8].kind, &items[8].id[..]), (9, MmhalKind::Attribute, "9"));
    assert_eq!((&items[2].image_content[..], &items[2].text[..]), ("Cat, Mat", "A dog at 2."));
    assert_eq!((&items[2].question[..], &items[2].reference[..]), ("What is at 2?", "A cat."));
    // the published order of the types
    let untyped = files.write(
        "untyped.json",
        &template(16, |_, record| {
            record.as_object_mut().unwrap().remove("question_type");
        }),
    );
    let kinds: Vec<MmhalKind> = read_mmhal_answers(&untyped).unwrap().items.iter().map(|i| i.kind).collect();
    assert_eq!(kinds, [MmhalKind::ALL, MmhalKind::ALL].concat());

    let empty = files.write("empty.json", &template(3, |_, record| record["model_answer"] = json!("")));
    let said = read_mmhal_answers(&empty).unwrap_err().to_string();
    assert!(said.contains("empty.json: no model_answer has a text"), "{said}");
    let line = |i: usize| json!({"image": format!("images/image{i}.jpg"), "prompt": format!("What is at {i}?"), "text": format!("{i}")});
    let answers = files.write_lines("answers", [2, 0, 1].map(|i| line(i).to_string()));
    let Scored { items, .. } = read_mmhal_answers_to(&empty, &answers).unwrap();
    assert_eq!(items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
    let mut blank = line(1);
    blank["text"] = json!("");
    let blank = files.write_lines("blank", [line(0), blank, line(2)].map(|line| line.to_string()));
    let error = read_mmhal_answers_to(&empty, &blank).unwrap_err().to_string();
    assert!(error.contains("blank") && error.contains("record 2: the answer is empty"), "{error}");
    let few = files.write_lines("few", [line(0).to_string()]);
    let error = read_mmhal_answers_to(&empty, &few).unwrap_err().to_string();
    assert!(error.contains("2 questions have no answer"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_errors() {
    let files = Files::new();
    let fails = |change: &dyn Fn(&mut Value)| {
        let text = template(3, |i, record| {
            if i == 1 {
                change(record)
            }
        });
        read_mmhal_answers(&files.write("template.json", &text)).unwrap_err().to_string()
    };
    let without =
        |key: &'static str| move |record: &mut Value| drop(record.as_object_mut().unwrap().remove(key));
    for (said, error) in [
        ("none of the keys model_answer", fails(&without("model_answer"))),
        ("none of the keys gt_answer", fails(&without("gt_answer"))),
        ("none of the keys image_content", fails(&without("image_content"))),
        ("none of the keys question_type", fails(&without("question_type"))),
        ("the question_type is \"odd\"; expected attribute,", fails(&|r| r["question_type"] = json!("odd"))),
        (
            "image_content is a string; expected a list of names",
            fails(&|r| r["image_content"] = json!("Cat")),
        ),
        ("image_content is a number; expected a list", fails(&|r| r["image_content"] = json!([1]))),
        ("the answer is empty", fails(&|r| r["model_answer"] = json!(" "))),
        ("model_answer is a number; expected a text", fails(&|r| r["model_answer"] = json!(3))),
        ("question is null; expected a text", fails(&|r| r["question"] = json!(null))),
    ] {
        assert!(error.contains("template.json: record 2") && error.contains(said), "{error}");
    }
    let untyped = template(9, |_, record| {
        record.as_object_mut().unwrap().remove("question_type");
    });
    let error = read_mmhal_answers(&files.write("untyped.json", &untyped)).unwrap_err().to_string();
    assert!(
        error.contains("9 records without a question_type") && error.contains("multiple of 8"),
        "{error}"
    );

    let replies = |value: Value| read_mmhal_replies(&files.write("replies.json", &value.to_string()), true);
    let error = replies(json!(vec!["Rating: 1"; 7])).unwrap_err().to_string();
    assert!(error.contains("replies.json: 7 records"), "{error}");
    let odd = json!([1, "a", "b", "c", "d", "e", "f", "g"]);
    let error = replies(odd).unwrap_err().to_string();
    assert!(error.contains("replies.json: record 1 is a number without a reply"), "{error}");
    let mixed = json!(["Rating: 1", {"content": "Rating: 2"}, {"choices": [{"message": {"content": "Rating: 3"}}]},
        "", "", "", "", ""]);
    let ratings: Vec<Option<u8>> =
        replies(mixed).unwrap().items.into_iter().take(4).map(|item| item.rating).collect();
    assert_eq!(ratings, [Some(1), Some(2), Some(3), Some(0)]);
}

/// Items with these ratings, in the published order of the types.
fn items(ratings: &[Option<u8>]) -> Vec<MmhalItem> {
    let files = Files::new();
    let text = |rating: &Option<u8>| rating.map_or_else(String::new, |rating| format!("Rating: {rating}"));
    let mut texts: Vec<String> = ratings.iter().map(text).collect();
    texts.resize(ratings.len().next_multiple_of(8), String::new());
    let path = files.write("replies.json", &json!(texts).to_string());
    let mut items = read_mmhal_replies(&path, false).unwrap().items;
    items.truncate(ratings.len());
    items
}

#[test]
fn systems_are_compared_where_both_have_ratings() {
    let before = items(&[Some(2), Some(6), None, Some(1)]);
    let after = items(&[Some(4), Some(6), Some(0), None]);
    let report = MmhalReport::new(&before, bootstrap());
    assert_eq!((report.items, &report.ungraded[..]), (3, &["3".to_owned()][..]));
    assert_eq!((report.score.value, report.hallucination_rate.value), (Some(3.0), Some(2.0 / 3.0)));
    let differences = MmhalDifferences::new(&before, &after, &bootstrap()).unwrap();
    assert_eq!((differences.items, differences.score.value), (2, Some(1.0)));
    assert_eq!(differences.hallucination_rate.value, Some(-0.5));
    assert_eq!(differences.kinds[2].score.value, None);
    let table = ReportTable::mmhal(&[("", &report)]).to_string();
    for part in ["score", "3.00 [", "hallucination rate", "0.67 [", "adversarial", "3 (1)"] {
        assert!(table.contains(part), "{table}");
    }
    let table = ReportTable::mmhal_differences(&[("b", &differences)]).to_string();
    assert!(table.contains("+1.00 [") && table.contains("-50.0 ["), "{table}");
    let error = MmhalDifferences::new(&before, &after[..3], &bootstrap()).unwrap_err();
    assert!(matches!(error, EvalError::Unpaired { .. }), "{error}");
}

proptest! {
    #[test]
    fn metrics_stay_in_their_ranges(ratings in prop::collection::vec(prop::option::of(0..=6u8), 1..40)) {
        let items = items(&ratings);
        let report = MmhalReport::new(&items, bootstrap());
        let rated = ratings.iter().flatten().count();
        prop_assert_eq!((report.items, report.ungraded.len()), (rated, ratings.len() - rated));
        prop_assert_eq!(report.kinds.iter().map(|kind| kind.items).sum::<usize>(), rated);
        prop_assert!(report.score.value.is_none_or(|value| (0.0..=6.0).contains(&value)));
        prop_assert!(report.hallucination_rate.value.is_none_or(|value| (0.0..=1.0).contains(&value)));
        let text = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(serde_json::from_str::<MmhalReport>(&text).unwrap(), report);
    }
}
