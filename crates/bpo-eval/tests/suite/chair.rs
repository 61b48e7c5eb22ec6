//! CHAIR: metrics computed by hand, and properties.

use std::collections::BTreeSet;

use bpo_eval::{
    Bootstrap, ChairDifferences, ChairItem, ChairMetric, ChairReport, Estimate, EvalError, ObjectTable,
    relative_change,
};
use proptest::prelude::*;

fn table() -> ObjectTable {
    ObjectTable::new([
        ("person", &["man", "woman", "child"][..]),
        ("dining table", &["table", "desk"]),
        ("traffic light", &["stoplight"]),
        ("chair", &["seat"]),
        ("toilet", &[]),
        ("bus", &[]),
        ("knife", &[]),
        ("hot dog", &[]),
        ("dog", &["puppy"]),
    ])
    .unwrap()
}

fn set(objects: &[&str]) -> BTreeSet<String> {
    objects.iter().map(|object| (*object).to_owned()).collect()
}

fn objects(text: &str) -> Vec<String> {
    table().mentions(text).into_iter().map(|mention| mention.object).collect()
}

#[test]
fn synonyms_plurals_and_compounds_are_found() {
    assert_eq!(objects("Two women and their children."), ["person", "person"]);
    assert_eq!(objects("KNIVES, buses; a man's Bus"), ["knife", "bus", "person", "bus"]);
    // the longest name counts, from left to right
    assert_eq!(objects("a hot dog and a dog at the traffic lights"), ["hot dog", "dog", "traffic light"]);
    assert_eq!(objects("a dining table beside a desk"), ["dining table", "dining table"]);
    // the published rule
    assert_eq!(objects("The seat of the toilet is up."), ["toilet"]);
    assert_eq!(objects("The seat is up."), ["chair"]);
    // compounds by rule
    let people = ObjectTable::new([
        ("person", &["baby", "adult", "passenger"][..]),
        ("train", &[]),
        ("tie", &[]),
        ("dog", &[]),
        ("plate", &[]),
    ])
    .unwrap();
    let named = |text: &str| -> Vec<String> { people.mentions(text).into_iter().map(|m| m.object).collect() };
    assert_eq!(named("a baby dog, a passenger train, a bow tie"), ["dog", "train", "tie"]);
    // the rule holds where the table has no such animal
    assert_eq!(named("a baby cat and an adult animal"), [] as [&str; 0]);
    assert_eq!(named("a baby with adults on the home plate by the train tracks"), ["person", "person"]);
    assert_eq!(objects("doggedly, tabletop"), [] as [&str; 0]);
    // a word with a hyphen is one word
    assert_eq!(named("a dog-friendly, train-free place -- and a -tie--dog"), ["tie", "dog"]);
}

#[test]
fn words_are_joined_across_white_space_only() {
    let table = ObjectTable::new([
        ("hot dog", &[][..]),
        ("dog", &[]),
        ("clock", &[]),
        ("stop sign", &[]),
        ("laptop", &["computer", "laptop computer"]),
        ("bear", &[]),
        ("men's room", &[]),
        ("train", &[]),
    ])
    .unwrap();
    for (text, found) in [
        ("Lunch is at 12 o'clock.", &[][..]),
        ("It is 5 o\u{2019}clock by the clock", &["clock"]),
        ("It is hot. Dog walks by.", &["dog"]),
        ("hot, dog", &["dog"]),
        ("hot\n\nDog", &["dog"]),
        ("a **hot** dog, a (hot) dog; \"hot\" dog: hot/dog - hot - dog", &["dog"; 5]),
        ("Wait at the stop. ContrastMode here.", &[]),
        ("laptops, computers", &["laptop", "laptop"]),
        ("A laptop computer. A laptop", &["laptop", "laptop"]),
        ("a baby. Bear with me; a passenger. Train", &["bear", "train"]),
        ("hot\ndogs and a hot  dog, stop_sign", &["hot dog", "hot dog", "stop sign"]),
        ("the dog's clock, dogs' clocks, 'dog'", &["dog", "clock", "dog", "clock", "dog"]),
        ("the men's room, the man\u{2019}s train", &["men's room", "train"]),
        ("The dog isn't hot dog", &["dog", "hot dog"]),
    ] {
        let objects: Vec<String> = table.mentions(text).into_iter().map(|mention| mention.object).collect();
        let found: Vec<String> = found.iter().map(|name| table.find(name).unwrap().to_owned()).collect();
        assert_eq!(objects, found, "{text}");
    }
}

#[test]
fn mentions_have_byte_ranges() {
    let text = "Ein Café, two Traffic  Lights & puppies";
    let found: Vec<&str> =
        table().mentions(text).iter().map(|mention| &text[mention.start..mention.end]).collect();
    assert_eq!(found, ["Traffic  Lights", "puppies"]);
}

#[test]
fn metrics_by_hand() {
    let (table, bootstrap) = (table(), Bootstrap::default());
    let item = |text: &str, truth: &[&str]| ChairItem::new(&table, "a.jpg", text, &set(truth));
    let items = [
        // mentions: dog, dog, bus (false); named: dog, bus; shown: dog, person; 6 words
        item("A dog, another puppy, a bus.", &["dog", "person"]),
        // mentions: person, dining table; both there; 7 words
        item("The woman sits at a big table.", &["person", "dining table"]),
        // nothing is named; shown: chair; "sofa" is no object of the table; 2 words
        item("Very nice.", &["chair", "sofa"]),
        // mentions: knife, knife: both false; nothing is shown; 2 words
        item("Knife knife", &[]),
    ];
    let report = ChairReport::new(&items, bootstrap);
    let near =
        |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
    assert_eq!((report.items, report.silent), (4, 1));
    near(report.chair_i.value, 3.0 / 7.0);
    near(report.chair_s.value, 2.0 / 4.0);
    near(report.recall.value, 3.0 / 5.0);
    near(report.precision.value, 3.0 / 5.0);
    near(report.f1.value, 3.0 / 5.0);
    near(report.objects.value, 5.0 / 4.0);
    near(report.words.value, 17.0 / 4.0);
    for estimate in [report.chair_i, report.recall, report.f1] {
        assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{estimate:?}");
    }
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ChairReport>(&json).unwrap(), report);
}

#[test]
fn chair_i_is_undefined_without_mentions() {
    let item = ChairItem::new(&table(), "a", "", &set(&["dog"]));
    let report = ChairReport::new(&[item], Bootstrap::default());
    assert_eq!((report.chair_i.value, report.precision.value), (None, None));
    assert_eq!((report.chair_s.value, report.recall.value), (Some(0.0), Some(0.0)));
    assert_eq!(ChairReport::new(&[], Bootstrap::default()).recall.value, None);
}

#[test]
fn relative_changes_need_the_same_images() {
    let table = table();
    let item = |text: &str| ChairItem::new(&table, "a", text, &set(&["dog"]));
    let before = vec![item("dog bus"); 20];
    let after: Vec<_> = (0..20).map(|i| item(if i % 2 == 0 { "dog" } else { "dog bus" })).collect();
    // mentions that are false: 20 of 40 before, 10 of 30 after
    let change = relative_change(ChairMetric::ChairI, &before, &after, &Bootstrap::default()).unwrap();
    assert!((change.value.unwrap() - (1.0 / 3.0 / 0.5 - 1.0)).abs() < 1e-12);
    assert!(change.low.unwrap() < change.value.unwrap() && change.high.unwrap() < 0.0);
    let same = relative_change(ChairMetric::ChairI, &before, &before, &Bootstrap::default()).unwrap();
    assert_eq!((same.low, same.value, same.high), (Some(0.0), Some(0.0), Some(0.0)));
    assert!(matches!(
        relative_change(ChairMetric::ChairI, &before, &after[1..], &Bootstrap::default()),
        Err(EvalError::Unpaired { before: 20, after: 19, .. })
    ));
}

#[test]
fn differences_are_paired_by_image() {
    let table = table();
    let item = |image: &str, text: &str| ChairItem::new(&table, image, text, &set(&["dog"]));
    let before: Vec<_> = (0..20).map(|image| item(&image.to_string(), "dog bus")).collect();
    let text = |image: usize| if image.is_multiple_of(2) { "dog" } else { "dog bus" };
    let after: Vec<_> = (0..20).map(|image| item(&image.to_string(), text(image))).collect();
    let bootstrap = Bootstrap::default();
    let differences = ChairDifferences::new(&before, &after, &bootstrap).unwrap();
    let [one, other] = [&before, &after].map(|items| ChairReport::new(items, bootstrap));
    let value = |estimate: Estimate| estimate.value.unwrap();
    for (difference, before, after) in [
        (differences.chair_i, one.chair_i, other.chair_i),
        (differences.chair_s, one.chair_s, other.chair_s),
        (differences.recall, one.recall, other.recall),
        (differences.precision, one.precision, other.precision),
        (differences.f1, one.f1, other.f1),
        (differences.objects, one.objects, other.objects),
        (differences.words, one.words, other.words),
    ] {
        assert!((value(difference) - (value(after) - value(before))).abs() < 1e-12);
    }
    assert_eq!(differences.chair_s.value, Some(-0.5));
    let (low, high) = (differences.chair_s.low.unwrap(), differences.chair_s.high.unwrap());
    assert!(-0.8 < low && low < -0.5 && -0.5 < high && high < -0.2, "{low} {high}");
    // the same answers in another order, with two about one image
    let twice: Vec<_> = before.iter().chain([&item("3", "dog")]).cloned().collect();
    let mut turned = twice.clone();
    turned.reverse();
    turned.swap(0, 17);
    let same = ChairDifferences::new(&twice, &turned, &bootstrap).unwrap().chair_i;
    assert_eq!((same.low, same.value, same.high), (Some(0.0), Some(0.0), Some(0.0)));
    let error = ChairDifferences::new(&before, &twice, &bootstrap).unwrap_err();
    assert!(
        matches!(error, EvalError::Unpaired { before: 20, after: 21, ref first } if first == "3"),
        "{error}"
    );
    let other = (1..21).map(|image| item(&image.to_string(), "dog")).collect::<Vec<_>>();
    assert!(ChairDifferences::new(&before, &other, &bootstrap).is_err());
}

#[test]
fn a_synonym_of_two_objects_is_an_error() {
    let error = ObjectTable::new([("dog", &["pet"]), ("cat", &["pets"])]).unwrap_err();
    assert_eq!(error.to_string(), "\"pet\" is a synonym of both \"dog\" and \"cat\"");
}

proptest! {
    #[test]
    fn any_text_is_read(text: String, truth in prop::sample::subsequence(vec!["dog", "bus", "person"], 0..3)) {
        let item = ChairItem::new(&table(), "a", text.clone(), &set(&truth));
        let mut last = 0;
        for (mention, there) in &item.mentions {
            prop_assert!(last <= mention.start && mention.start < mention.end);
            prop_assert!(!text[mention.start..mention.end].is_empty());
            prop_assert_eq!(*there, truth.contains(&mention.object.as_str()));
            last = mention.end;
        }
    }

    #[test]
    fn the_order_of_answers_does_not_matter(texts in prop::collection::vec("(dog |bus |man |nothing ){0,5}", 1..12)) {
        let items: Vec<_> =
            texts.iter().map(|text| ChairItem::new(&table(), "a", text.clone(), &set(&["dog"]))).collect();
        let backwards: Vec<_> = items.iter().rev().cloned().collect();
        let values = |items: &[ChairItem]| {
            let report = ChairReport::new(items, Bootstrap::default().with_resamples(1).unwrap());
            [report.chair_i, report.chair_s, report.recall, report.precision, report.f1, report.words].map(|e| e.value)
        };
        prop_assert_eq!(values(&items), values(&backwards));
    }
}
