//! Tests of the selection of pairs.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::record::{Completion, CompletionKind};

fn record(id: &str, image: &str, completions: &[(f64, &str, &str)]) -> Record {
    let completion = |&(score, kind, response): &(f64, &str, &str)| Completion {
        response: response.into(),
        score,
        kind: CompletionKind::from(kind.to_owned()),
        provenance: None,
    };
    Record {
        id: id.into(),
        images: vec![image.into()],
        system: None,
        history: Default::default(),
        prompt: "<image>\nWhat is there?".into(),
        completions: completions.iter().map(completion).collect(),
    }
}

const ANSWERS: &[(f64, &str, &str)] = &[
    (1.0, "gt", "A red cup stands on the old table."),
    (0.0, "mllm-hal", "A blue cup stands on the old table."),
    (0.0, "mllm-hal", "A dog sleeps in the garden."),
    (0.0, "llm-hal", "A blue cup stands on the old table!"),
    (-1.0, "llm-hal", "Nothing."),
];

fn ids(selected: &SelectedPairs) -> Vec<&str> {
    selected.pairs.iter().map(|pair| pair.id.as_str()).collect()
}

fn select(selection: &PairSelection, seed: u64) -> SelectedPairs {
    selection.pairs_of(&record("r", "a/b.jpg", ANSWERS), &PairFilter::default(), seed)
}

#[test]
fn the_default_keeps_all_pairs() {
    let record = record("r", "a/b.jpg", ANSWERS);
    let PairSet { pairs, skipped } = make_pairs(&record, &PairFilter::default());
    let expected = SelectedPairs { pairs, skipped, left_out: SkipCounts::default() };
    assert_eq!(select(&PairSelection::default(), 7), expected);
    assert_eq!(expected.pairs.len(), 7);
}

#[test]
fn best_and_worst_make_one_pair() {
    let selected = select(&PairSelection::default().with_rule(PairRule::BestWorst), 0);
    assert_eq!(ids(&selected), ["r:0>4"]);
    assert_eq!(selected.left_out.get(SkipReason::NotSelected), 6);
}

#[test]
fn each_kind_makes_one_pair_with_the_best_answer() {
    let rule = PairSelection::default().with_rule(PairRule::OnePerKind);
    let mut drawn = HashSet::new();
    for seed in 0..20 {
        let selected = select(&rule, seed);
        assert_eq!(selected.pairs.len(), 2, "{:?}", ids(&selected));
        assert_eq!(ids(&selected)[1], "r:0>4");
        drawn.insert(ids(&selected)[0].to_owned());
    }
    // two answers of a kind have the same score
    assert_eq!(drawn, HashSet::from(["r:0>1".to_owned(), "r:0>2".to_owned()]));
}

#[test]
fn similar_rejected_answers_make_one_pair() {
    let of = |similarity| select(&PairSelection::default().with_dedup(similarity), 0);
    let equal = of(1.0);
    assert_eq!(ids(&equal), ["r:0>1", "r:0>2", "r:0>4", "r:1>4", "r:2>4", "r:3>4"]);
    assert_eq!(equal.left_out.get(SkipReason::NearDuplicate), 1);
    // one of eight words differs
    let near = [(1.0, "gt", "A."), (0.0, "x", "a b c d e f g h"), (0.0, "y", "a b c d e f g i")];
    let pairs = |similarity| {
        let selection = PairSelection::default().with_dedup(similarity);
        selection.pairs_of(&record("r", "a.jpg", &near), &PairFilter::default(), 0).pairs.len()
    };
    assert_eq!((pairs(0.88), pairs(0.875)), (2, 1));
}

#[test]
fn the_cap_keeps_pairs_that_the_seed_selects() {
    let of = |seed| select(&PairSelection::default().with_max_per_sample(2), seed);
    let mut seen = HashSet::new();
    for seed in 0..50 {
        let selected = of(seed);
        assert_eq!((selected.pairs.len(), selected.left_out.get(SkipReason::OverCap)), (2, 5));
        assert_eq!(selected, of(seed));
        seen.extend(ids(&selected).into_iter().map(str::to_owned));
    }
    assert_eq!(seen.len(), 7, "each pair is selected by some seed");
}

#[test]
fn subsets_take_their_share_of_each_source() {
    let subset = Subset::default().with("coco", 30.0).with("*", 80.0).with("gqa", 0.0);
    let selection = PairSelection::default().with_subset(subset);
    let smaller = PairSelection::default().with_subset(Subset::default().with("coco", 10.0));
    let mut taken: HashMap<&str, usize> = HashMap::new();
    for number in 0..4000 {
        for (source, image) in [("coco", "coco/a.jpg"), ("gqa", "./gqa/a.jpg"), (".", "a.jpg")] {
            let record = record(&number.to_string(), image, ANSWERS);
            assert_eq!(source_of(&record.images), source);
            let has = |selection: &PairSelection| {
                !selection.pairs_of(&record, &PairFilter::default(), 3).pairs.is_empty()
            };
            *taken.entry(source).or_default() += usize::from(has(&selection));
            // a smaller share is a part of a larger one
            assert!(source != "coco" || !has(&smaller) || has(&selection));
        }
    }
    assert!((1100..1300).contains(&taken["coco"]), "{taken:?}");
    assert!((3100..3300).contains(&taken["."]), "{taken:?}");
    assert_eq!(taken["gqa"], 0);
    assert_eq!(source_of(&[]), "text-only");
    assert_eq!(source_of(&["gqa/a.parquet#image/0".to_owned()]), "gqa");
    assert_eq!(source_of(&["a.parquet#image/0".to_owned()]), ".");
}

#[test]
fn values_that_cannot_work_are_named() {
    let broken = [
        ("max_per_sample", PairSelection::default().with_max_per_sample(0)),
        ("dedup", PairSelection::default().with_dedup(f64::NAN)),
        ("dedup", PairSelection::default().with_dedup(0.0)),
        ("subset.coco", PairSelection::default().with_subset(Subset::default().with("coco", 101.0))),
        ("eval_percent", PairSelection { eval_percent: Some(100.0), ..PairSelection::default() }),
        ("max_tokens", PairSelection { max_tokens: Some(0), ..PairSelection::default() }),
    ];
    for (key, selection) in broken {
        let error = selection.validate().unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
    PairSelection::default().validate().unwrap();
}

#[test]
fn paths_and_frames_of_one_image_are_in_one_group() {
    let mut groups = ImageGroups::default();
    let images = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for number in 0..200 {
        groups.add("x", &images(&[&format!("{number}/a.jpg")]));
    }
    for number in 0..200 {
        let of = |id: &str, names: &[&str]| groups.is_within(50.0, 1, id, &images(names));
        let image = format!("{number}/a.jpg");
        let same = format!("./{number}//a.jpg");
        let frame = format!("{number}/a.jpg#12");
        assert!([&same, &frame].iter().all(|other| of("a", &[other]) == of("b", &[&image])));
        let (first, second) = (format!("{number}#0"), format!("{number}#1"));
        assert_eq!(of(&first, &[]), of(&second, &[]));
    }
}

proptest! {
    /// No image is on both sides, whatever the order of the samples.
    #[test]
    fn a_split_by_groups_shares_no_image(
        samples in prop::collection::vec(prop::collection::vec(0_u8..40, 0..4), 1..40),
        seed: u64,
        percent in 1.0..99.0,
    ) {
        let samples: Vec<(String, Vec<String>)> = samples
            .into_iter()
            .enumerate()
            .map(|(id, images)| (id.to_string(), images.iter().map(|image| format!("{image}.jpg")).collect()))
            .collect();
        let (mut groups, mut reversed) = (ImageGroups::default(), ImageGroups::default());
        samples.iter().for_each(|(id, images)| groups.add(id, images));
        samples.iter().rev().for_each(|(id, images)| reversed.add(id, images));
        let mut sides: HashMap<&str, bool> = HashMap::new();
        for (id, images) in &samples {
            let side = groups.is_within(percent, seed, id, images);
            prop_assert_eq!(side, reversed.is_within(percent, seed, id, images));
            for image in images {
                prop_assert_eq!(*sides.entry(image).or_insert(side), side);
            }
        }
    }

    /// Whatever is selected is a part of all pairs, in their order, and counts add up.
    #[test]
    fn selected_pairs_are_a_part_of_all_pairs(
        scores in prop::collection::vec((0_u8..3, 0_u8..3, "[ab ]{0,8}"), 0..7),
        rule in prop::sample::select(vec![PairRule::All, PairRule::BestWorst, PairRule::OnePerKind]),
        most in prop::option::of(1_usize..4),
        dedup in prop::option::of(0.1..=1.0),
        seed: u64,
    ) {
        let kinds = ["gt", "mllm-hal", "llm-hal"];
        let answers: Vec<(f64, &str, &str)> = scores
            .iter()
            .map(|(score, kind, text)| (f64::from(*score), kinds[usize::from(*kind)], text.as_str()))
            .collect();
        let record = record("r", "a.jpg", &answers);
        let selection = PairSelection { rule, max_per_sample: most, dedup, ..PairSelection::default() };
        let all = make_pairs(&record, &PairFilter::default());
        let selected = selection.pairs_of(&record, &PairFilter::default(), seed);
        let mut rest = all.pairs.iter();
        prop_assert!(selected.pairs.iter().all(|pair| rest.any(|other| other == pair)));
        prop_assert_eq!(selected.pairs.len() + selected.left_out.total(), all.pairs.len());
        prop_assert_eq!(selected.pairs.is_empty(), all.pairs.is_empty());
        prop_assert!(most.is_none_or(|most| selected.pairs.len() <= most));
        prop_assert_eq!(selected.skipped, all.skipped);
    }
}
