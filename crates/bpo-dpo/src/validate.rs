//! Validation of the pairs before the first step.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::error::Error;

use bpo_pairs::{PreferencePair, SkipCause, SkipError, SkipReason, Skipped, chain};

use crate::config::DpoConfig;
use crate::loss::LossProperties;
use crate::order::{DataOrder, GroupBatch};
use crate::policy::Collate;

/// Number of groups that the collator checks in one call. Only the texts of these groups are
/// copied.
const CHECKED_TOGETHER: usize = 256;

/// The pairs that a run can use, and the pairs that it skips.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UsablePairs<P = PreferencePair> {
    /// Pairs to train on.
    pub pairs: Vec<P>,
    /// Pairs to evaluate on.
    pub eval_pairs: Vec<P>,
    /// Pairs of both parts that cannot be used.
    pub skipped: Vec<Skipped>,
}

/// Returns the pairs that a run can train and evaluate on, with these settings and a loss with
/// these properties.
///
/// Both parts are [validated](validate_pairs) together, because
/// [`LogpCache::fill`](crate::LogpCache::fill) puts pairs of one prompt into one batch. The pairs
/// are not copied. The lists may also hold references to pairs.
pub fn usable_pairs<C: Collate, P: Borrow<PreferencePair>>(
    config: &DpoConfig,
    loss: LossProperties,
    collate: &mut C,
    mut pairs: Vec<P>,
    mut eval_pairs: Vec<P>,
) -> UsablePairs<P> {
    let unusable = |pairs: &mut Vec<P>| {
        let mut skipped = remove(pairs, invalid_settings);
        skipped.extend(without_contrast(loss, pairs));
        skipped
    };
    let (mut skipped, mut eval_skipped) = (unusable(&mut pairs), unusable(&mut eval_pairs));
    if config.validate_pairs {
        let all: Vec<&PreferencePair> = pairs.iter().chain(&eval_pairs).map(Borrow::borrow).collect();
        let mut refused = refusals(collate, loss, &all);
        let eval_refused = refused.split_off(&pairs.len());
        let count = pairs.len();
        skipped.extend(remove_refused(&mut pairs, 0, refused));
        eval_skipped.extend(remove_refused(&mut eval_pairs, count, eval_refused));
    }
    skipped.extend(eval_skipped);
    UsablePairs { pairs, eval_pairs, skipped }
}

/// Splits pairs into those that the collator accepts for a loss, in their order, and the skipped
/// ones. The pairs are not copied. The list may also hold references to pairs.
///
/// Each group is [checked](Collate::check) as a whole, and in parts only if the check fails. A pair
/// that the collator accepts alone, but not together with earlier pairs of its group, is also
/// skipped, because one of its answers has the [same tokens](SkipReason::SameTokens) as an earlier
/// answer with another text. So are pairs without the [contrast](LossProperties::contrast) that the
/// loss needs.
pub fn validate_pairs<C: Collate, P: Borrow<PreferencePair>>(
    collate: &mut C,
    loss: LossProperties,
    mut pairs: Vec<P>,
) -> (Vec<P>, Vec<Skipped>) {
    let mut skipped = without_contrast(loss, &mut pairs);
    let refused = refusals(collate, loss, &pairs);
    skipped.extend(remove_refused(&mut pairs, 0, refused));
    (pairs, skipped)
}

/// Why a pair cannot be used: the reason, and its text.
type Refusal = (SkipReason, String);

/// Returns the refusal of a pair whose `beta` or `margin` is invalid.
fn invalid_settings(_index: usize, pair: &PreferencePair) -> Option<Refusal> {
    let detail = match (pair.beta, pair.margin) {
        (Some(beta), _) if !(beta > 0.0 && beta.is_finite()) => {
            format!("`beta` must be a finite number above 0, not {beta}")
        }
        (_, Some(margin)) if !margin.is_finite() => format!("`margin` must be finite, not {margin}"),
        _ => return None,
    };
    Some((SkipReason::PairRefused, detail))
}

/// Removes the pairs without the contrast that a loss needs, and those with an unusable one, and
/// returns them as skipped. Other losses ignore contrasts.
pub(crate) fn without_contrast<P: Borrow<PreferencePair>>(
    loss: LossProperties,
    pairs: &mut Vec<P>,
) -> Vec<Skipped> {
    if !loss.contrast {
        return Vec::new();
    }
    remove(pairs, |_, pair| match (pair.check_contrast(), pair.contrast()) {
        (Err(SkipCause { reason, detail }), _) => Some((reason, detail)),
        (Ok(()), Some(_)) => None,
        (Ok(()), None) => {
            let remedy = "the loss compares the images with other ones: the pair needs `contrast_images` and \
                          `contrast_answer`, which `bpo pair --contrast similar` adds";
            Some((SkipReason::NoContrast, SkipCause::new(SkipReason::NoContrast, remedy).detail))
        }
    })
}

/// Removes the pairs for which `refusal` returns one, given their index, and returns them as
/// skipped.
fn remove<P: Borrow<PreferencePair>>(
    pairs: &mut Vec<P>,
    mut refusal: impl FnMut(usize, &PreferencePair) -> Option<Refusal>,
) -> Vec<Skipped> {
    let (mut skipped, mut index) = (Vec::new(), 0);
    pairs.retain(|pair| {
        let pair = pair.borrow();
        let refusal = refusal(index, pair);
        index += 1;
        match refusal {
            None => true,
            Some((reason, detail)) => {
                skipped.push(Skipped::new(&pair.id, reason).with_detail(detail));
                false
            }
        }
    });
    skipped
}

/// Removes the refused pairs, and returns them as skipped. `first` is the index of the first pair
/// in `refused`.
fn remove_refused<P: Borrow<PreferencePair>>(
    pairs: &mut Vec<P>,
    first: usize,
    mut refused: BTreeMap<usize, Refusal>,
) -> Vec<Skipped> {
    if refused.is_empty() { Vec::new() } else { remove(pairs, |index, _| refused.remove(&(first + index))) }
}

/// Checks the pairs of each group together, and returns the refusals by the indices of the pairs.
fn refusals<C: Collate, P: Borrow<PreferencePair>>(
    collate: &mut C,
    loss: LossProperties,
    pairs: &[P],
) -> BTreeMap<usize, Refusal> {
    let mut refused = BTreeMap::new();
    for groups in DataOrder::new(pairs).groups().chunks(CHECKED_TOGETHER) {
        let (mut whole, mut ends) = (Vec::new(), Vec::new());
        for members in groups {
            let members = members.iter().map(|&index| pairs[index].borrow());
            whole.extend(GroupBatch::for_loss(loss, collate.weakenings(), members).groups);
            ends.push(whole.len());
        }
        let mut results = collate.check_groups(&whole).into_iter();
        drop(whole);
        let mut start = 0;
        for (members, end) in groups.iter().zip(ends) {
            let is_refused = results.by_ref().take(end - start).filter(Result::is_err).count() > 0;
            start = end;
            if is_refused {
                let mut check = |pairs: &[&PreferencePair]| check(collate, loss, pairs.iter().copied());
                add_accepted(&mut check, pairs, members, &mut Vec::new(), &mut refused);
            }
        }
    }
    refused
}

/// Returns the reason why pairs cannot be used together, and its text.
type Check<'a> = dyn FnMut(&[&PreferencePair]) -> Option<Refusal> + 'a;

/// Adds the members of a group that `check` accepts together with those in `taken` to `taken`, and
/// records the reasons of the others in `refused`.
fn add_accepted<'a, P: Borrow<PreferencePair>>(
    check: &mut Check<'_>,
    pairs: &'a [P],
    members: &[usize],
    taken: &mut Vec<&'a PreferencePair>,
    refused: &mut BTreeMap<usize, Refusal>,
) {
    let count = taken.len();
    taken.extend(members.iter().map(|&index| pairs[index].borrow()));
    let Some(error) = check(taken) else { return };
    taken.truncate(count);
    let [one] = members else {
        let (first, second) = members.split_at(members.len() / 2);
        add_accepted(check, pairs, first, taken, refused);
        add_accepted(check, pairs, second, taken, refused);
        return;
    };
    let pair = pairs[*one].borrow();
    let refusal = match check(&[pair]) {
        Some(refusal) => refusal,
        None => (SkipReason::SameTokens, first_conflict(check, taken, pair).unwrap_or(error.1)),
    };
    refused.insert(*one, refusal);
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
) -> Option<Refusal> {
    let batch = GroupBatch::for_loss(loss, collate.weakenings(), pairs);
    let error = batch.groups.iter().find_map(|group| collate.check(group).err())?;
    Some((refusal(&error), chain(&error)))
}

/// Returns the reason to skip a pair for which the collator returned `error`: that of a
/// [`SkipError`] among its sources, such as a missing image, otherwise [`SkipReason::PairRefused`].
pub(crate) fn refusal(error: &(dyn Error + 'static)) -> SkipReason {
    SkipError::reason_of(error).unwrap_or(SkipReason::PairRefused)
}
