//! POPE: metrics computed by hand, and generated questions.

use std::collections::BTreeSet;

use bpo_eval::{
    Bootstrap, PopeDifferences, PopeItem, PopeLabel, PopeNegatives, PopeQuestion, PopeReport, Truth,
    is_clear_yes_no, parse_yes_no, pope_questions,
};
use proptest::prelude::*;

fn item(label: PopeLabel, text: &str) -> PopeItem {
    PopeItem { image: "a.jpg".into(), label, text: text.into() }
}

#[test]
fn answers_are_read_by_the_published_rule() {
    for (text, label) in [
        ("Yes", PopeLabel::Yes),
        ("No", PopeLabel::No),
        ("no, there is none", PopeLabel::No),
        ("There is not a dog in the image.", PopeLabel::No),
        ("Yes, there is. It is not big.", PopeLabel::Yes),
        // neither a word of its own nor before the full stop
        ("Nope", PopeLabel::Yes),
        ("NO", PopeLabel::Yes),
        ("No.", PopeLabel::No),
        ("", PopeLabel::Yes),
    ] {
        assert_eq!(parse_yes_no(text), label, "{text:?}");
    }
}

#[test]
fn answers_that_the_published_rule_misreads_are_unclear() {
    use PopeLabel::{No, Yes};
    for (text, label, clear) in [
        ("No!", Yes, false),
        ("NO", Yes, false),
        ("**No**", Yes, false),
        ("No\n", Yes, false),
        ("Not at all", Yes, false),
        ("There is a dog.", Yes, false),
        ("Nothing. Yes", Yes, false),
        ("Yes and no", No, false),
        ("Yes\nNo", Yes, false),
        ("", Yes, false),
        ("Yes!", Yes, true),
        ("YES", Yes, true),
        ("**Yes**", Yes, true),
        ("Yes, there is. It is not big.", Yes, true),
        ("No", No, true),
        ("No, there is none.", No, true),
        ("There is not", No, true),
    ] {
        assert_eq!((parse_yes_no(text), is_clear_yes_no(text)), (label, clear), "{text:?}");
    }
    let report = PopeReport::new(&[item(No, "No!"), item(No, "No"), item(Yes, "Yes")], Bootstrap::default());
    assert_eq!((report.unclear, report.accuracy.value), (1, Some(2.0 / 3.0)));
}

#[test]
fn metrics_by_hand() {
    use PopeLabel::{No, Yes};
    // 3 true yes, 1 false yes, 2 true no, 2 false no
    let items = [
        item(Yes, "Yes."),
        item(Yes, "yes"),
        item(Yes, "maybe"),
        item(No, "Yes, it is."),
        item(No, "No."),
        item(No, "It is not."),
        item(Yes, "No."),
        item(Yes, "no"),
    ];
    let report = PopeReport::new(&items, Bootstrap::default());
    assert_eq!((report.items, report.unclear), (8, 1));
    let near =
        |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
    near(report.accuracy.value, 5.0 / 8.0);
    near(report.precision.value, 3.0 / 4.0);
    near(report.recall.value, 3.0 / 5.0);
    near(report.f1.value, 2.0 * 0.75 * 0.6 / (0.75 + 0.6));
    near(report.yes_ratio.value, 4.0 / 8.0);
}

fn truth() -> Truth {
    let mut truth = Truth::default();
    // plates come with forks; cars are everywhere
    for (image, objects) in [
        ("1", &["fork", "plate", "car"][..]),
        ("2", &["fork", "plate", "car"]),
        ("3", &["fork", "plate"]),
        ("4", &["car", "tree"]),
        ("5", &["car", "apple"]),
        ("6", &["fork", "cup"]),
    ] {
        truth.add(image, objects.iter().map(|object| (*object).to_owned()));
    }
    truth
}

fn absent<'a>(made: &'a [PopeQuestion], image: &str) -> Vec<&'a str> {
    made.iter()
        .filter(|question| question.image == image && question.label == PopeLabel::No)
        .map(|question| question.text.as_str())
        .collect()
}

#[test]
fn negatives_follow_their_sampling() {
    let truth = truth();
    let popular = pope_questions(&truth, &truth, PopeNegatives::Popular, 1, 3);
    // cars and forks are in four images each; the fork's image lacks the car
    assert_eq!(absent(&popular, "6"), ["Is there a car in the image?"]);
    assert_eq!(absent(&popular, "4"), ["Is there a fork in the image?"]);
    let adversarial = pope_questions(&truth, &truth, PopeNegatives::Adversarial, 1, 3);
    // with fork and cup goes the plate, three times
    assert_eq!(absent(&adversarial, "6"), ["Is there a plate in the image?"]);
}

#[test]
fn labels_are_balanced() {
    let truth = truth();
    for negatives in PopeNegatives::ALL {
        let made = pope_questions(&truth, &truth, negatives, 2, 9);
        assert_eq!(made, pope_questions(&truth, &truth, negatives, 2, 9));
        let yes = made.iter().filter(|question| question.label == PopeLabel::Yes).count();
        assert_eq!((made.len(), yes), (24, 12));
        let ids: BTreeSet<u64> = made.iter().map(|question| question.question_id).collect();
        assert_eq!(ids.len(), made.len());
        for question in &made {
            let object = question.text.split(' ').nth(3).unwrap();
            let shown = truth.of(&question.image).unwrap().contains(object);
            assert_eq!(shown, question.label == PopeLabel::Yes, "{question:?}");
            assert!(object != "apple" || question.text.starts_with("Is there an apple"), "{question:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_answers_give_metrics(texts in prop::collection::vec((any::<bool>(), any::<String>()), 0..20)) {
        let items: Vec<_> =
            texts.iter().map(|(yes, text)| item(if *yes { PopeLabel::Yes } else { PopeLabel::No }, text)).collect();
        let report = PopeReport::new(&items, Bootstrap::default().with_resamples(20).unwrap());
        for estimate in [report.accuracy, report.precision, report.recall, report.f1, report.yes_ratio] {
            prop_assert!(estimate.value.is_none_or(|value| (0.0..=1.0).contains(&value)));
        }
    }
}

/// The difference of a resample is that of both systems on the same images.
#[test]
fn differences_are_paired_by_image() {
    use PopeLabel::{No, Yes};
    let items = |answers: [&str; 6]| -> Vec<PopeItem> {
        let labels = [Yes, No, Yes, No, Yes, No];
        let images = ["a", "a", "b", "b", "c", "c"];
        let items = labels.into_iter().zip(images).zip(answers);
        items
            .map(|((label, image), text)| PopeItem { image: image.into(), label, text: text.into() })
            .collect()
    };
    let before = items(["Yes", "Yes", "No", "No", "Yes", "Yes"]);
    let after = items(["Yes", "No", "Yes", "No", "Yes", "Yes"]);
    let bootstrap = Bootstrap::default();
    let differences = PopeDifferences::new(&before, &after, &bootstrap).unwrap();
    let value = |estimate: bpo_eval::Estimate| estimate.value.unwrap();
    let of = |items: &[PopeItem]| PopeReport::new(items, bootstrap);
    let (one, other) = (of(&before), of(&after));
    for (difference, before, after) in [
        (differences.accuracy, one.accuracy, other.accuracy),
        (differences.precision, one.precision, other.precision),
        (differences.recall, one.recall, other.recall),
        (differences.f1, one.f1, other.f1),
        (differences.yes_ratio, one.yes_ratio, other.yes_ratio),
    ] {
        assert!((value(difference) - (value(after) - value(before))).abs() < 1e-12);
    }
    assert_eq!(differences.accuracy.value, Some(5.0 / 6.0 - 0.5));
    // each image has none or one more right answer, so a resample never loses
    assert!(differences.accuracy.low.unwrap() >= 0.0 && differences.accuracy.high.unwrap() <= 0.5);
    let same = PopeDifferences::new(&before, &before, &bootstrap).unwrap();
    assert_eq!((same.f1.low, same.f1.high), (Some(0.0), Some(0.0)));
    let error = PopeDifferences::new(&before, &after[2..], &bootstrap).unwrap_err();
    assert!(error.to_string().contains("6 and 4 answers"), "{error}");
    let mut other_label = after;
    other_label[0].label = No;
    assert!(PopeDifferences::new(&before, &other_label, &bootstrap).is_err());
}
