//! MM-Vet: comparison with the published script (tools/golden/mm_vet.py makes the golden file), and the
//! reading of questions, answers and grades.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_eval::{
    Bootstrap, EvalError, GradingError, MmVetDifferences, MmVetItem, MmVetReport, MmVetScore, ReportTable,
    Scored, read_mm_vet_answers, read_mm_vet_grades,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

/// A question in `mm-vet.json` with its capabilities.
fn asked(capabilities: &Value) -> Value {
    json!({"question": "What is x?", "answer": "-1<AND>-5", "capability": capabilities, "imagename": "a.png"})
}

/// An object in this order, which `serde_json` would sort.
fn object(entries: impl IntoIterator<Item = (String, Value)>) -> String {
    let entries: Vec<String> =
        entries.into_iter().map(|(id, value)| format!("{}: {value}", json!(id))).collect();
    format!("{{\n{}\n}}\n", entries.join(",\n"))
}

fn published(scores: &[MmVetScore]) -> BTreeMap<String, f64> {
    let published = |score: &MmVetScore| (score.name.clone(), score.published.unwrap());
    let named: BTreeMap<_, _> = scores.iter().map(published).collect();
    assert_eq!(named.len(), scores.len());
    named
}

#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Value = serde_json::from_str(include_str!("../golden/mm_vet.json")).unwrap();
    let cases = golden.as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let files = Files::new();
        let ids = || (0..).map(|i| format!("v1_{i}"));
        let (questions, grades) = (case["questions"].as_array().unwrap(), case["grades"].as_array().unwrap());
        let asked = files.write("mm-vet.json", &object(ids().zip(questions.iter().map(asked))));
        let graded = |scores: &Value| json!({"model": ["gpt-4-0613"], "content": ["0.5"], "score": scores});
        let grades = files.write("grades.json", &object(ids().zip(grades.iter().map(graded))));
        let Scored { items, unmatched, .. } = read_mm_vet_grades(&asked, &grades, None).unwrap();
        assert!(items.len() == questions.len() && unmatched.is_empty());
        let report = MmVetReport::new(&items, bootstrap());
        let figures = &case["figures"];
        assert_eq!(json!(report.total.published), figures["total"]);
        assert_eq!(json!(report.std), figures["std"]);
        assert_eq!(json!(report.runs), figures["runs"]);
        let expected: BTreeMap<String, f64> =
            serde_json::from_value(figures["capabilities"].clone()).unwrap();
        assert_eq!(published(&report.capabilities), expected);
        let combinations: Vec<(Vec<String>, f64)> =
            serde_json::from_value(figures["combinations"].clone()).unwrap();
        let expected: BTreeMap<String, f64> =
            combinations.into_iter().map(|(needs, score)| (needs.join("_"), score)).collect();
        let sorted = |name: String| {
            let mut needs: Vec<&str> = name.split('_').collect();
            needs.sort_unstable();
            needs.join("_")
        };
        let found = published(&report.combinations);
        let found: BTreeMap<String, f64> =
            found.into_iter().map(|(name, score)| (sorted(name), score)).collect();
        assert_eq!(found, expected);
        // the table shows these figures
        let table = ReportTable::mm_vet(&[("", &report)]).to_string();
        let total = table.lines().find_map(|line| line.strip_prefix("total")).unwrap();
        assert!(total.trim().starts_with(&format!("{:.1} % [", figures["total"].as_f64().unwrap())));
    }
}

fn item(id: &str, capabilities: &[&str], grades: &[f64]) -> MmVetItem {
    let capabilities = capabilities.iter().map(|name| (*name).to_owned());
    let mut item = MmVetItem::new(id, "What is x?", "3", capabilities, "x = 3");
    item.grades = grades.to_vec();
    item
}

#[test]
fn answers_without_a_grade_are_named_and_left_out() {
    let items = [
        item("a", &["ocr", "math", "ocr"], &[0.5, 1.0]),
        item("b", &["math"], &[]),
        item("c", &["math", "ocr"], &[0.0, 0.5]),
        item("d", &["rec"], &[]),
    ];
    let report = MmVetReport::new(&items, bootstrap());
    assert_eq!((report.items, &report.ungraded[..]), (2, &["b".to_owned(), "d".to_owned()][..]));
    assert_eq!((report.total.score.value, report.total.published), (Some(0.5), Some(50.0)));
    assert_eq!((&report.runs[..], report.std), (&[25.0, 75.0][..], Some(25.0)));
    let names = |scores: &[MmVetScore]| -> Vec<(String, usize)> {
        scores.iter().map(|score| (score.name.clone(), score.items)).collect()
    };
    let named = |name: &str, items| (name.to_owned(), items);
    assert_eq!(names(&report.capabilities), [named("math", 2), named("ocr", 2), named("rec", 0)]);
    assert_eq!(names(&report.combinations), [named("math_ocr", 2), named("math", 0), named("rec", 0)]);
    assert_eq!(report.capabilities[2].published, None);
    let table = ReportTable::mm_vet(&[("", &report)]).to_string();
    for line in ["exactly math_ocr", "exactly rec", "std (runs)", "25.0 (25.0, 75.0)", "2 (2)"] {
        assert!(table.contains(line), "{table}");
    }

    let after = [
        item("a", &["ocr", "math"], &[1.0]),
        item("b", &["math"], &[1.0]),
        item("c", &["math", "ocr"], &[]),
        item("d", &["rec"], &[1.0]),
    ];
    let differences = MmVetDifferences::new(&items, &after, &bootstrap()).unwrap();
    assert_eq!((differences.total.items, differences.total.score.value), (1, Some(0.25)));
    assert_eq!(differences.capabilities[2].score.value, None);
    let other = [item("a", &["ocr"], &[1.0])];
    let error = MmVetDifferences::new(&items[..1], &other, &bootstrap()).unwrap_err();
    assert!(matches!(error, EvalError::Unpaired { .. }), "{error}");
}

#[test]
fn grades_are_read_like_the_published_script() {
    for (reply, grade) in [
        ("0.5", Some(0.5)),
        ("1", Some(1.0)),
        ("0.3 | ", Some(0.3)),
        ("0.7\n", Some(0.7)),
        (".5", Some(0.5)),
        ("1e-1", Some(0.1)),
        ("1.1", None),
        ("-0.1", None),
        ("", None),
        (" 0.5", None),
        ("0.5\nThe", None),
        ("nan", None),
        ("inf", None),
        ("0.5.", None),
        ("Score: 0.5", None),
    ] {
        assert_eq!(MmVetItem::read_grade(reply), grade, "{reply:?}");
    }
}

#[test]
fn answers_are_an_object_or_records() {
    let files = Files::new();
    let questions = files.write(
        "mm-vet.json",
        &object([("v1_1".into(), asked(&json!(["ocr"]))), ("v1_0".into(), asked(&json!(["math", "ocr"])))]),
    );
    let read = |name: &str, text: &str| read_mm_vet_answers(&questions, &files.write(name, text));
    let texts = |text: &str| -> Vec<(String, String)> {
        read("answers", text).unwrap().items.into_iter().map(|item| (item.id, item.text)).collect()
    };
    let expected = [("v1_1".to_owned(), "one".to_owned()), ("v1_0".to_owned(), "zero".to_owned())];
    for text in [
        r#"{"v1_0": "zero", "v1_1": "one"}"#,
        "{\n  \"v1_0\": \"zero\",\n  \"v1_1\": \"one\"\n}",
        "{\"id\": \"v1_0\", \"answer\": \"zero\"}\n{\"id\": \"v1_1\", \"answer\": \"one\"}\n",
        r#"[{"question_id": "v1_0", "text": "zero", "prompt": "What is x?"}, {"question_id": "v1_1", "text": "one"}]"#,
        "{\"answer\": \"one\"}\n{\"answer\": \"zero\"}\n",
        "\u{feff}{\"answer\": \"one\"}\n{\"answer\": \"zero\"}\n",
    ] {
        assert_eq!(texts(text), expected, "{text}");
    }
    for (text, said) in [
        (r#"{"v1_0": "zero"}"#, "1 questions have no answer (v1_1)"),
        (r#"{"v1_0": "zero", "v1_1": ["one"]}"#, "record 2: the answer is an array"),
        (r#"{"v1_0": "zero", "v1_1": 1}"#, "record 2: the answer is a number; expected a string"),
        (r#"{"v1_0": "zero", "v1_1": " "}"#, "record 2: the answer is empty"),
        ("{\"answer\": \"one\"}\n{\"answer\": \"\"}\n", "record 2: the answer is empty"),
        ("{\"answer\": \"one\"}\n{\"answer\": 0}\n", "record 2: answer is a number; expected a string"),
        ("{\"answer\": \"\"}\n{\"answer\": \"\"}\n", "the answers of all 2 records are empty"),
        (r#"{"v1_0": "zero", "v1_0": "one"}"#, "record 2: the id \"v1_0\" repeats"),
        ("{\"v1_0\": \"zero\",\n\"v1_1\": }", "line 2 column 9"),
        (r#"{"id": "v1_0", "answer": "zero"}"#, "v1_1"),
        (r#"{"v1_0": "zero", "v1_1": "one", "v1_2": "two"}"#, "1 answers have no question (v1_2)"),
    ] {
        let error = read("bad", text).unwrap_err();
        let shown = bpo_pairs::chain(&error);
        assert!(shown.contains("bad") && shown.contains(said), "{shown}");
    }
}

#[test]
fn files_that_cannot_be_used_are_errors() {
    let files = Files::new();
    let good = object([("v1_0".into(), asked(&json!(["ocr"]))), ("v1_1".into(), asked(&json!(["rec"])))]);
    let questions = files.write("mm-vet.json", &good);
    let answers = files.write("answers", r#"{"v1_0": "zero", "v1_1": "one"}"#);
    let shown = |error: EvalError| bpo_pairs::chain(&error);
    for (text, said) in [
        ("[]", "expected the questions of MM-Vet"),
        (r#"{"v1_0": {"question": "?", "answer": "!"}}"#, "missing field `capability`"),
        (&object([(String::new(), asked(&json!(["ocr"])))]), "the id of a question is empty"),
        (&object([("v1_0".into(), asked(&json!([])))]), "the question \"v1_0\" has no capability"),
        (&object([("v1_0".into(), asked(&json!([" "])))]), "the question \"v1_0\" has no capability"),
    ] {
        let error = shown(read_mm_vet_answers(&files.write("other.json", text), &answers).unwrap_err());
        assert!(error.contains("other.json") && error.contains(said), "{error}");
    }
    let gone = read_mm_vet_answers(Path::new("gone.json"), &answers).unwrap_err();
    assert!(matches!(gone, EvalError::Read { .. }), "{gone}");

    let read = |text: Value, runs| {
        read_mm_vet_grades(&questions, &files.write("grades.json", &text.to_string()), runs)
    };
    let grades = |one: Value, other: Value| json!({"v1_0": {"score": one}, "v1_1": {"score": other}});
    for (text, runs, said) in [
        (json!([0.5]), None, "expected the grades of MM-Vet's script"),
        (json!({"v1_0": "a"}), None, "an object with a list under `score`"),
        (grades(json!([0.5]), json!(["a"])), None, "invalid type: string"),
        (
            grades(json!([0.5]), json!([1.5])),
            None,
            "\"v1_1\" has the score 1.5; expected a number from 0 to 1",
        ),
        (grades(json!([0.5, 1]), json!([0])), None, "\"v1_1\" has 1 scores; expected 2"),
        (grades(json!([0.5, 1]), json!([0])), Some(2), "\"v1_1\" has 1 scores; expected 2 (--runs N"),
    ] {
        let error = shown(read(text, runs).unwrap_err());
        assert!(error.contains("grades.json") && error.contains(said), "{error}");
    }
    let first = read(grades(json!([0.5, 1]), json!([0])), Some(1)).unwrap();
    assert_eq!(first.items.iter().map(|item| item.grades.len()).collect::<Vec<_>>(), [1, 1]);
    let some = read(json!({"v1_1": {"score": [0.5]}, "v1_0": {"score": []}, "v2_0": {"score": [1]}}), None);
    let Scored { items, unmatched, .. } = some.unwrap();
    assert_eq!((items[0].grades.len(), items[1].grades[0], &unmatched[0][..]), (0, 0.5, "v2_0"));
    assert!(read(json!({"v2_0": {"score": [1]}}), None).unwrap().items.is_empty());
    let error = EvalError::from(GradingError::Unanswered { path: "a".into() });
    assert!(error.to_string().contains("--questions"), "{error}");
}

proptest! {
    #[test]
    fn scores_stay_from_0_to_1(rows in prop::collection::vec((0..6usize, prop::collection::vec(0..=10u8, 3), any::<bool>()), 1..30)) {
        let needs: [&[&str]; 6] = [&["ocr"], &["rec"], &["ocr", "rec"], &["rec", "ocr"], &["math", "ocr"], &["know"]];
        let items: Vec<MmVetItem> = rows
            .iter()
            .enumerate()
            .map(|(i, (kind, grades, graded))| {
                let grades: Vec<f64> = grades.iter().map(|grade| f64::from(*grade) / 10.0).collect();
                item(&i.to_string(), needs[*kind], if *graded { &grades } else { &[] })
            })
            .collect();
        let report = MmVetReport::new(&items, bootstrap());
        prop_assert_eq!(report.items + report.ungraded.len(), items.len());
        prop_assert_eq!(report.combinations.iter().map(|score| score.items).sum::<usize>(), report.items);
        for score in report.capabilities.iter().chain(&report.combinations).chain([&report.total]) {
            prop_assert_eq!(score.items > 0, score.score.value.is_some());
            if let Some(value) = score.score.value {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value) && score.score.low <= score.score.high);
                prop_assert!((value * 100.0 - score.published.unwrap()).abs() <= 0.05 + 1e-9);
            }
        }
        let text = serde_json::to_string(&report).unwrap();
        let read = serde_json::from_str::<MmVetReport>(&text).unwrap();
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let differences = MmVetDifferences::new(&items, &items, &bootstrap()).unwrap();
        prop_assert!(differences.total.score.value.is_none_or(|value| value == 0.0));
    }
}
