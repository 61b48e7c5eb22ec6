//! Finding the pairs that cannot be used, before any time is spent on the others.

use std::collections::HashMap;

use bpo_pairs::{PreferencePair, SkipReason, Skipped, chain};

use crate::config::DpoConfig;
use crate::loss::LossProperties;
use crate::order::{DataOrder, GroupBatch, Question};
use crate::policy::Collate;

/// Skips pairs whose own settings no loss can use.
fn sound(pairs: Vec<PreferencePair>) -> (Vec<PreferencePair>, Vec<Skipped>) {
    let reason = |pair: &PreferencePair| match (pair.beta, pair.margin) {
        (Some(beta), _) if !(beta > 0.0 && beta.is_finite()) => {
            Some(format!("`beta` must be a finite number above 0, not {beta}"))
        }
        (_, Some(margin)) if !margin.is_finite() => Some(format!("`margin` must be finite, not {margin}")),
        _ => None,
    };
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for pair in pairs {
        match reason(&pair) {
            None => kept.push(pair),
            Some(reason) => {
                skipped.push(Skipped::new(pair.id, SkipReason::PairRefused).with_detail(reason));
            }
        }
    }
    (kept, skipped)
}

/// The pairs of a run that can be used, and the others.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct UsablePairs {
    /// Pairs to train on.
    pub pairs: Vec<PreferencePair>,
    /// Pairs to evaluate on.
    pub eval_pairs: Vec<PreferencePair>,
    /// Pairs of either kind that cannot be used.
    pub skipped: Vec<Skipped>,
}

/// The pairs that a run with these settings trains and evaluates on.
///
/// Pairs of one prompt may come together in a batch whichever of the two they are for, so both are [validated](PairValidator::validate_pairs) together.
pub fn usable_pairs<C: Collate>(
    config: &DpoConfig,
    loss: LossProperties,
    collate: &mut C,
    pairs: &[PreferencePair],
    eval_pairs: &[PreferencePair],
) -> UsablePairs {
    let [of_pairs, of_eval_pairs] = [pairs, eval_pairs].map(|pairs| sound(pairs.to_vec()));
    let mut validator = PairValidator::default();
    let mut usable = UsablePairs::default();
    for (part, (pairs, unsound)) in [(&mut usable.pairs, &of_pairs), (&mut usable.eval_pairs, &of_eval_pairs)]
    {
        usable.skipped.extend(unsound.iter().cloned());
        if config.validate_pairs {
            let (kept, refused) = validator.validate_pairs(collate, loss, pairs);
            *part = kept;
            usable.skipped.extend(refused);
        } else {
            part.clone_from(pairs);
        }
    }
    usable
}

/// Splits pairs into those that the collator takes for an objective, in their order, and the others; see [`PairValidator::validate_pairs`].
pub fn validate_pairs<C: Collate>(
    collate: &mut C,
    loss: LossProperties,
    pairs: &[PreferencePair],
) -> (Vec<PreferencePair>, Vec<Skipped>) {
    PairValidator::default().validate_pairs(collate, loss, pairs)
}

/// Checks pairs, a part of them at a time, and keeps in mind those that were taken.
#[derive(Debug, Default)]
pub struct PairValidator<'a> {
    taken: HashMap<Question<'a>, Vec<&'a PreferencePair>>,
}

impl<'a> PairValidator<'a> {
    /// Splits pairs into those that the collator takes for an objective, in their order, and the others.
    ///
    /// Each group is checked as a whole, and in parts only where it is refused. A pair that the collator takes alone, but not with
    /// earlier ones of its group, is skipped, too: its answers have the [same tokens](SkipReason::SameTokens) as theirs, though
    /// not the same text.
    pub fn validate_pairs<C: Collate>(
        &mut self,
        collate: &mut C,
        loss: LossProperties,
        pairs: &'a [PreferencePair],
    ) -> (Vec<PreferencePair>, Vec<Skipped>) {
        let mut refused: Vec<Option<(SkipReason, String)>> = vec![None; pairs.len()];
        for members in DataOrder::new(pairs).groups() {
            let Some(&first) = members.first() else { continue };
            let taken = self.taken.entry(Question::of(&pairs[first])).or_default();
            let mut check = |pairs: &[&PreferencePair]| check(collate, loss, pairs.iter().copied());
            take(&mut check, pairs, members, taken, &mut refused);
        }
        let (mut kept, mut skipped) = (Vec::new(), Vec::new());
        for (pair, refused) in pairs.iter().zip(refused) {
            match refused {
                None => kept.push(pair.clone()),
                Some((reason, detail)) => {
                    skipped.push(Skipped::new(pair.id.clone(), reason).with_detail(detail));
                }
            }
        }
        (kept, skipped)
    }
}

/// Takes the members of a group that `check` finds nothing wrong with, beside those that are taken already.
fn take<'a>(
    check: &mut dyn FnMut(&[&PreferencePair]) -> Option<String>,
    pairs: &'a [PreferencePair],
    members: &[usize],
    taken: &mut Vec<&'a PreferencePair>,
    refused: &mut [Option<(SkipReason, String)>],
) {
    let count = taken.len();
    taken.extend(members.iter().map(|&index| &pairs[index]));
    let Some(error) = check(taken) else { return };
    taken.truncate(count);
    let [one] = members else {
        let (first, second) = members.split_at(members.len() / 2);
        take(check, pairs, first, taken, refused);
        take(check, pairs, second, taken, refused);
        return;
    };
    let pair = &pairs[*one];
    refused[*one] = Some(match check(&[pair]) {
        Some(error) => (SkipReason::PairRefused, error),
        None => (SkipReason::SameTokens, clash(check, taken, pair).unwrap_or(error)),
    });
}

/// What `check` says of a pair beside the first of `taken` that it cannot be beside.
fn clash(
    check: &mut dyn FnMut(&[&PreferencePair]) -> Option<String>,
    taken: &[&PreferencePair],
    pair: &PreferencePair,
) -> Option<String> {
    // beside the first `fits` ones there is nothing wrong with it, beside the first `clashes` there is
    let (mut fits, mut clashes) = (0, taken.len());
    while clashes - fits > 1 {
        let middle = fits + (clashes - fits) / 2;
        match check(&[&taken[..middle], &[pair]].concat()) {
            None => fits = middle,
            Some(_) => clashes = middle,
        }
    }
    let other = taken.get(fits)?;
    Some(format!("{} (pair {:?})", check(&[other, pair])?, other.id))
}

fn check<'a, C: Collate>(
    collate: &mut C,
    loss: LossProperties,
    pairs: impl IntoIterator<Item = &'a PreferencePair> + Clone,
) -> Option<String> {
    let batch = GroupBatch::for_loss(loss, pairs);
    batch.groups.iter().find_map(|group| collate.check(group).err()).map(|error| chain(&error))
}
