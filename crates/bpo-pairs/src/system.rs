//! Warning about system texts that a model does not support.

/// Logs a warning with the number of omitted system texts, if there are any.
///
/// `what` is the plural noun of the items that hold them: `samples`, `pairs`.
pub fn warn_left_out<'a>(what: &str, systems: impl IntoIterator<Item = &'a Option<String>>) {
    let count = systems.into_iter().flatten().count();
    if count > 0 {
        tracing::warn!(
            "the system text of {count} {what} is left out: the model's chat template has no place for one"
        );
    }
}
