//! Order and grouping of the data.

use std::collections::BTreeSet;

use bpo_dpo::{DataOrder, DpoConfig, GroupBatch};
use bpo_pairs::{PreferencePair, Turn};
use proptest::prelude::*;

use crate::toy::{pair, pairs};

#[test]
fn groups_share_image_system_text_history_and_prompt() {
    assert_eq!(
        DataOrder::new(&pairs()).groups(),
        [vec![0, 2, 6], vec![1, 5, 8], vec![3], vec![4], vec![7], vec![9]]
    );
    let mut other = pairs();
    other[2].history = vec![Turn::new("<image>\nhello", "hello")].into();
    assert_eq!(DataOrder::new(&other).groups()[0], [0, 6]);
    other[6].system = Some("be brief".to_owned());
    other[8].system = Some("be brief".to_owned());
    assert_eq!(
        DataOrder::new(&other).groups(),
        [vec![0], vec![1, 5], vec![2], vec![3], vec![4], vec![6], vec![7], vec![8], vec![9]]
    );
    let batch = GroupBatch::new(&other);
    assert_eq!(batch.groups.len(), 9);
    assert_eq!(batch.groups[5].system.as_deref(), Some("be brief"));
}

/// The order must never change: runs of older versions go on from it. Values from another
/// implementation of ChaCha20 (with a counter and a stream of 64 bits).
#[test]
fn order_equals_recorded_order() {
    let order = DataOrder::new(&pairs());
    assert_eq!(order.epoch(42, 0), [0, 2, 6, 9, 1, 5, 8, 7, 3, 4]);
    assert_eq!(order.epoch(42, 1), [0, 2, 6, 3, 1, 5, 8, 9, 7, 4]);
    assert_eq!(order.epoch(43, 0), [7, 4, 0, 2, 6, 3, 1, 5, 8, 9]);
    let plain = DataOrder::for_config(&DpoConfig::default(), &pairs());
    assert_eq!(plain.epoch(42, 1), order.epoch(42, 1));
}

/// Nor must this one: the same in pieces of two, which are sorted, and their two steps shuffled.
#[test]
fn order_by_length_equals_recorded_order() {
    let config = DpoConfig::default().with_batch_size(1).with_group_by_length(true);
    let order = DataOrder::for_config(&config, &pairs());
    assert_eq!(order.epoch(42, 0), [2, 0, 9, 6, 1, 5, 8, 7, 4, 3]);
}

/// A step has four pairs of two questions. The answers of a question differ in length, and those of
/// other questions have lengths in between.
#[test]
fn order_by_length_keeps_groups_together() {
    let long = |length: usize| "c".repeat(length);
    let pairs: Vec<_> = (0..40)
        .flat_map(|group| [1, 30].map(|more| (group, group % 20 + more)))
        .enumerate()
        .map(|(index, (group, length))| pair(index, &format!("i{group}"), "p", &long(length), "r"))
        .collect();
    let config = DpoConfig::default().with_batch_size(4).with_group_by_length(true);
    let order = DataOrder::for_config(&config, &pairs);
    for step in order.epoch(42, 0).chunks(2) {
        assert_eq!(step[0] / 2, step[1] / 2, "{step:?}");
    }
}

/// With a chosen answer of so many characters, and a question of its own.
fn alone(index: usize, length: usize) -> PreferencePair {
    pair(index, &format!("i{index}"), "p", &"c".repeat(length), "")
}

#[test]
fn steps_by_length_have_pairs_of_similar_length() {
    let pairs: Vec<_> = (0..400).map(|index| alone(index, 1 + index * 17 % 40)).collect();
    let length = |at: &usize| pairs[*at].chosen.len();
    let config = DpoConfig::default().with_batch_size(2).with_gradient_accumulation_steps(2);
    let steps = |group_by_length: bool, epoch: usize| -> Vec<Vec<usize>> {
        let order = DataOrder::for_config(&config.clone().with_group_by_length(group_by_length), &pairs);
        order.epoch(42, epoch).chunks(4).map(<[usize]>::to_vec).collect()
    };
    let padded = |steps: &[Vec<usize>]| -> usize {
        steps
            .iter()
            .flat_map(|step| step.chunks(2))
            .map(|batch| 2 * batch.iter().map(length).max().unwrap())
            .sum()
    };
    let (plain, like) = (steps(false, 0), steps(true, 0));
    let sum: usize = pairs.iter().map(|pair| pair.chosen.len()).sum();
    // a quarter of what is padding otherwise, at most
    assert!(4 * (padded(&like) - sum) < padded(&plain) - sum, "{sum} {} {}", padded(&like), padded(&plain));
    assert_ne!(like, steps(true, 1));
    // neither from the longest to the shortest nor the other way round
    let longest: Vec<_> = like.iter().map(|step| step.iter().map(length).max().unwrap()).collect();
    assert!(!longest.is_sorted() && !longest.iter().rev().is_sorted(), "{longest:?}");
}

#[test]
fn batch_has_each_question_and_completion_once() {
    let pairs = pairs();
    let batch = GroupBatch::new([&pairs[0], &pairs[3], &pairs[2], &pairs[6]]);
    assert_eq!(batch.groups.len(), 2);
    let completions = ["a dog on a mat", "a cat on a mat", "a dog and a child", "a sleeping dog"];
    assert_eq!(batch.groups[0].completions, completions);
    assert_eq!(batch.groups[1].completions, ["red", "blue it is blue"]);
    assert_eq!(batch.rows.chosen, [0, 4, 0, 3]);
    assert_eq!(batch.rows.rejected, [1, 5, 2, 1]);
    assert_eq!(batch.completions(), 6);
}

fn some_pairs() -> impl Strategy<Value = Vec<PreferencePair>> {
    prop::collection::vec((0..5u8, 0..3u8, 0..4u8, 0..4u8), 1..40).prop_map(|rows| {
        let text = |prefix: char, number: u8| format!("{prefix}{number}");
        let pair = |(id, (image, prompt, chosen, rejected))| {
            pair(id, &text('i', image), &text('p', prompt), &text('c', chosen), &text('r', rejected))
        };
        rows.into_iter().enumerate().map(pair).collect()
    })
}

proptest! {
    #[test]
    fn epoch_has_every_pair_once_and_whole_groups(pairs in some_pairs(), seed: u64, epoch in 0..9usize) {
        let order = DataOrder::new(&pairs);
        let indices = order.epoch(seed, epoch);
        prop_assert_eq!(indices.iter().copied().collect::<BTreeSet<_>>(), (0..pairs.len()).collect());
        prop_assert_eq!(indices.len(), pairs.len());
        for group in order.groups() {
            prop_assert!(indices.windows(group.len()).any(|window| window == group.as_slice()));
        }
    }

    #[test]
    fn steps_by_length_have_every_pair_once(pairs in some_pairs(), seed: u64, step in 1..6usize) {
        let config = DpoConfig::default().with_batch_size(step).with_group_by_length(true);
        let indices = DataOrder::for_config(&config, &pairs).epoch(seed, 0);
        prop_assert_eq!(indices.iter().copied().collect::<BTreeSet<_>>(), (0..pairs.len()).collect());
        prop_assert_eq!(indices.len(), pairs.len());
    }

    #[test]
    fn group_by_length_does_not_increase_padding(lengths in prop::collection::vec(0..60usize, 1..60), seed: u64, step in 1..6usize) {
        let pairs: Vec<_> = lengths.iter().enumerate().map(|(index, length)| alone(index, *length)).collect();
        let config = DpoConfig::default().with_batch_size(step);
        let longest = |group_by_length| -> usize {
            let config = config.clone().with_group_by_length(group_by_length);
            let indices = DataOrder::for_config(&config, &pairs).epoch(seed, 0);
            indices.chunks(step).map(|step| step.iter().map(|at| lengths[*at]).max().unwrap_or_default()).sum()
        };
        prop_assert!(longest(true) <= longest(false));
    }

    #[test]
    fn rows_refer_to_the_completions_of_their_pairs(pairs in some_pairs()) {
        let batch = GroupBatch::new(&pairs);
        let rows: Vec<_> = batch
            .groups
            .iter()
            .flat_map(|group| group.completions.iter().map(move |text| (&group.images, &group.prompt, text)))
            .collect();
        prop_assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
        for (index, pair) in pairs.iter().enumerate() {
            prop_assert_eq!(rows[batch.rows.chosen[index]], (&pair.images, &pair.prompt, &pair.chosen));
            prop_assert_eq!(rows[batch.rows.rejected[index]], (&pair.images, &pair.prompt, &pair.rejected));
        }
    }
}
