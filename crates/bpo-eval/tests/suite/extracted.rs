//! Extracted objects: comparison with Object HalBench's published script (tools/golden/halbench.py makes
//! the golden file), and the reading of lists of names.

use std::collections::BTreeSet;

use bpo_eval::{
    Bootstrap, ChairItem, ChairReport, EvalError, ObjectTable, Scored, Truth, read_extracted_answers,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The table of the golden file, and one of the published rules.
fn tables(golden: &Value, files: &Files) -> [ObjectTable; 2] {
    let lines = texts(&golden["table"]);
    let path = files.write_lines("table", &lines);
    [ObjectTable::from_file(&path).unwrap(), ObjectTable::as_published(lines)]
}

/// With the names as a model lists them, and with spaCy's words of them.
#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Value = serde_json::from_str(include_str!("../golden/halbench.json")).unwrap();
    let files = Files::new();
    let [ours, published] = tables(&golden, &files);
    for (table, key) in [(ours, "objects"), (published, "words")] {
        for case in golden["cases"].as_array().unwrap() {
            let answers = case["answers"].as_array().unwrap();
            let mut truth = Truth::default();
            for answer in answers {
                let shown = texts(&answer["shown"]).into_iter().map(str::to_owned);
                truth.add(&answer["image_id"].to_string(), shown);
            }
            let rows = answers.iter().map(|answer| {
                json!({"image_id": answer["image_id"], "text": answer["text"], "objects": answer[key]})
                    .to_string()
            });
            let path = files.write_lines("answers", rows);
            let Scored { items, .. } = read_extracted_answers(&path, &table, &truth).unwrap();
            let report = ChairReport::new(&items, bootstrap());
            let figures = &case["figures"];
            for (name, found) in [
                ("CHAIRs", report.chair_s),
                ("CHAIRs_refine", report.chair_s_naming),
                ("CHAIRi", report.chair_i),
                ("obj_rec", report.recall),
                ("avg_word_len", report.words),
            ] {
                let (found, expected) = (found.value.unwrap(), figures[name].as_f64().unwrap());
                assert!((found - expected).abs() < 1e-12, "{key}: {name}: {found}, not {expected}");
            }
            let naming = figures["coco_sentence_num"].as_f64().unwrap();
            assert_eq!((report.items - report.silent) as f64, naming);
        }
    }
}

fn item(table: &ObjectTable, names: &[&str]) -> ChairItem {
    ChairItem::from_names(table, "a", "An answer of five words.", names.iter().copied(), &BTreeSet::new())
}

fn named(item: &ChairItem) -> Vec<&str> {
    item.mentions.iter().map(|(mention, _)| mention.object.as_str()).collect()
}

#[test]
fn each_word_counts_once() {
    let table = ObjectTable::new([
        ("person", &["man", "woman"][..]),
        ("bear", &[]),
        ("tie", &["bow tie"]),
        ("toilet", &[]),
        ("chair", &["seat"]),
        ("wine glass", &[]),
    ])
    .unwrap();
    for (names, objects, unknown) in [
        (&["man", "men", "woman"][..], &["person", "person"][..], &[][..]),
        (&["people", "person", "persons"], &["person", "person"], &[]),
        (&["baby bears", "bear"], &["bear"], &[]),
        (&["bow tie", "ties"], &["tie"], &[]),
        (&["seat"], &["chair"], &[]),
        (&["seats", "Toilets"], &["toilet"], &[]),
        (&["toilet seat", "seat"], &["toilet"], &[]),
        (&["glass", "wine glasses", "wine"], &["wine glass"], &["glass", "wine"]),
        (&["white wine glasses"], &["wine glass"], &[]),
        // neither a person nor a bear
        (&["bear trap", "wise man"], &[], &["bear trap", "wise man"]),
        (&["home plate", ""], &[], &["home plate"]),
        (&["group of men", "the 'man's ties'"], &["person", "tie"], &["group"]),
    ] {
        let item = item(&table, names);
        assert_eq!(
            (named(&item), &item.unknown[..]),
            (objects.to_vec(), &unknown.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..]),
            "{names:?}"
        );
    }
    // as it stands
    let published = ObjectTable::as_published(["bus, minibus"]);
    assert_eq!(named(&item(&published, &["bus", "minibus", "buses", "bus"])), ["bus", "bus"]);
}

#[test]
fn a_short_answer_has_no_object() {
    let table = ObjectTable::of_names(["dog"]).unwrap();
    let shown = BTreeSet::new();
    for (text, objects) in [("A dog.", 0), ("Assistant: A big dog.", 0), ("It is a dog.", 1)] {
        let item = ChairItem::from_names(&table, "a", text, ["dog"], &shown);
        assert_eq!(item.mentions.len(), objects, "{text}");
    }
}

#[test]
fn answers_need_a_list_of_names() {
    let files = Files::new();
    let table = ObjectTable::of_names(["dog"]).unwrap();
    let mut truth = Truth::default();
    truth.add("a.jpg", ["dog".to_owned()]);
    let read = |rows: &[Value]| {
        let path = files.write_lines("answers", rows.iter().map(Value::to_string));
        read_extracted_answers(&path, &table, &truth)
    };
    let row =
        |image: &str, objects: Value| json!({"image": image, "text": "A dog and a cat.", "objects": objects});
    let scored = read(&[row("a.jpg", json!(["dog", "cats"])), row("b.jpg", json!([]))]).unwrap();
    assert_eq!((scored.items.len(), &scored.unmatched[..]), (1, &["b.jpg".to_owned()][..]));
    assert_eq!(scored.items[0].unknown, ["cat"]);
    for (objects, said) in [
        (json!("dog"), "record 2: objects has a string; expected a list of names"),
        (json!(["dog", 3]), "record 2: objects has a number; expected a list of names"),
        (json!(null), "record 2: objects has null; expected a list of names"),
    ] {
        let error = read(&[row("a.jpg", json!([])), row("a.jpg", objects)]).unwrap_err();
        assert!(matches!(error, EvalError::NoNames { .. }) && error.to_string().contains(said), "{error}");
    }
    let error = read(&[json!({"image": "a.jpg", "text": "A dog."})]).unwrap_err().to_string();
    assert!(error.contains("record 1: none of the keys objects"), "{error}");
}

proptest! {
    #[test]
    fn any_names_are_counted(names in prop::collection::vec(any::<String>(), 0..8)) {
        let table = ObjectTable::of_names(["dog", "fire hydrant"]).unwrap();
        for table in [table, ObjectTable::as_published(["dog", "fire hydrant"])] {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (once, twice) = (item(&table, &names), item(&table, &[&names[..], &names[..]].concat()));
            prop_assert_eq!(named(&once), named(&twice));
        }
    }
}
