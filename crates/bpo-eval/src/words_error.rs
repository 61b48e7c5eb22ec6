//! Errors of AMBER's words and of word vectors.

use std::path::PathBuf;

use bpo_pairs::{Untrusted, UntrustedPath};

/// Errors of the files that AMBER's generative task is scored with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WordsError {
    /// A file is not `relation.json`.
    #[error(
        "{}: expected related words: {{\"dog\": [\"puppy\"]}}, as in AMBER's relation.json",
        UntrustedPath(path)
    )]
    Relation {
        /// Path of the file.
        path: PathBuf,
        /// The error of the JSON parser, with line and column.
        source: serde_json::Error,
    },
    /// A word of an annotation has no related words.
    #[error(
        "{}: record {record}: {} does not have the word {:?}; both files must be of AMBER",
        UntrustedPath(path),
        UntrustedPath(relation),
        Untrusted(word)
    )]
    NotRelated {
        /// Path of the file of annotations.
        path: PathBuf,
        /// Number of the annotation, from 1.
        record: usize,
        /// The word.
        word: String,
        /// Path of the file of related words.
        relation: PathBuf,
    },
    /// A line is no word vector.
    #[error(
        "{}: line {line}: {found}; expected a word and its numbers, separated by spaces, as many in each line",
        UntrustedPath(path)
    )]
    Vector {
        /// Path of the file of vectors.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What was found.
        found: String,
    },
    /// A word has two vectors.
    #[error("{}: line {line}: the word {:?} has a vector above", UntrustedPath(path), Untrusted(word))]
    TwoVectors {
        /// Path of the file of vectors.
        path: PathBuf,
        /// Number of the second line, from 1.
        line: usize,
        /// The word.
        word: String,
    },
    /// No word has a vector.
    #[error(
        "{}: none of the words of {} has a vector; the file must have a line for each of them",
        UntrustedPath(path),
        UntrustedPath(relation)
    )]
    NoVectors {
        /// Path of the file of vectors.
        path: PathBuf,
        /// Path of the file of related words.
        relation: PathBuf,
    },
}
