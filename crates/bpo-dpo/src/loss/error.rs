//! Settings of losses that cannot be used.

/// A setting of a loss or of an [`Objective`](super::Objective) that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// A value outside its range.
    #[error("`{key}` must be {expected}, not {found}")]
    Setting {
        /// Name of the setting, for instance `loss.label_smoothing`.
        key: &'static str,
        /// The values that are allowed.
        expected: &'static str,
        /// The value that was found.
        found: String,
    },
    /// Two settings that exclude each other.
    #[error("`{key}` does not go with {with}: {reason}")]
    Conflict {
        /// Name of the setting.
        key: &'static str,
        /// The other setting, with its value.
        with: String,
        /// Why they exclude each other.
        reason: &'static str,
    },
}

impl LossError {
    /// Checks a number: [`LossError::Setting`] unless `holds`.
    pub(super) fn check(
        key: &'static str,
        holds: bool,
        expected: &'static str,
        found: f64,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Setting { key, expected, found: found.to_string() }) }
    }
}
