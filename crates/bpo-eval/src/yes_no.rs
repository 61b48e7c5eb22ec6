//! Readings of yes-or-no answers.

use crate::pope::PopeLabel;

/// How a yes-or-no answer is read by [`AmberItem`](crate::AmberItem).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum YesNoReading {
    /// By the rule of the published script.
    #[default]
    AsPublished,
    /// By the first word: yes or no in any case, after any signs. `No, it is not.` and `**No**` are
    /// a no.
    FirstWord,
}

/// The answer that the first word of a text gives.
pub(crate) fn first_word(text: &str) -> Option<PopeLabel> {
    let word = text.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty())?;
    match word.to_lowercase().as_str() {
        "yes" => Some(PopeLabel::Yes),
        "no" => Some(PopeLabel::No),
        _ => None,
    }
}
