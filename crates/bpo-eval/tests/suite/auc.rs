//! AUC: comparison with HaNoRec's published script and scikit-learn (tools/golden/ranking.py makes the
//! golden file), and the reading of scores.

use bpo_eval::{
    AucDifferences, AucItem, AucReport, Bootstrap, EvalError, PopeLabel, Scored, YesNoReading,
    read_auc_answers,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

fn score(files: &Files, questions: &[Value], answers: &[Value]) -> Result<Scored<AucItem>, EvalError> {
    read_auc_answers(
        &files.write_lines("questions", questions.iter().map(Value::to_string)),
        &files.write_lines("answers", answers.iter().map(Value::to_string)),
        YesNoReading::AsPublished,
    )
}

fn auc(items: &[AucItem]) -> Option<f64> {
    AucReport::new(items, bootstrap()).auc.value
}

#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Value = serde_json::from_str(include_str!("../golden/ranking.json")).unwrap();
    let files = Files::new();
    let near = |found: Option<f64>, case: &Value| {
        let expected = case["auc"].as_f64().unwrap();
        assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}, not {expected}");
    };
    for case in golden["answers"].as_array().unwrap() {
        let pairs = case["pairs"].as_array().unwrap();
        let questions: Vec<Value> = pairs.iter().map(|pair| json!({"label": pair[0]})).collect();
        let answers: Vec<Value> = pairs.iter().map(|pair| json!({"answer": pair[1]})).collect();
        let items = score(&files, &questions, &answers).unwrap().items;
        near(auc(&items), case);
        assert!(AucReport::new(&items, bootstrap()).unclear > 0);
    }
    for case in golden["scores"].as_array().unwrap() {
        let (labels, scores) = (case["labels"].as_array().unwrap(), case["scores"].as_array().unwrap());
        let questions: Vec<Value> = labels.iter().map(|label| json!({"label": label})).collect();
        let answers: Vec<Value> = scores.iter().map(|score| json!({"score": score})).collect();
        near(auc(&score(&files, &questions, &answers).unwrap().items), case);
    }
}

#[test]
fn unclear_answers_are_left_out() {
    use PopeLabel::{No, Yes};
    let items = |reading| {
        [(Yes, "Yes."), (Yes, " YES "), (No, "no"), (No, "Yes, I think so."), (Yes, "?")]
            .map(|(label, text)| AucItem::new("q", label, text, reading))
    };
    let published = items(YesNoReading::AsPublished);
    assert_eq!((AucReport::new(&published, bootstrap()).unclear, auc(&published)), (3, Some(1.0)));
    let first = items(YesNoReading::FirstWord);
    assert_eq!((AucReport::new(&first, bootstrap()).unclear, auc(&first)), (1, Some(0.75)));
    // one label only
    assert_eq!(auc(&published[..2]), None);
    assert_eq!(AucItem::with_score("q", Yes, f64::NAN).score, None);
}

#[test]
fn scores_belong_to_questions() {
    let files = Files::new();
    let questions = [(1, "Yes"), (2, "no")]
        .map(|(id, label)| json!({"id": id, "prompt": format!("Is it {id}?"), "label": label}));
    let answers =
        [json!({"id": 2, "text": "Yes", "score": -1.5}), json!({"id": 1, "text": "No", "score": 2})];
    let items = score(&files, &questions, &answers).unwrap().items;
    // the score, not the text
    assert_eq!(items.iter().map(|item| item.score).collect::<Vec<_>>(), [Some(2.0), Some(-1.5)]);
    assert_eq!(auc(&items), Some(1.0));
    let error = |answers: &[Value]| score(&files, &questions, answers).unwrap_err().to_string();
    let only_one = [answers[0].clone(), json!({"id": 1, "text": "No"})];
    assert!(error(&only_one).contains("answers: record 2: no score; expected a number under score"));
    let text = [json!({"id": 1, "score": "high"}), answers[0].clone()];
    assert!(error(&text).contains("answers: record 1: a string; expected a number"));
    assert!(error(&answers[..1]).contains("1 questions have no answer (1)"));
    let other = [json!({"id": 1, "score": 1, "prompt": "Is it 3?"}), answers[0].clone()];
    assert!(error(&other).contains("answers: record 1: its question"), "{}", error(&other));
    let unclear = [json!({"id": 1, "text": "Perhaps"}), json!({"id": 2, "text": "Yes."})];
    assert!(error(&unclear).contains("none of 2 answers is read as yes or no"));
    let titles = [json!({"id": 1, "label": "Alien"})];
    let error = score(&files, &titles, &answers[..1]).unwrap_err().to_string();
    assert!(error.contains("questions: record 1: the label is \"Alien\""), "{error}");
}

#[test]
fn differences_are_paired() {
    let items = |scores: [f64; 6]| -> Vec<AucItem> {
        let label = |i: usize| if i.is_multiple_of(2) { PopeLabel::Yes } else { PopeLabel::No };
        scores
            .iter()
            .enumerate()
            .map(|(i, score)| AucItem::with_score(i.to_string(), label(i), *score))
            .collect()
    };
    let (before, after) = (items([1.0, 2.0, 1.0, 0.0, 1.0, 1.0]), items([3.0, 2.0, 3.0, 0.0, 3.0, 1.0]));
    let differences = AucDifferences::new(&before, &after, &bootstrap()).unwrap();
    // 3 won and 3 equal pairs of 9, then all
    assert_eq!(differences.auc.value, Some(1.0 - 4.5 / 9.0));
    assert!(differences.auc.low.unwrap() >= 0.0);
    let same = AucDifferences::new(&before, &before, &bootstrap()).unwrap();
    assert_eq!((same.auc.low, same.auc.high), (Some(0.0), Some(0.0)));
    let mut other = after;
    other[0].label = PopeLabel::No;
    assert!(AucDifferences::new(&before, &other, &bootstrap()).is_err());
}

proptest! {
    /// By the definition: the share of won pairs, where equal scores count half.
    #[test]
    fn auc_is_the_share_of_won_pairs(rows in prop::collection::vec((any::<bool>(), -3..3i8), 0..30)) {
        let items: Vec<AucItem> = rows
            .iter()
            .map(|(yes, score)| {
                // the two zeros are equal
                let score = if *score == 0 && *yes { -0.0 } else { f64::from(*score) };
                AucItem::with_score("q", if *yes { PopeLabel::Yes } else { PopeLabel::No }, score)
            })
            .collect();
        let (mut won, mut pairs) = (0.0, 0.0);
        for (_, yes) in rows.iter().filter(|(yes, _)| *yes) {
            for (_, no) in rows.iter().filter(|(yes, _)| !yes) {
                won += if yes > no { 1.0 } else if yes == no { 0.5 } else { 0.0 };
                pairs += 1.0;
            }
        }
        let expected = (pairs > 0.0).then(|| won / pairs);
        prop_assert_eq!(auc(&items), expected);
    }
}
