//! System texts for models that take none.

/// Warns that system texts are left out, with their number, where there are any.
///
/// `what` they belong to is in the plural: `samples`, `pairs`.
pub fn warn_left_out<'a>(what: &str, systems: impl IntoIterator<Item = &'a Option<String>>) {
    let count = systems.into_iter().flatten().count();
    if count > 0 {
        tracing::warn!(
            "the system text of {count} {what} is left out: the model's chat template has no place for one"
        );
    }
}
