//! The pairs of a run.

use std::collections::BTreeSet;

use bpo_pairs::{CompletionKind, PreferencePair, Skipped, warn_left_out};

use crate::config::DpoConfig;
use crate::error::DpoError;
use crate::loss::{LossProperties, RESPONSIVE_PAIRS};
use crate::order::split_pairs;
use crate::policy::Collate;
use crate::validate::{UsablePairs, usable_pairs};

/// The pairs to train on, the pairs to evaluate on, and the pairs that failed the check.
pub(crate) struct Data {
    pub(crate) pairs: Vec<PreferencePair>,
    pub(crate) eval_pairs: Vec<PreferencePair>,
    pub(crate) skipped: Vec<Skipped>,
}

impl Data {
    pub(crate) fn new<C: Collate>(
        config: &DpoConfig,
        loss: LossProperties,
        collate: &mut C,
        pairs: Vec<PreferencePair>,
        eval_pairs: Vec<PreferencePair>,
    ) -> Result<Self, DpoError> {
        check_kinds(config, pairs.iter().chain(&eval_pairs))?;
        if !collate.takes_system() {
            warn_left_out("pairs", pairs.iter().chain(&eval_pairs).map(|pair| &pair.system));
        }
        let UsablePairs { pairs, mut eval_pairs, skipped } =
            usable_pairs(config, loss, collate, pairs, eval_pairs);
        if !skipped.is_empty() {
            tracing::warn!(skipped = skipped.len(), kept = pairs.len(), "some pairs cannot be used");
        }
        let (pairs, split_off) = split_pairs(pairs, config.eval_fraction, config.seed);
        eval_pairs.extend(split_off);
        if pairs.is_empty() {
            return Err(DpoError::NoPairs { skipped });
        }
        if config.responsiveness && pairs.len() < RESPONSIVE_PAIRS {
            let (key, expected) = ("responsiveness", "false with fewer than 3 pairs to train on");
            return Err(DpoError::Setting { key, expected, found: format!("true with {}", pairs.len()) });
        }
        if eval_pairs.is_empty() && config.needs_evaluations() {
            return Err(DpoError::NothingToEvaluate);
        }
        Ok(Self { pairs, eval_pairs, skipped })
    }
}

/// Checks that each kind with a weight occurs in the pairs. Any other weight would have no effect.
fn check_kinds<'a>(
    config: &DpoConfig,
    pairs: impl Iterator<Item = &'a PreferencePair>,
) -> Result<(), DpoError> {
    if config.kind_weights.is_empty() {
        return Ok(());
    }
    let kinds: BTreeSet<&CompletionKind> = pairs.map(|pair| &pair.kind).collect();
    match config.kind_weights.keys().find(|kind| !kinds.contains(kind)) {
        Some(kind) if !kinds.is_empty() => {
            let kinds = kinds.into_iter().cloned().collect();
            Err(DpoError::UnknownKind { kind: kind.clone(), kinds })
        }
        _ => Ok(()),
    }
}
