//! Finding the pairs that cannot be used, before any time is spent on the others.

use bpo_pairs::error::chain;
use bpo_pairs::record::PreferencePair;
use bpo_pairs::set_aside::{self, Reason};

use crate::loss::Objective;
use crate::order::{DataOrder, GroupBatch};
use crate::policy::Collate;

/// A pair that is not trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its id.
    pub pair: String,
    /// Why it cannot be used.
    pub reason: String,
}

impl From<SetAside> for set_aside::SetAside {
    fn from(aside: SetAside) -> Self {
        Self::new(aside.pair, Reason::PairRefused).with_detail(aside.reason)
    }
}

/// Sets pairs aside whose own settings no loss can use.
pub(crate) fn sound(pairs: Vec<PreferencePair>) -> (Vec<PreferencePair>, Vec<SetAside>) {
    let reason = |pair: &PreferencePair| match (pair.beta, pair.margin) {
        (Some(beta), _) if !(beta > 0.0 && beta.is_finite()) => {
            Some(format!("`beta` must be a finite number above 0, not {beta}"))
        }
        (_, Some(margin)) if !margin.is_finite() => Some(format!("`margin` must be finite, not {margin}")),
        _ => None,
    };
    let (mut kept, mut set_aside) = (Vec::new(), Vec::new());
    for pair in pairs {
        match reason(&pair) {
            None => kept.push(pair),
            Some(reason) => set_aside.push(SetAside { pair: pair.id, reason }),
        }
    }
    (kept, set_aside)
}

/// Splits pairs into those that the collator takes for an objective, in their order, and the others.
///
/// Each group is checked as a whole; only in a group that is refused each pair is checked on its own.
pub fn vet<C: Collate>(
    collate: &mut C,
    objective: &Objective,
    pairs: &[PreferencePair],
) -> (Vec<PreferencePair>, Vec<SetAside>) {
    let mut reasons: Vec<Option<String>> = vec![None; pairs.len()];
    for members in DataOrder::new(pairs).groups() {
        if check(collate, objective, members.iter().map(|&index| &pairs[index])).is_some() {
            for &index in members {
                reasons[index] = check(collate, objective, [&pairs[index]]);
            }
        }
    }
    let (mut kept, mut set_aside) = (Vec::new(), Vec::new());
    for (pair, reason) in pairs.iter().zip(reasons) {
        match reason {
            None => kept.push(pair.clone()),
            Some(reason) => set_aside.push(SetAside { pair: pair.id.clone(), reason }),
        }
    }
    (kept, set_aside)
}

fn check<'a, C: Collate>(
    collate: &mut C,
    objective: &Objective,
    pairs: impl IntoIterator<Item = &'a PreferencePair> + Clone,
) -> Option<String> {
    let batch = GroupBatch::for_objective(objective, pairs);
    batch.groups.iter().find_map(|group| collate.check(group).err()).map(|error| chain(&error))
}
