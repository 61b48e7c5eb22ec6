//! Pairs that cannot be used, alone or beside others.

use std::borrow::Borrow;

use bpo_dpo::{Collate, DpoConfig, GroupBatch, PromptGroup, UsablePairs, usable_pairs, validate_pairs};
use bpo_pairs::{PreferencePair, SkipReason, Skipped};

use crate::toy::pair;

/// A collator that rejects images named `missing`, and two completions of a group that differ only
/// in surrounding white space, as a chat template that trims them would.
#[derive(Default)]
struct Trimming {
    checks: usize,
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no image")]
    Image,
    #[error("{0:?} is the same as {1:?}")]
    Same(String, String),
}

impl Collate for Trimming {
    type Batch = ();
    type Error = Refusal;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<(), Refusal> {
        self.checks += 1;
        for group in groups {
            if group.images[0] == "missing" {
                return Err(Refusal::Image);
            }
            for (i, one) in group.completions.iter().enumerate() {
                if let Some(other) = group.completions[..i].iter().find(|other| other.trim() == one.trim()) {
                    return Err(Refusal::Same(one.clone(), other.clone()));
                }
            }
        }
        Ok(())
    }
}

fn ids<P: Borrow<PreferencePair>>(pairs: &[P]) -> Vec<&str> {
    pairs.iter().map(|pair| pair.borrow().id.as_str()).collect()
}

fn skips(skipped: &[Skipped]) -> Vec<(&str, SkipReason, &str)> {
    skipped.iter().map(|skipped| (skipped.id.as_str(), skipped.reason, skipped.detail.as_str())).collect()
}

#[test]
fn pair_that_conflicts_with_an_earlier_pair_is_skipped() {
    let pairs = [
        pair(0, "a", "what", "a cat", "a dog"),
        pair(1, "a", "what", "a cat", "a dog "),
        pair(2, "b", "what", "a cat", "a dog "),
        pair(3, "a", "what", "a cat", "a bird"),
        pair(4, "a", "what", "\ta cat", "a fish"),
        pair(5, "a", "what", "a mouse", " a mouse"),
        pair(6, "missing", "what", "a cat", "a dog"),
        pair(7, "a", "what", "a cat", "a dog"),
        pair(8, "a", "who", "a cat", "a dog "),
    ];
    let loss = DpoConfig::default().objective().properties();
    let (kept, skipped) = validate_pairs(&mut Trimming::default(), loss, pairs.to_vec());
    assert_eq!(ids(&kept), ["0", "2", "3", "7", "8"]);
    let expected = [
        ("1", SkipReason::SameTokens, r#""a dog " is the same as "a dog" (pair "0")"#),
        ("4", SkipReason::SameTokens, r#""\ta cat" is the same as "a cat" (pair "0")"#),
        ("5", SkipReason::PairRefused, r#"" a mouse" is the same as "a mouse""#),
        ("6", SkipReason::PairRefused, "no image"),
    ];
    assert_eq!(skips(&skipped), expected);
}

#[test]
fn large_group_with_one_conflict_needs_few_checks() {
    let mut pairs: Vec<_> =
        (0..1000).map(|id| pair(id, "a", "what", "a cat", &format!("{id} dogs"))).collect();
    pairs[700].rejected = "699 dogs ".to_owned();
    let mut collate = Trimming::default();
    let (kept, skipped) = validate_pairs(&mut collate, DpoConfig::default().objective().properties(), pairs);
    assert_eq!((kept.len(), skipped[0].id.as_str()), (999, "700"));
    // the whole, two a level of the halving, and a search for the earlier pair
    assert!(collate.checks < 40, "{}", collate.checks);
}

#[test]
fn training_and_evaluation_pairs_are_validated_together() {
    let train = vec![pair(0, "a", "what", "a cat", "a dog")];
    let eval = vec![pair(1, "a", "what", "a cat ", "a bird"), pair(2, "a", "what", "a cat", "a bird")];
    let config = DpoConfig::default();
    let loss = config.objective().properties();
    let usable = usable_pairs(&config, loss, &mut Trimming::default(), train, eval);
    assert_eq!((ids(&usable.pairs), ids(&usable.eval_pairs)), (vec!["0"], vec!["2"]));
    assert_eq!(skips(&usable.skipped)[0].0, "1");
}

/// Checks each pair by itself, beside the accepted pairs before it.
fn usable_one_by_one(train: &[PreferencePair], eval: &[PreferencePair]) -> UsablePairs {
    let (config, mut collate) = (DpoConfig::default(), Trimming::default());
    let loss = config.objective().properties();
    let none = || usable_pairs::<_, PreferencePair>(&config, loss, &mut Trimming::default(), vec![], vec![]);
    let (mut usable, mut accepted) = (none(), Vec::<PreferencePair>::new());
    for (part, kept) in [(train, &mut usable.pairs), (eval, &mut usable.eval_pairs)] {
        let settings_first = [true, false].into_iter().flat_map(|invalid| {
            let of = move |pair: &&PreferencePair| pair.beta.is_some_and(|beta| beta <= 0.0) == invalid;
            part.iter().filter(of)
        });
        for pair in settings_first {
            let mut is_refused = |pairs: &[&PreferencePair]| {
                let batch = GroupBatch::for_loss(loss, 0, pairs.iter().copied());
                collate.check_groups(&batch.groups).iter().any(Result::is_err)
            };
            let beside: Vec<_> = accepted.iter().chain([pair]).collect();
            if pair.beta.is_some_and(|beta| beta <= 0.0) || is_refused(&[pair]) {
                usable.skipped.push(Skipped::new(&pair.id, SkipReason::PairRefused));
            } else if is_refused(&beside) {
                usable.skipped.push(Skipped::new(&pair.id, SkipReason::SameTokens));
            } else {
                accepted.push(pair.clone());
                kept.push(pair.clone());
            }
        }
    }
    usable
}

#[test]
fn pairs_are_validated_as_one_by_one() {
    let mut state = 1u64;
    let mut draw = |bound: usize| {
        // constants of Knuth's MMIX
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % bound
    };
    let mut refused = 0;
    for round in 0..20 {
        let mut drawn = |from: usize, count: usize| -> Vec<PreferencePair> {
            let answer =
                |number: usize| format!("{}{}{}", &" "[..number % 2], number / 2, &"  "[..number % 3]);
            (from..from + count)
                .map(|id| {
                    let image = match round % 5 {
                        4 => draw(400).to_string(),
                        _ => ["a", "b", "c", "missing"][draw(8).saturating_sub(4)].to_owned(),
                    };
                    let prompt = ["what", "who", "where"][draw(3)];
                    let (chosen, rejected) = (answer(draw(60)), answer(draw(60)));
                    let mut pair = pair(id, &image, prompt, &chosen, &rejected);
                    pair.rejected.push_str(if pair.chosen == pair.rejected { "other" } else { "" });
                    pair.beta = (draw(10) == 0).then_some(-1.0);
                    pair
                })
                .collect()
        };
        // more groups than are checked in one call, in some rounds
        let (train, mut eval) = (drawn(0, 1 + 17 * round), drawn(1000, 20));
        if round % 2 == 0 {
            eval.clear();
        }
        let config = DpoConfig::default();
        let loss = config.objective().properties();
        let expected = usable_one_by_one(&train, &eval);
        let lent = {
            let (train, eval) = (train.iter().collect::<Vec<_>>(), eval.iter().collect());
            usable_pairs(&config, loss, &mut Trimming::default(), train, eval)
        };
        assert_eq!(
            (ids(&lent.pairs), ids(&lent.eval_pairs)),
            (ids(&expected.pairs), ids(&expected.eval_pairs))
        );
        let skipped = lent.skipped.clone();
        let usable = usable_pairs(&config, loss, &mut Trimming::default(), train.clone(), eval.clone());
        assert_eq!((&usable.pairs, &usable.eval_pairs), (&expected.pairs, &expected.eval_pairs), "{round}");
        let reasons = |skipped: &[Skipped]| -> Vec<_> {
            skipped.iter().map(|skipped| (skipped.id.clone(), skipped.reason)).collect()
        };
        assert_eq!(reasons(&usable.skipped), reasons(&expected.skipped), "{round}");
        assert_eq!(usable.skipped, skipped, "{round}");
        refused += usable.skipped.iter().filter(|skipped| skipped.reason == SkipReason::SameTokens).count();
    }
    assert!(refused > 50, "{refused}");
}
