//! Pairs that cannot be used, alone or beside others.

use bpo_dpo::{Collate, DpoConfig, PairValidator, PromptGroup, usable_pairs, validate_pairs};
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

fn ids(pairs: &[PreferencePair]) -> Vec<&str> {
    pairs.iter().map(|pair| pair.id.as_str()).collect()
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
    let (kept, skipped) = validate_pairs(&mut Trimming::default(), loss, &pairs);
    assert_eq!(ids(&kept), ["0", "2", "3", "7", "8"]);
    let expected = [
        ("1", SkipReason::SameTokens, r#""a dog " is the same as "a dog" (pair "0")"#),
        ("4", SkipReason::SameTokens, r#""\ta cat" is the same as "a cat" (pair "0")"#),
        ("5", SkipReason::PairRefused, r#"" a mouse" is the same as "a mouse""#),
        ("6", SkipReason::PairRefused, "no image"),
    ];
    assert_eq!(skips(&skipped), expected);

    // in parts of any size the same
    for size in 1..=pairs.len() {
        let (mut collate, mut validator) = (Trimming::default(), PairValidator::default());
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        for part in pairs.chunks(size) {
            let (kept, skipped) = validator.validate_pairs(&mut collate, loss, part);
            all.extend(kept);
            refused.extend(skipped);
        }
        assert_eq!(all, kept, "{size}");
        assert_eq!(skips(&refused), expected, "{size}");
    }
}

#[test]
fn large_group_with_one_conflict_needs_few_checks() {
    let mut pairs: Vec<_> =
        (0..1000).map(|id| pair(id, "a", "what", "a cat", &format!("{id} dogs"))).collect();
    pairs[700].rejected = "699 dogs ".to_owned();
    let mut collate = Trimming::default();
    let (kept, skipped) = validate_pairs(&mut collate, DpoConfig::default().objective().properties(), &pairs);
    assert_eq!((kept.len(), skipped[0].id.as_str()), (999, "700"));
    // the whole, two a level of the halving, and a search for the earlier pair
    assert!(collate.checks < 40, "{}", collate.checks);
}

#[test]
fn training_and_evaluation_pairs_are_validated_together() {
    let train = [pair(0, "a", "what", "a cat", "a dog")];
    let eval = [pair(1, "a", "what", "a cat ", "a bird"), pair(2, "a", "what", "a cat", "a bird")];
    let config = DpoConfig::default();
    let loss = config.objective().properties();
    let usable = usable_pairs(&config, loss, &mut Trimming::default(), &train, &eval);
    assert_eq!((ids(&usable.pairs), ids(&usable.eval_pairs)), (vec!["0"], vec!["2"]));
    assert_eq!(skips(&usable.skipped)[0].0, "1");
}
