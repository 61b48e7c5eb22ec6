//! Errors in the settings of losses.

/// An error in the settings of a loss or of an [`Objective`](super::Objective).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// A setting is outside its range.
    #[error("`{key}` must be {expected}, not {found}")]
    Setting {
        /// Name of the setting, for instance `loss.label_smoothing`.
        key: &'static str,
        /// The values that are allowed.
        expected: &'static str,
        /// The value that was found.
        found: String,
    },
    /// Two settings cannot be combined.
    #[error("`{key}` cannot be combined with {with}: {reason}")]
    Conflict {
        /// Name of the setting.
        key: &'static str,
        /// The other setting, with its value.
        with: String,
        /// The reason why they cannot be combined.
        reason: &'static str,
    },
}

impl LossError {
    /// Returns [`LossError::Setting`] unless `holds` is true.
    pub(super) fn check(
        key: &'static str,
        holds: bool,
        expected: &'static str,
        found: f64,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Setting { key, expected, found: found.to_string() }) }
    }
}
