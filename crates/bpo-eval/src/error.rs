//! What can go wrong when answers are scored.

use std::io;
use std::path::PathBuf;

use bpo_pairs::error::PairsError;

/// Why answers could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of records is not what it should be; the message has file, record, line and column.
    #[error(transparent)]
    Records(Box<PairsError>),
    /// A file that holds one JSON object is not what it should be.
    #[error("{}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A record lacks what it is needed for.
    #[error("{}: record {record}: none of the keys {}", path.display(), keys.join(", "))]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
        /// Any of these would do.
        keys: &'static [&'static str],
    },
    /// An annotation of a COCO file is of an image or a category that the file does not have.
    #[error("{}: annotation {record} is of {what} {id}, which the file does not have", path.display())]
    NoSuchId {
        /// The file.
        path: PathBuf,
        /// The annotation, from 1.
        record: usize,
        /// `image` or `category`.
        what: &'static str,
        /// Its id.
        id: u64,
    },
    /// A synonym stands for two objects.
    #[error("{word:?} is a word for {first:?} and for {second:?}")]
    Ambiguous {
        /// The synonym.
        word: String,
        /// The object that had it first.
        first: String,
        /// The other.
        second: String,
    },
    /// A label of a question is neither yes nor no.
    #[error("{}: record {record}: the label is {found:?}, not \"yes\" or \"no\"", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
        /// What it is.
        found: String,
    },
    /// A question is answered twice.
    #[error("{}: record {record}: question {id:?} is answered already", path.display())]
    Repeated {
        /// The file.
        path: PathBuf,
        /// The second answer, from 1.
        record: usize,
        /// The question.
        id: String,
    },
    /// Questions and answers that do not fit together.
    #[error(
        "{questions} questions and {answers} answers without question_id: there must be one for each, in order"
    )]
    Count {
        /// How many questions.
        questions: usize,
        /// How many answers.
        answers: usize,
    },
    /// Two systems that are compared were not asked the same: other numbers of items, or other images.
    #[error("the systems that are compared have {before} and {after} items, or these are of other images")]
    Unpaired {
        /// Items of the first.
        before: usize,
        /// Items of the second.
        after: usize,
    },
    /// Nothing is left to score.
    #[error("nothing to score: {why}")]
    Nothing {
        /// Why not.
        why: String,
    },
}

impl From<PairsError> for EvalError {
    fn from(error: PairsError) -> Self {
        Self::Records(Box::new(error))
    }
}
