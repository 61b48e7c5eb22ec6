//! AMBER: comparison with the published script (tools/golden/amber.py makes the golden file), and the
//! reading of its files.

use std::path::PathBuf;

use bpo_eval::{
    AmberFiles, AmberItem, AmberKind, AmberKinds, AmberReport, Bootstrap, Estimate, EvalError, PopeLabel,
    Scored, YesNoReading,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

/// Writes questions, annotations and answers of a case of the golden file. Three questions are about
/// each image.
fn write(files: &Files, rows: &str) -> (AmberFiles, PathBuf) {
    let (mut questions, mut answers) = (Vec::new(), Vec::new());
    let mut annotations = vec![json!({"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["dog"]})];
    for (i, row) in rows.split(' ').enumerate() {
        let letters: Vec<char> = row.chars().collect();
        let kind = match letters[0] {
            'e' => "discriminative-hallucination",
            's' => "discriminative-attribute-state",
            'n' => "discriminative-attribute-number",
            'a' => "discriminative-attribute-action",
            'r' => "discriminative-relation",
            _ => "relation",
        };
        let label = if letters[1] == 'y' { "yes" } else { "no" };
        let answer = match letters[2] {
            'Y' => "Yes",
            'N' => "No",
            _ => "no",
        };
        let image = format!("AMBER_{}.jpg", i / 3);
        questions.push(json!({"id": i + 2, "image": image, "query": format!("Is it {i}?")}));
        annotations.push(json!({"id": i + 2, "type": kind, "truth": label}));
        answers.push(json!({"id": i + 2, "response": answer}));
    }
    let array = |name: &str, records: Vec<Value>| files.write(name, &Value::Array(records).to_string());
    let amber = AmberFiles {
        questions: array("questions.json", questions),
        annotations: array("annotations.json", annotations),
    };
    (amber, array("answers.json", answers))
}

#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Vec<Value> = serde_json::from_str(include_str!("../golden/amber.json")).unwrap();
    assert!(golden.len() > 10);
    for case in golden {
        let files = Files::new();
        let rows = case["rows"].as_str().unwrap();
        let (amber, answers) = write(&files, rows);
        // an answer `no` for another text is unclear, but not alone
        let scored = amber.read_answers(&answers, YesNoReading::AsPublished).unwrap();
        let report = AmberReport::new(&scored.items, bootstrap());
        let count = rows.split(' ').count();
        assert_eq!((report.items, report.images), (count, count.div_ceil(3)));
        assert_eq!(report.unclear, rows.matches('x').count());
        let percent = |estimate: &Estimate| format!("{:.1}", 100.0 * estimate.value.unwrap());
        let found: Vec<(String, Vec<String>)> = report
            .kinds
            .iter()
            .map(|(name, scores)| {
                (name.to_owned(), scores.metrics().map(|(_, value)| percent(value)).to_vec())
            })
            .collect();
        let figures = case["figures"].as_object().unwrap();
        assert_eq!(found.len(), figures.len());
        for (name, values) in found {
            let expected: Vec<String> = figures[&name]
                .as_array()
                .unwrap()
                .iter()
                .map(|value| format!("{:.1}", value.as_f64().unwrap()))
                .collect();
            assert_eq!(values, expected, "{name}");
        }
    }
}

fn item(image: &str, label: PopeLabel, text: &str) -> AmberItem {
    AmberItem::new(image, AmberKind::Existence, label, text, YesNoReading::AsPublished)
}

#[test]
fn answers_are_read_by_the_published_rule_or_by_the_first_word() {
    use PopeLabel::{No, Yes};
    for (text, published, first_word) in [
        ("Yes", Some(Yes), Some(Yes)),
        ("No", Some(No), Some(No)),
        ("yes", None, Some(Yes)),
        ("No.", None, Some(No)),
        (" **NO**, there is yes", None, Some(No)),
        ("There is no dog.", None, None),
        ("Nothing", None, None),
        ("", None, None),
    ] {
        let read = |reading| AmberItem::new("a", AmberKind::State, Yes, text, reading).answer;
        assert_eq!(
            (read(YesNoReading::AsPublished), read(YesNoReading::FirstWord)),
            (published, first_word),
            "{text:?}"
        );
    }
}

/// An unclear answer is wrong even if the label is no, and it is no answer no.
#[test]
fn unclear_answers_are_wrong() {
    use PopeLabel::{No, Yes};
    let items = [item("a", No, "No"), item("a", No, "no"), item("b", Yes, "Yes"), item("b", Yes, "no")];
    let scores = AmberReport::new(&items, bootstrap()).kinds.existence.unwrap();
    let near = |estimate: Estimate, expected: f64| (estimate.value.unwrap() - expected).abs() < 1e-3;
    assert!(near(scores.accuracy, 0.5) && near(scores.precision, 1.0) && near(scores.recall, 0.5));
}

#[test]
fn differences_are_paired() {
    use PopeLabel::{No, Yes};
    let labels = [("a", Yes), ("a", No), ("b", Yes), ("b", No), ("c", No), ("d", No)];
    let answered =
        |texts: [&str; 6]| labels.iter().zip(texts).map(|((i, l), text)| item(i, *l, text)).collect();
    let before: Vec<AmberItem> = answered(["Yes", "Yes", "No", "No", "Yes", "No"]);
    let after: Vec<AmberItem> = answered(["Yes", "No", "Yes", "No", "Yes", "No"]);
    let differences = AmberKinds::differences(&before, &after, &bootstrap()).unwrap();
    let of = |items: &[AmberItem]| AmberReport::new(items, bootstrap()).kinds.existence.unwrap();
    let found = differences.existence.unwrap();
    for (difference, before, after) in [
        (found.accuracy, of(&before).accuracy, of(&after).accuracy),
        (found.precision, of(&before).precision, of(&after).precision),
        (found.recall, of(&before).recall, of(&after).recall),
        (found.f1, of(&before).f1, of(&after).f1),
    ] {
        assert_eq!(difference.value.unwrap(), after.value.unwrap() - before.value.unwrap());
    }
    // no image gets worse
    assert!(found.accuracy.low.unwrap() >= 0.0 && differences.overall.is_none());
    let same = AmberKinds::differences(&before, &before, &bootstrap()).unwrap().existence.unwrap();
    assert_eq!((same.f1.low, same.f1.high), (Some(0.0), Some(0.0)));
    let error = AmberKinds::differences(&before, &after[1..], &bootstrap()).unwrap_err();
    assert!(error.to_string().contains("6 and 5 answers"), "{error}");
    let mut other = after;
    other[5].kind = AmberKind::Number;
    assert!(AmberKinds::differences(&before, &other, &bootstrap()).is_err());
}

fn read(
    files: &Files,
    questions: &str,
    annotations: &str,
    answers: &str,
) -> Result<Scored<AmberItem>, EvalError> {
    let amber = AmberFiles {
        questions: files.write("questions.json", questions),
        annotations: files.write("annotations.json", annotations),
    };
    amber.read_answers(&files.write("answers.json", answers), YesNoReading::AsPublished)
}

const QUESTIONS: &str = r#"[{"id": 1, "image": "AMBER_1.jpg", "query": "Describe this image."},
    {"id": 2, "image": "AMBER_1.jpg", "query": "Is the sky sunny in this image?"},
    {"id": 3, "image": "AMBER_1.jpg", "query": "Is there a dog in this image?"}]"#;
const ANNOTATIONS: &str = r#"[{"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["dog"]},
    {"id": 2, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 3, "type": "discriminative-hallucination", "truth": "no"}]"#;

#[test]
fn answers_belong_to_questions_by_id_image_and_text() {
    let files = Files::new();
    // as `bpo generate` writes them, in another order
    let generated = r#"{"id": "3", "images": ["AMBER_1.jpg"], "prompt": "Is there a dog in this image?", "text": "No", "finish": "stop", "tokens": 1}
{"id": "1", "images": ["AMBER_1.jpg"], "prompt": "Describe this image.", "text": "A sky.", "finish": "stop", "tokens": 3}
{"id": "2", "images": ["AMBER_1.jpg"], "prompt": "Is the sky sunny in this image?", "text": "Yes", "finish": "stop", "tokens": 1}"#;
    let Scored { items, unmatched, .. } = read(&files, QUESTIONS, ANNOTATIONS, generated).unwrap();
    // the description is not scored
    assert_eq!((items.len(), unmatched.len()), (2, 0));
    assert_eq!((items[0].kind, items[0].answer), (AmberKind::State, Some(PopeLabel::Yes)));
    assert_eq!((items[1].kind, items[1].label), (AmberKind::Existence, PopeLabel::No));

    let without = generated.lines().take(2).collect::<Vec<_>>().join("\n");
    let error = read(&files, QUESTIONS, ANNOTATIONS, &without).unwrap_err().to_string();
    assert!(error.contains("1 questions have no answer (2)"), "{error}");
    let other = generated.replace("Is there a dog", "Is there a cat");
    let error = read(&files, QUESTIONS, ANNOTATIONS, &other).unwrap_err();
    assert!(matches!(error, EvalError::OtherQuestion { record: 1, .. }), "{error}");
    let unclear = generated.replace("\"No\"", "\"No, there is none.\"").replace("\"Yes\"", "\"Yes.\"");
    let error = read(&files, QUESTIONS, ANNOTATIONS, &unclear).unwrap_err();
    assert!(matches!(error, EvalError::Unclear { answers: 2, .. }), "{error}");
}

#[test]
fn annotations_that_cannot_be_used_are_errors() {
    let files = Files::new();
    let answers =
        r#"[{"id": 1, "response": "A"}, {"id": 2, "response": "Yes"}, {"id": 3, "response": "No"}]"#;
    let fails = |annotations: String| read(&files, QUESTIONS, &annotations, answers).unwrap_err().to_string();
    for (from, to, said) in [
        ("\"no\"", "\"perhaps\"", "record 3: the label is \"perhaps\""),
        ("\"no\"", "[\"sky\"]", "record 3: the label is \"[\\\"sky"),
        (r#", "truth": "no""#, "", "record 3: none of the keys truth"),
        (
            "discriminative-hallucination",
            "existence",
            "record 3: the type is \"existence\"; expected generative",
        ),
        (r#""type": "generative", "#, "", "record 1: none of the keys type"),
        ("\"id\": 3", "\"id\": 2", "record 3: the id \"2\" repeats"),
        ("\"id\": 3", "\"number\": 3", "record 3: none of the keys question_id, id"),
        ("\"id\": 3", "\"id\": 4", "questions.json: record 3: "),
    ] {
        let error = fails(ANNOTATIONS.replace(from, to));
        assert!(error.contains(said), "{error}");
    }
    assert!(
        fails(ANNOTATIONS.replace("\"id\": 3", "\"id\": 4"))
            .contains("annotations.json has no annotation with the id \"3\"")
    );
    let nameless = QUESTIONS.replace("\"id\": 2, ", "");
    let error = read(&files, &nameless, ANNOTATIONS, answers).unwrap_err().to_string();
    assert!(error.contains("questions.json: record 2: none of the keys question_id, id"), "{error}");
}

proptest! {
    #[test]
    fn shares_stay_from_0_to_1(rows in prop::collection::vec((0..3usize, 0..5usize, any::<bool>(), 0..3usize), 1..40)) {
        let kinds = [AmberKind::Existence, AmberKind::State, AmberKind::Number, AmberKind::Action, AmberKind::Relation];
        let items: Vec<AmberItem> = rows
            .into_iter()
            .map(|(image, kind, yes, text)| {
                let label = if yes { PopeLabel::Yes } else { PopeLabel::No };
                AmberItem::new(["a", "b", "c"][image], kinds[kind], label, ["Yes", "No", "?"][text], YesNoReading::AsPublished)
            })
            .collect();
        let report = AmberReport::new(&items, bootstrap());
        for (_, scores) in report.kinds.iter() {
            for estimate in [scores.accuracy, scores.precision, scores.recall, scores.f1] {
                prop_assert!((0.0..=1.0).contains(&estimate.value.unwrap()));
                prop_assert!(estimate.low <= estimate.high);
            }
        }
        let text = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(serde_json::from_str::<AmberReport>(&text).unwrap(), report);
    }
}
