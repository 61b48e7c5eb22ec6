//! A reference that follows the policy.

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::trainable::{replace_values, trainable_values, unlike};

/// Lets a [frozen](super::Reference::Frozen) reference follow the policy:
///
/// ```text
/// ref <- mixup_alpha * policy + (1 - mixup_alpha) * ref    after every `steps` steps
/// ```
///
/// Gorbatovski et al., "Learn Your Reference Model for Real Good Alignment" (arXiv 2404.09656):
/// `mixup_alpha` 1 is its hard update, a smaller one its soft update. Parameters that are not
/// trained stay as they are. TRL's `sync_ref_model`, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReferenceSync {
    /// Steps between updates. Default: 512 (TRL's `ref_model_sync_steps`).
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
    /// Updates by `mixup_alpha` after every `steps` steps.
    pub fn new(steps: usize, mixup_alpha: f64) -> Self {
        Self { steps, mixup_alpha }
    }
}

/// Checks that a reference can follow a policy: that it has all trained parameters, in the same
/// shapes.
///
/// # Errors
/// [`DpoError::ReferenceUnlike`].
pub(crate) fn check_follows<P: Module>(reference: &P, policy: &P) -> Result<(), DpoError> {
    match unlike(reference, policy) {
        mismatch if mismatch.is_empty() => Ok(()),
        mismatch => Err(DpoError::ReferenceUnlike { mismatch }),
    }
}

/// Moves the reference's parameters towards the trained ones of the policy. [`check_follows`] must
/// have accepted it.
pub(crate) fn follow<P: Module>(reference: P, policy: &P, mixup_alpha: f64) -> P {
    let mut trained = trainable_values(policy);
    replace_values(reference, |path, old| {
        let policy = trained.remove(path)?.cast(old.dtype());
        Some(policy.mul_scalar(mixup_alpha) + old.mul_scalar(1.0 - mixup_alpha))
    })
}
