//! A reference that follows the policy.

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::trainable::{replace_values, trainable_values, unlike};

/// How a [frozen](super::Reference::Frozen) reference follows the policy:
///
/// ```text
/// ref <- mixup * policy + (1 - mixup) * ref    after every `every` steps
/// ```
///
/// Gorbatovski et al., "Learn Your Reference Model for Real Good Alignment" (arXiv 2404.09656): `mixup` 1 is its hard update,
/// less its soft one. Parameters that are not trained stay as they are. TRL's `sync_ref_model`, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MovingReference {
    /// Steps between updates. Default: 512 (TRL's `ref_model_sync_steps`).
    pub every: usize,
    /// How much of the policy comes in. Default: 0.6 (TRL's `ref_model_mixup_alpha`).
    pub mixup: f64,
}

impl Default for MovingReference {
    fn default() -> Self {
        Self { every: 512, mixup: 0.6 }
    }
}

impl MovingReference {
    /// Moves by `mixup` after every `every` steps.
    pub fn new(every: usize, mixup: f64) -> Self {
        Self { every, mixup }
    }
}

/// Checks that a reference can follow a policy: that it has all that is trained, in the same shapes.
///
/// # Errors
/// [`DpoError::ReferenceUnlike`].
pub(crate) fn check_follows<P: Module>(reference: &P, policy: &P) -> Result<(), DpoError> {
    match unlike(reference, policy) {
        mismatch if mismatch.is_empty() => Ok(()),
        mismatch => Err(DpoError::ReferenceUnlike { mismatch }),
    }
}

/// Moves the reference's parameters towards those of the policy that are trained. It must [be able to](check_follows).
pub(crate) fn follow<P: Module>(reference: P, policy: &P, mixup: f64) -> P {
    let mut trained = trainable_values(policy);
    replace_values(reference, |path, old| {
        let policy = trained.remove(path)?.cast(old.dtype());
        Some(policy.mul_scalar(mixup) + old.mul_scalar(1.0 - mixup))
    })
}
