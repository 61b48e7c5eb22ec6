//! Kinds of errors that a text model injects, and the draw of one for each answer.

mod content;
mod weights;

use std::fmt;

use bpo_pairs::lower_words;
use serde::{Deserialize, Serialize};

pub use weights::KindWeights;

/// The kind of error that a text model is asked to inject into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// An object that is not in the image is added.
    ObjectAdded,
    /// An object of the answer is left out.
    ObjectRemoved,
    /// An object becomes another object.
    ObjectSwapped,
    /// A property of an object changes: color, material, size, shape, state or action.
    Attribute,
    /// The number of objects changes.
    Count,
    /// The position of an object, or its relation to another object, changes.
    Position,
    /// A text or number that can be read in the image changes.
    Text,
    /// Any errors, with the prompts of the authors: [`PromptForm`](crate::PromptForm).
    Free,
}

/// Minimum number of words of an answer to which an object can be added.
const WORDS_TO_ADD: usize = 3;
/// Minimum number of words of an answer from which an object can be removed.
const WORDS_TO_REMOVE: usize = 6;

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::ObjectAdded,
        Self::ObjectRemoved,
        Self::ObjectSwapped,
        Self::Attribute,
        Self::Count,
        Self::Position,
        Self::Text,
        Self::Free,
    ];

    /// Returns the name in settings and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ObjectAdded => "object-added",
            Self::ObjectRemoved => "object-removed",
            Self::ObjectSwapped => "object-swapped",
            Self::Attribute => "attribute",
            Self::Count => "count",
            Self::Position => "position",
            Self::Text => "text",
            Self::Free => "free",
        }
    }

    /// Returns whether an answer has what an error of this kind changes.
    ///
    /// The text decides: a count needs a number, a position a word such as "left", a text a number,
    /// a quotation or a word in capitals, and the removal of an object several words. Position
    /// words and number words are English; digits of all scripts are found.
    ///
    /// ```
    /// use bpo_inject::ErrorKind;
    ///
    /// assert!(ErrorKind::Count.fits("There are two cups."));
    /// assert!(!ErrorKind::Count.fits("The cup is red."));
    /// ```
    pub fn fits(self, answer: &str) -> bool {
        let words = || lower_words(answer);
        match self {
            Self::ObjectAdded => words().len() >= WORDS_TO_ADD,
            Self::ObjectRemoved => words().len() >= WORDS_TO_REMOVE,
            Self::ObjectSwapped | Self::Attribute => words().iter().any(|word| content::may_be_named(word)),
            Self::Count => !content::numbers(answer).is_empty(),
            Self::Position => !content::positions(answer).is_empty(),
            Self::Text => !content::readable(answer).is_empty(),
            Self::Free => true,
        }
    }

    /// Returns whether a rewrite of `answer` can have an error of this kind: other numbers for a
    /// count, other position words for a position, another readable text for a text, more words for
    /// an added object and fewer for a removed one. Rewrites of other kinds are not examined.
    pub fn is_in(self, rewrite: &str, answer: &str) -> bool {
        let (new, old) = (lower_words(rewrite).len(), lower_words(answer).len());
        match self {
            Self::ObjectAdded => new > old,
            Self::ObjectRemoved => new < old,
            Self::Count => content::numbers(rewrite) != content::numbers(answer),
            Self::Position => content::positions(rewrite) != content::positions(answer),
            Self::Text => content::readable(rewrite) != content::readable(answer),
            Self::ObjectSwapped | Self::Attribute | Self::Free => true,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(answer: &str) -> Vec<&'static str> {
        ErrorKind::ALL.into_iter().filter(|kind| kind.fits(answer)).map(ErrorKind::as_str).collect()
    }

    #[test]
    fn kinds_fit_the_content_of_the_answer() {
        assert_eq!(fitting("Yes."), ["free"]);
        assert_eq!(fitting("24."), ["count", "text", "free"]);
        assert_eq!(fitting("Red"), ["object-swapped", "attribute", "free"]);
        assert_eq!(
            fitting("A cat sits."),
            ["object-added", "object-swapped", "attribute", "free"],
            "no number, place or text"
        );
        assert_eq!(
            fitting("Two cups stand to the left of a sign that says \"STOP\"."),
            ErrorKind::ALL.map(ErrorKind::as_str)
        );
        assert_eq!(
            fitting("图中有3只猫"),
            ["object-added", "object-removed", "object-swapped", "attribute", "count", "text", "free"]
        );
    }

    #[test]
    fn a_rewrite_without_its_error_is_found() {
        let answer = "There are two cups on the left.";
        let cases = [
            (ErrorKind::Count, "There are three cups on the left.", "There are two mugs on the left."),
            (ErrorKind::Position, "There are two cups on the right.", "There are two mugs on the left."),
            (
                ErrorKind::ObjectAdded,
                "There are two cups and a jug on the left.",
                "There are two jugs on the left.",
            ),
            (ErrorKind::ObjectRemoved, "There are two on the left.", "There are two jugs on the left."),
            (ErrorKind::Text, "There are 2 cups on the left.", "There are two jugs on the left."),
        ];
        for (kind, with, without) in cases {
            assert!(kind.is_in(with, answer), "{kind}: {with}");
            assert!(!kind.is_in(without, answer), "{kind}: {without}");
        }
        assert!(ErrorKind::Free.is_in("anything", answer));
    }

    #[test]
    fn names_are_those_of_serde() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }
}
