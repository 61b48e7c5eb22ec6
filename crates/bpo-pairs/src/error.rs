//! Errors of reading, making and writing preference data.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::FileError;
use crate::format::FileKind;
use crate::serde_message::MessageTerms;
use crate::skipped::SkipCounts;
use crate::untrusted::{Untrusted, UntrustedPath, escape_controls};

/// An error of reading, making or writing preference data.
///
/// Records, lines and columns are numbered from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairsError {
    /// A file could not be opened, read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A record exceeds the size limit.
    #[error(
        "{}: record {record}, line {line}: longer than {limit} bytes, the limit for a record",
        UntrustedPath(path)
    )]
    RecordTooLarge {
        /// The file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// Number of the line in which the record exceeds the limit, from 1.
        line: usize,
        /// The limit in bytes; see [`Limits::record_bytes`](crate::Limits::record_bytes).
        limit: usize,
    },
    /// The first records of a file have the keys of no known format.
    #[error(
        "{}: the format is not known from the keys of its records ({}): {}name it with `--format`",
        UntrustedPath(path),
        Untrusted(keys),
        correct(misspelt)
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The keys of the first record, or a description of it.
        keys: String,
        /// A key of this record that resembles a known one, and the latter.
        misspelt: Option<(String, &'static str)>,
    },
    /// A file holds something else that bpo reads or writes than a command needs.
    #[error("{}: expected {expected}, found {found}: {}", UntrustedPath(path), found.remedy())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What the command needs.
        expected: &'static str,
        /// What the file holds.
        found: FileKind,
    },
    /// No record of a file could be converted.
    #[error("{}: no record fits ({skipped})", UntrustedPath(path))]
    NothingConverted {
        /// The input.
        path: PathBuf,
        /// Number of skipped records and pairs, by reason.
        skipped: SkipCounts,
    },
    /// A Parquet file cannot be read or written.
    #[error("{}: {}", UntrustedPath(path), Untrusted(problem))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The program was built without the feature that a file needs.
    #[error("{}: {what} needs a program built with `--features parquet`", UntrustedPath(path))]
    NotBuilt {
        /// The file.
        path: PathBuf,
        /// What the file is.
        what: &'static str,
    },
    /// A file is empty or holds only white space.
    #[error("{} is empty: expected {expected}", UntrustedPath(path))]
    Empty {
        /// The file.
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
    },
    /// A file holds invalid JSON, is truncated, or holds JSON of another form.
    #[error("{}: record {record}, line {line}, column {column}: {}", UntrustedPath(path), Untrusted(problem))]
    Json {
        /// The file.
        path: PathBuf,
        /// Number of the record that was being read, from 1.
        record: usize,
        /// Number of the line, from 1.
        line: usize,
        /// Column in the line, from 1; 0 if the error is before the first character.
        column: usize,
        /// The message of the parser, with the key of the value if it is known.
        problem: String,
    },
    /// A record could not be serialized.
    #[error("{}: record {} cannot be written as JSON", UntrustedPath(path), Untrusted(record))]
    Encode {
        /// The file.
        path: PathBuf,
        /// Id of the record.
        record: String,
        /// The error of the serializer.
        source: serde_json::Error,
    },
    /// A score is infinite or NaN, which JSON cannot represent.
    #[error("{}: record {}: score {score} is not a finite number", UntrustedPath(path), Untrusted(record))]
    Score {
        /// The file.
        path: PathBuf,
        /// Id of the record.
        record: String,
        /// The score.
        score: f64,
    },
    /// Two records of a file have the same id.
    #[error("{}: line {line}: id {:?} was used before", UntrustedPath(path), Untrusted(id))]
    DuplicateId {
        /// The file.
        path: PathBuf,
        /// Number of the line of the second record, from 1.
        line: usize,
        /// The repeated id.
        id: String,
    },
}

impl PairsError {
    /// Returns a function for `map_err` that makes a [`FileError::Io`].
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File(FileError::Io { action, path, source })
    }

    /// Converts an error of the parser. An error of the underlying reader becomes
    /// [`FileError::Io`]; any other error becomes [`Json`](Self::Json).
    ///
    /// `key` is the path of the value in the record, or empty if it is unknown.
    pub(crate) fn json(
        path: &Path,
        record: usize,
        line: usize,
        key: &str,
        source: serde_json::Error,
    ) -> Self {
        let path = path.to_owned();
        if source.is_io() {
            return Self::io("read", &path)(source.into());
        }
        let column = source.column();
        let problem = problem(key, &source);
        Self::Json { path, record, line, column, problem }
    }
}

/// Returns the message of the parser in JSON terms, without the position, which the error already
/// holds.
fn problem(key: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = MessageTerms::Json.message(text.strip_suffix(&place).unwrap_or(&text));
    if error.is_eof() {
        return format!("{text}: expected a JSON array, or one whole record per line");
    }
    let whole = key.is_empty() || key == "." || !error.is_data();
    if whole { text } else { format!("`{key}`: {text}") }
}

/// Formats an error and all its sources, separated by colons. Characters that control a terminal
/// are escaped in all of them, because sources of other crates repeat raw text; line feeds are
/// kept.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = escape_controls(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = escape_controls(&error.to_string());
        // some errors repeat their cause in their own message
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Says which key a misspelt one may be.
fn correct(misspelt: &Option<(String, &'static str)>) -> String {
    match misspelt {
        Some((key, meant)) => format!("did you mean `{meant}` by `{}`? Else ", Untrusted(key)),
        None => String::new(),
    }
}
