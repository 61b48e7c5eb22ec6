//! Updates of a reference towards the policy.

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::trainable::{compare_trained, replace_values, trainable_values};

/// Updates of a [separate](super::Reference::Frozen) reference model towards the policy:
///
/// ```text
/// ref <- mixup_alpha * policy + (1 - mixup_alpha) * ref    after every `steps` steps
/// ```
///
/// Gorbatovski et al., "Learn Your Reference Model for Real Good Alignment" (arXiv 2404.09656):
/// `mixup_alpha` 1 is the hard update of the paper, a smaller value its soft update. Parameters
/// that are not trained do not change. This is `sync_ref_model` of TRL, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReferenceSync {
    /// Number of steps between updates. Default: 512 (TRL's `ref_model_sync_steps`).
    pub steps: usize,
    /// Weight of the policy. Default: 0.6 (TRL's `ref_model_mixup_alpha`).
    pub mixup_alpha: f64,
}

impl Default for ReferenceSync {
    fn default() -> Self {
        Self { steps: 512, mixup_alpha: 0.6 }
    }
}

impl ReferenceSync {
    /// Creates updates by `mixup_alpha` after every `steps` steps.
    pub fn new(steps: usize, mixup_alpha: f64) -> Self {
        Self { steps, mixup_alpha }
    }
}

/// Checks that a reference has all trained parameters of a policy, in the same shapes, so that it
/// can be updated.
///
/// # Errors
/// Returns [`DpoError::ReferenceUnlike`] with all differences.
pub(crate) fn check_follows<P: Module>(reference: &P, policy: &P) -> Result<(), DpoError> {
    match compare_trained(reference, policy) {
        mismatch if mismatch.is_empty() => Ok(()),
        mismatch => Err(DpoError::ReferenceUnlike { mismatch }),
    }
}

/// Moves the parameters of the reference towards the trained ones of the policy. The reference must
/// pass [`check_follows`].
pub(crate) fn follow<P: Module>(reference: P, policy: &P, mixup_alpha: f64) -> P {
    let mut trained = trainable_values(policy);
    replace_values(reference, |path, old| {
        let policy = trained.remove(path)?.cast(old.dtype());
        Some(policy.mul_scalar(mixup_alpha) + old.mul_scalar(1.0 - mixup_alpha))
    })
}
