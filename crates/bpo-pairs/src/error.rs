//! Errors of preference data.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::FileError;
use crate::serde_words::Words;
use crate::untrusted::UntrustedPath;

/// Everything that can be wrong with preference data and its files.
///
/// Records and lines are counted from 1, as editors count them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairsError {
    /// The file system refused.
    #[error("cannot {action} {}", UntrustedPath(path))]
    Io {
        /// What was tried: `open`, `read`, `write`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file cannot be opened, read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A record is longer than any real one.
    #[error(
        "{}: record {record}, line {line}: longer than {limit} bytes, the limit for a record",
        UntrustedPath(path)
    )]
    RecordTooLarge {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
        /// The line in which it goes over the limit, from 1.
        line: usize,
        /// The limit in bytes, see [`Limits::record_bytes`](crate::Limits::record_bytes).
        limit: usize,
    },
    /// A file has not a single byte of content.
    #[error("{} is empty: expected {expected}", UntrustedPath(path))]
    Empty {
        /// The file.
        path: PathBuf,
        /// What should have been in it.
        expected: &'static str,
    },
    /// A file is not the JSON that it should be: cut off, malformed, or of another shape.
    #[error("{}: record {record}, line {line}, column {column}: {problem}", UntrustedPath(path))]
    Json {
        /// The file.
        path: PathBuf,
        /// The record that was being read, from 1.
        record: usize,
        /// Line of the file, from 1.
        line: usize,
        /// Column of the line, from 1; 0 before its first character.
        column: usize,
        /// What the parser says, with the key where it is one of a value.
        problem: String,
    },
    /// A value cannot be written as JSON.
    #[error("{}: record {record} cannot be written as JSON", UntrustedPath(path))]
    Encode {
        /// The file.
        path: PathBuf,
        /// Id of the record.
        record: String,
        /// What the writer says.
        source: serde_json::Error,
    },
    /// JSON knows no infinity and no NaN.
    #[error("{}: record {record}: score {score} is not a finite number", UntrustedPath(path))]
    Score {
        /// The file.
        path: PathBuf,
        /// Id of the record.
        record: String,
        /// The score.
        score: f64,
    },
    /// Two records of a file have the same id.
    #[error("{}: line {line}: id {id:?} was used before", UntrustedPath(path))]
    DuplicateId {
        /// The file.
        path: PathBuf,
        /// Line of the second use.
        line: usize,
        /// The id.
        id: String,
    },
    /// Another process appends to the same file.
    #[error("{} is being written by another process", UntrustedPath(path))]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl PairsError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A parser error: one of reading stays one of reading, any other tells its place.
    ///
    /// `key` is where in the record the parser was; empty where that is not known.
    pub(crate) fn json(
        path: &Path,
        record: usize,
        line: usize,
        key: &str,
        source: serde_json::Error,
    ) -> Self {
        let path = path.to_owned();
        if source.is_io() {
            return Self::Io { action: "read", path, source: source.into() };
        }
        let column = source.column();
        let problem = problem(key, &source);
        Self::Json { path, record, line, column, problem }
    }
}

/// The parser's message without its place, which the error has already, and in the words of JSON.
fn problem(key: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = Words::Json.message(text.strip_suffix(&place).unwrap_or(&text));
    let whole = key.is_empty() || key == "." || !error.is_data();
    if whole { text } else { format!("`{key}`: {text}") }
}

/// An error with all its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // some errors repeat their cause in their own message
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
