//! Ranked lists: comparison with HaNoRec's published script (tools/golden/ranking.py makes the golden
//! file), and the reading of questions and answers.

use bpo_eval::{
    Bootstrap, EvalError, RankingDifferences, RankingItem, RankingReport, Scored, read_ranking_answers,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Value = serde_json::from_str(include_str!("../golden/ranking.json")).unwrap();
    let cases = golden["ranking"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let pairs = case["pairs"].as_array().unwrap();
        let files = Files::new();
        let questions =
            files.write_lines("questions", pairs.iter().map(|pair| json!({"label": pair[0]}).to_string()));
        let answers =
            files.write_lines("answers", pairs.iter().map(|pair| json!({"answer": pair[1]}).to_string()));
        let Scored { items, .. } = read_ranking_answers(&questions, &answers).unwrap();
        for (k, expected) in case["at"].as_object().unwrap() {
            let report = RankingReport::new(&items, k.parse().unwrap(), bootstrap());
            for (found, expected) in [(report.hit_rate, &expected[0]), (report.ndcg, &expected[1])] {
                let difference = found.value.unwrap() - expected.as_f64().unwrap();
                assert!(difference.abs() < 1e-12, "{pairs:?} at {k}: {found:?}, not {expected}");
            }
        }
    }
}

#[test]
fn answers_without_an_item_are_misses() {
    let items = ["A", "\"A\"", "\n \n", "B\nA"].map(|text| RankingItem::new("q", "A", text));
    let places: Vec<Option<usize>> = items.iter().map(|item| item.place).collect();
    assert_eq!(places, [Some(0), Some(0), None, Some(1)]);
    let at = |k| RankingReport::new(&items, k, bootstrap());
    assert_eq!((at(1).empty, at(1).hit_rate.value, at(2).hit_rate.value), (1, Some(0.5), Some(0.75)));
    assert_eq!(RankingReport::new(&[], 3, bootstrap()).ndcg.value, None);
}

#[test]
fn lists_belong_to_questions() {
    let files = Files::new();
    let asked = |id: u64, label: Value| {
        json!({"id": id, "images": ["a.jpg", "b.jpg"], "prompt": format!("Which one, {id}?"), "label": label})
            .to_string()
    };
    let questions = files.write_lines("questions", [asked(1, "A".into()), asked(2, 7.into())]);
    let generated = |id: u64, text: &str| {
        json!({"id": id.to_string(), "images": ["a.jpg", "b.jpg"], "prompt": format!("Which one, {id}?"), "text": text,
            "finish": "stop", "tokens": 4})
        .to_string()
    };
    let answers = files.write_lines("answers", [generated(2, "\"6\"\n\"7\""), generated(1, "A")]);
    let items = read_ranking_answers(&questions, &answers).unwrap().items;
    let found: Vec<_> = items.iter().map(|item| (item.question.as_str(), item.place)).collect();
    assert_eq!(found, [("1", Some(0)), ("2", Some(1))]);

    let missing = files.write_lines("missing", [generated(1, "A")]);
    let error = read_ranking_answers(&questions, &missing).unwrap_err().to_string();
    assert!(error.contains("1 questions have no answer (2)"), "{error}");
    for label in [json!(null), json!(" \n"), json!([])] {
        let questions = files.write_lines("questions", [asked(1, "A".into()), asked(2, label)]);
        let error = read_ranking_answers(&questions, &answers).unwrap_err();
        assert!(matches!(error, EvalError::NoLabel { record: 2, .. }), "{error}");
        assert!(error.to_string().contains("with the relevant item"), "{error}");
    }
}

#[test]
fn differences_are_paired() {
    let items = |texts: [&str; 4]| -> Vec<RankingItem> {
        texts.iter().enumerate().map(|(i, text)| RankingItem::new(i.to_string(), "A", *text)).collect()
    };
    let (before, after) = (items(["A", "B", "B\nA", "C"]), items(["A", "A", "A", "C"]));
    let differences = RankingDifferences::new(&before, &after, 3, &bootstrap()).unwrap();
    assert_eq!(differences.hit_rate.value, Some(0.25));
    assert!((differences.ndcg.value.unwrap() - (2.0 - 1.0 / 3f64.log2()) / 4.0).abs() < 1e-12);
    assert!(differences.ndcg.low.unwrap() >= 0.0);
    let error = RankingDifferences::new(&before, &after[1..], 3, &bootstrap()).unwrap_err();
    assert!(error.to_string().contains("4 and 3 answers"), "{error}");
}

proptest! {
    #[test]
    fn ndcg_is_at_most_the_hit_rate(texts in prop::collection::vec("[ABC\n\" ]{0,8}", 1..20), k in 1usize..5) {
        let items: Vec<_> = texts.iter().map(|text| RankingItem::new("q", "A", text.as_str())).collect();
        let at = |k| RankingReport::new(&items, k, bootstrap());
        let (hit_rate, ndcg) = (at(k).hit_rate.value.unwrap(), at(k).ndcg.value.unwrap());
        prop_assert!(0.0 <= ndcg && ndcg <= hit_rate + 1e-12 && hit_rate <= 1.0);
        prop_assert!(at(k + 1).hit_rate.value.unwrap() >= hit_rate);
    }
}
