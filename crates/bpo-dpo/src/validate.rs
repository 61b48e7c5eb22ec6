//! Validation of the pairs before the first step.

use std::collections::HashMap;
use std::error::Error;

use bpo_pairs::{PreferencePair, SkipError, SkipReason, Skipped, chain};

use crate::config::DpoConfig;
use crate::loss::LossProperties;
use crate::order::{DataOrder, GroupBatch, Question};
use crate::policy::Collate;

/// Returns the pairs whose `beta` and `margin` are valid, and adds the others to `skipped`.
fn with_valid_settings<'a>(
    pairs: &'a [PreferencePair],
    skipped: &mut Vec<Skipped>,
) -> Vec<&'a PreferencePair> {
    let reason = |pair: &PreferencePair| match (pair.beta, pair.margin) {
        (Some(beta), _) if !(beta > 0.0 && beta.is_finite()) => {
            Some(format!("`beta` must be a finite number above 0, not {beta}"))
        }
        (_, Some(margin)) if !margin.is_finite() => Some(format!("`margin` must be finite, not {margin}")),
        _ => None,
    };
    let mut valid = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match reason(pair) {
            None => valid.push(pair),
            Some(reason) => {
                skipped.push(Skipped::new(&pair.id, SkipReason::PairRefused).with_detail(reason));
            }
        }
    }
    valid
}

/// Number of groups that the collator checks in one call.
const CHECKED_TOGETHER: usize = 256;

/// The pairs that a run can use, and the pairs that it skips.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct UsablePairs {
    /// Pairs to train on.
    pub pairs: Vec<PreferencePair>,
    /// Pairs to evaluate on.
    pub eval_pairs: Vec<PreferencePair>,
    /// Pairs of both parts that cannot be used.
    pub skipped: Vec<Skipped>,
}

/// Returns the pairs that a run can train and evaluate on, with these settings and a loss with
/// these properties.
///
/// Both parts are [validated](PairValidator::validate_pairs) together, because
/// [`LogpCache::fill`](crate::LogpCache::fill) puts pairs of one prompt into one batch.
pub fn usable_pairs<C: Collate>(
    config: &DpoConfig,
    loss: LossProperties,
    collate: &mut C,
    pairs: &[PreferencePair],
    eval_pairs: &[PreferencePair],
) -> UsablePairs {
    let mut validator = PairValidator::default();
    let mut usable = UsablePairs::default();
    for (part, pairs) in [(&mut usable.pairs, pairs), (&mut usable.eval_pairs, eval_pairs)] {
        let mut kept = with_valid_settings(pairs, &mut usable.skipped);
        if config.validate_pairs {
            kept = validator.keep_usable(collate, loss, kept, &mut usable.skipped);
        }
        part.extend(kept.into_iter().cloned());
    }
    usable
}

/// Splits pairs into those that the collator accepts, in their order, and the skipped ones; see
/// [`PairValidator::validate_pairs`].
pub fn validate_pairs<C: Collate>(
    collate: &mut C,
    loss: LossProperties,
    pairs: &[PreferencePair],
) -> (Vec<PreferencePair>, Vec<Skipped>) {
    PairValidator::default().validate_pairs(collate, loss, pairs)
}

/// Validates pairs in several calls: later pairs are checked together with earlier ones of the same
/// prompt.
#[derive(Debug, Default)]
pub struct PairValidator<'a> {
    taken: HashMap<Question<'a>, Vec<&'a PreferencePair>>,
}

impl<'a> PairValidator<'a> {
    /// Splits pairs into those that the collator accepts for a loss, in their order, and the
    /// skipped ones.
    ///
    /// Each group is [checked](Collate::check) as a whole, and in parts only if the check fails. A
    /// pair that the collator accepts alone, but not together with earlier pairs of its group, is
    /// also skipped, because one of its answers has the [same tokens](SkipReason::SameTokens) as an
    /// earlier answer with another text.
    pub fn validate_pairs<C: Collate>(
        &mut self,
        collate: &mut C,
        loss: LossProperties,
        pairs: &'a [PreferencePair],
    ) -> (Vec<PreferencePair>, Vec<Skipped>) {
        let mut skipped = Vec::new();
        let kept = self.keep_usable(collate, loss, pairs.iter().collect(), &mut skipped);
        (kept.into_iter().cloned().collect(), skipped)
    }

    fn keep_usable<C: Collate>(
        &mut self,
        collate: &mut C,
        loss: LossProperties,
        mut pairs: Vec<&'a PreferencePair>,
        skipped: &mut Vec<Skipped>,
    ) -> Vec<&'a PreferencePair> {
        let mut refused: Vec<Option<(SkipReason, String)>> = vec![None; pairs.len()];
        for groups in DataOrder::new(&pairs).groups().chunks(CHECKED_TOGETHER) {
            let (mut whole, mut ends) = (Vec::new(), Vec::new());
            for members in groups {
                let members = members.iter().map(|&index| pairs[index]);
                let question = members.clone().next().map(Question::of);
                let taken = question.and_then(|question| self.taken.get(&question));
                let together = taken.into_iter().flatten().copied().chain(members);
                whole.extend(GroupBatch::for_loss(loss, together).groups);
                ends.push(whole.len());
            }
            let mut results = collate.check_groups(&whole).into_iter();
            let mut start = 0;
            for (members, end) in groups.iter().zip(ends) {
                let is_accepted = results.by_ref().take(end - start).filter(Result::is_err).count() == 0;
                start = end;
                let Some(&first) = members.first() else { continue };
                let taken = self.taken.entry(Question::of(pairs[first])).or_default();
                if is_accepted {
                    taken.extend(members.iter().map(|&index| pairs[index]));
                } else {
                    let mut check = |pairs: &[&PreferencePair]| check(collate, loss, pairs.iter().copied());
                    add_accepted(&mut check, &pairs, members, taken, &mut refused);
                }
            }
        }
        let mut refused = refused.into_iter();
        pairs.retain(|pair| match refused.next().flatten() {
            None => true,
            Some((reason, detail)) => {
                skipped.push(Skipped::new(&pair.id, reason).with_detail(detail));
                false
            }
        });
        pairs
    }
}

/// Returns the reason why pairs cannot be used together, and its text.
type Check<'a> = dyn FnMut(&[&PreferencePair]) -> Option<(SkipReason, String)> + 'a;

/// Adds the members of a group that `check` accepts together with those in `taken` to `taken`, and
/// records the reasons of the others in `refused`.
fn add_accepted<'a>(
    check: &mut Check<'_>,
    pairs: &[&'a PreferencePair],
    members: &[usize],
    taken: &mut Vec<&'a PreferencePair>,
    refused: &mut [Option<(SkipReason, String)>],
) {
    let count = taken.len();
    taken.extend(members.iter().map(|&index| pairs[index]));
    let Some(error) = check(taken) else { return };
    taken.truncate(count);
    let [one] = members else {
        let (first, second) = members.split_at(members.len() / 2);
        add_accepted(check, pairs, first, taken, refused);
        add_accepted(check, pairs, second, taken, refused);
        return;
    };
    let pair = pairs[*one];
    refused[*one] = Some(match check(&[pair]) {
        Some(refusal) => refusal,
        None => (SkipReason::SameTokens, first_conflict(check, taken, pair).unwrap_or(error.1)),
    });
}

/// Returns the error of `check` for a pair together with the first pair of `taken` that it
/// conflicts with.
fn first_conflict(check: &mut Check<'_>, taken: &[&PreferencePair], pair: &PreferencePair) -> Option<String> {
    // the pair fits the first `fits` of `taken`, and conflicts with one of the first `clashes`
    let (mut fits, mut clashes) = (0, taken.len());
    while clashes - fits > 1 {
        let middle = fits + (clashes - fits) / 2;
        match check(&[&taken[..middle], &[pair]].concat()) {
            None => fits = middle,
            Some(_) => clashes = middle,
        }
    }
    let other = taken.get(fits)?;
    Some(format!("{} (pair {:?})", check(&[other, pair])?.1, other.id))
}

/// Returns the [reason](refusal) why the collator does not accept a group of pairs, and its text.
fn check<'a, C: Collate>(
    collate: &mut C,
    loss: LossProperties,
    pairs: impl IntoIterator<Item = &'a PreferencePair> + Clone,
) -> Option<(SkipReason, String)> {
    let batch = GroupBatch::for_loss(loss, pairs);
    let error = batch.groups.iter().find_map(|group| collate.check(group).err())?;
    Some((refusal(&error), chain(&error)))
}

/// Returns the reason to skip a pair for which the collator returned `error`: that of a
/// [`SkipError`] among its sources, such as a missing image, otherwise [`SkipReason::PairRefused`].
pub(crate) fn refusal(error: &(dyn Error + 'static)) -> SkipReason {
    SkipError::reason_of(error).unwrap_or(SkipReason::PairRefused)
}
