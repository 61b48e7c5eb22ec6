//! Errors of scoring and of reading files.

use std::io;
use std::path::PathBuf;

use bpo_pairs::files::FileError;
use bpo_pairs::{OverLimit, PairsError, Untrusted, UntrustedPath};

use crate::grading_error::GradingError;
use crate::pairing::QuestionMismatch;
use crate::words_error::WordsError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file could not be opened or read.
    #[error("cannot read {}", UntrustedPath(path))]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is not a regular file (a device, a FIFO or a directory), is too large, or is not
    /// text.
    #[error(transparent)]
    File(FileError),
    /// A file of records is malformed. The message names file, record, line and column.
    #[error(transparent)]
    Records(Box<PairsError>),
    /// A JSON file is malformed.
    #[error("{}", UntrustedPath(path))]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// The error of the JSON parser, with line and column.
        source: serde_json::Error,
    },
    /// A record has none of the keys for a required value.
    #[error("{}: record {record}: none of the keys {}", UntrustedPath(path), keys.join(", "))]
    NoKey {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The accepted keys.
        keys: &'static [&'static str],
    },
    /// All answers of a file are empty.
    #[error("{}: the answers of all {records} records are empty", UntrustedPath(path))]
    NoAnswers {
        /// Path of the file.
        path: PathBuf,
        /// Number of records.
        records: usize,
    },
    /// An answer is no string.
    #[error("{}: record {record}: {key} is {found}; expected a string", UntrustedPath(path))]
    NoText {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// Key of the answer.
        key: &'static str,
        /// The JSON type that was found.
        found: &'static str,
    },
    /// A record has the question in place of the answer.
    #[error(
        "{}: record {record}: the text is the question, and there is no answer under answer, response, caption or output",
        UntrustedPath(path)
    )]
    OnlyQuestion {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
    },
    /// A record has two different answers under two keys. One may be the annotated answer.
    #[error(
        "{}: record {record}: {first} and {second} are different answers; keep only the model's, under one of these keys",
        UntrustedPath(path)
    )]
    TwoAnswers {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The key with higher priority.
        first: &'static str,
        /// The other key.
        second: &'static str,
    },
    /// A COCO file of a kind that does not list the objects of an image.
    #[error("{}: {}; use COCO's instances_*.json and captions_*.json", UntrustedPath(path), Untrusted(found))]
    CocoKind {
        /// Path of the file.
        path: PathBuf,
        /// Description of the content.
        found: String,
    },
    /// A COCO file of captions was read without a table of objects.
    #[error("{}: captions need a table of objects and synonyms (--objects FILE)", UntrustedPath(path))]
    CaptionsNeedTable {
        /// Path of the file.
        path: PathBuf,
    },
    /// A table of objects is empty.
    #[error(
        "{}: no object in the file; expected one object per line, followed by its synonyms, separated by commas",
        UntrustedPath(path)
    )]
    NoObjects {
        /// Path of the file.
        path: PathBuf,
    },
    /// No object of the ground truth is in the table, so every mention would count as a
    /// hallucination.
    #[error(
        "the table of objects has none of the objects in the ground truth ({}); use the same names in both",
        joined(examples)
    )]
    UnknownObjects {
        /// Some objects of the ground truth.
        examples: Vec<String>,
    },
    /// An annotation of a COCO file refers to an image or a category that the file does not have.
    #[error(
        "{}: annotation {record} refers to {what} {id}, which the file does not have",
        UntrustedPath(path)
    )]
    NoSuchId {
        /// Path of the file.
        path: PathBuf,
        /// Number of the annotation, from 1.
        record: usize,
        /// `image` or `category`.
        what: &'static str,
        /// The id that is missing.
        id: u64,
    },
    /// A word is a synonym of two objects.
    #[error("{:?} is a synonym of both {:?} and {:?}", Untrusted(word), Untrusted(first), Untrusted(second))]
    Ambiguous {
        /// The word.
        word: String,
        /// The first object.
        first: String,
        /// The second object.
        second: String,
    },
    /// The label of a question is neither yes nor no.
    #[error(
        "{}: record {record}: the label is {:?}; expected \"yes\" or \"no\"",
        UntrustedPath(path),
        Untrusted(found)
    )]
    Label {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The label.
        found: String,
    },
    /// A question has no label.
    #[error("{}: record {record}: no label; expected {expected}", UntrustedPath(path))]
    NoLabel {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The label that is needed.
        expected: &'static str,
    },
    /// The objects or nouns of a record are no list of names.
    #[error(
        "{}: record {record}: {key} has {found}; expected a list of names, such as [\"dog\", \"cup\"]",
        UntrustedPath(path)
    )]
    NoNames {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// Key of the names.
        key: &'static str,
        /// The JSON type that was found.
        found: &'static str,
    },
    /// Only some answers have a score, or a score is no number.
    #[error(
        "{}: record {record}: {found}; expected a number under score in every answer, or in none",
        UntrustedPath(path)
    )]
    NoScore {
        /// Path of the file of answers.
        path: PathBuf,
        /// Number of the answer, from 1.
        record: usize,
        /// What was found.
        found: &'static str,
    },
    /// Scores were to be read by their first word.
    #[error(
        "{}: the answers are numbers under score, so reading them by their first word (--first-word) has no effect",
        UntrustedPath(path)
    )]
    FirstWordOfScore {
        /// Path of the file of answers.
        path: PathBuf,
    },
    /// The type of an annotation is none of AMBER's.
    #[error(
        "{}: record {record}: the type is {:?}; expected generative, discriminative-hallucination, \
         discriminative-attribute-state, discriminative-attribute-number, discriminative-attribute-action or \
         discriminative-relation, as in AMBER's annotations.json",
        UntrustedPath(path),
        Untrusted(found)
    )]
    AmberType {
        /// Path of the file of annotations.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The type.
        found: String,
    },
    /// A question of AMBER has no annotation.
    #[error(
        "{}: record {record}: {} has no annotation with the id {:?}; both files must be of AMBER",
        UntrustedPath(path),
        UntrustedPath(annotations),
        Untrusted(id)
    )]
    NoAnnotation {
        /// Path of the file of questions.
        path: PathBuf,
        /// Number of the question, from 1.
        record: usize,
        /// Id of the question.
        id: String,
        /// Path of the file of annotations.
        annotations: PathBuf,
    },
    /// Two questions or two answers have the same id.
    #[error(
        "{}: record {record}: the id {:?} repeats that of an earlier record",
        UntrustedPath(path),
        Untrusted(id)
    )]
    Repeated {
        /// Path of the file.
        path: PathBuf,
        /// Number of the second record with the id, from 1.
        record: usize,
        /// The id.
        id: String,
    },
    /// Some records have an id and others do not.
    #[error(
        "{}: record {record}: no question_id or id, which {with} of {records} records have; add it to all records or remove it from all",
        UntrustedPath(path)
    )]
    NoId {
        /// Path of the file.
        path: PathBuf,
        /// Number of the first record without an id, from 1.
        record: usize,
        /// Number of records with an id.
        with: usize,
        /// Number of records.
        records: usize,
    },
    /// An answer belongs to another question than its id or position says.
    #[error(
        "{}: record {record}: {difference}; the answers belong to other questions or are in another order",
        UntrustedPath(path)
    )]
    OtherQuestion {
        /// Path of the file of answers.
        path: PathBuf,
        /// Number of the answer, from 1.
        record: usize,
        /// The mismatch.
        difference: Box<QuestionMismatch>,
    },
    /// The ids of questions and answers differ.
    #[error(
        "{} and {}: {} questions have no answer{}, and {} answers have no question{}: \
         every question must have an answer, and its id must be the same in both files",
        UntrustedPath(questions), UntrustedPath(answers), missing.len(), some(missing), unasked.len(), some(unasked)
    )]
    Uncovered {
        /// Path of the file of questions.
        questions: PathBuf,
        /// Path of the file of answers.
        answers: PathBuf,
        /// Ids of questions without an answer.
        missing: Vec<String>,
        /// Ids of answers without a question.
        unasked: Vec<String>,
    },
    /// No answer is read as yes or no.
    #[error(
        "{}: none of {answers} answers is read as yes or no; the first is {:?}{}",
        UntrustedPath(path),
        Untrusted(first),
        if *exact { "; --first-word reads answers by their first word" } else { "" }
    )]
    Unclear {
        /// Path of the file of answers.
        path: PathBuf,
        /// Number of answers.
        answers: usize,
        /// Beginning of the first answer.
        first: String,
        /// Whether only exact answers are read.
        exact: bool,
    },
    /// The numbers of questions and answers without ids differ.
    #[error(
        "{questions} questions but {answers} answers without question_id; expected one answer per question, in order"
    )]
    Count {
        /// Number of questions.
        questions: usize,
        /// Number of answers.
        answers: usize,
    },
    /// Two systems to compare have answers about different images.
    #[error(
        "cannot compare two systems with {before} and {after} answers: both must answer the same questions about the same \
         images, and {} differs",
        Untrusted(first)
    )]
    Unpaired {
        /// Number of answers of the first system.
        before: usize,
        /// Number of answers of the second system.
        after: usize,
        /// The first image that they do not share.
        first: String,
    },
    /// Two files of answers cannot be compared.
    #[error("cannot compare {} with {}", UntrustedPath(other), UntrustedPath(first))]
    Files {
        /// The file that others are compared with.
        first: PathBuf,
        /// The other file.
        other: PathBuf,
        /// The difference.
        source: Box<EvalError>,
    },
    /// Answers that a judge grades, or their grades, cannot be used.
    #[error(transparent)]
    Grading(#[from] GradingError),
    /// The words of AMBER or word vectors cannot be used.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// A setting exceeds its limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// There is nothing to score.
    #[error("nothing to score: {}", Untrusted(why))]
    Nothing {
        /// The reason.
        why: String,
    },
}

/// The first names of a list, in brackets.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    match names {
        [] => String::new(),
        names => format!(" ({}{more})", joined(&names[..names.len().min(SHOWN)])),
    }
}

fn joined(names: &[String]) -> String {
    names.iter().map(|name| Untrusted(name).to_string()).collect::<Vec<_>>().join(", ")
}

impl From<FileError> for EvalError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source, .. } => Self::Read { path, source },
            error => Self::File(error),
        }
    }
}

impl From<PairsError> for EvalError {
    fn from(error: PairsError) -> Self {
        Self::Records(Box::new(error))
    }
}
