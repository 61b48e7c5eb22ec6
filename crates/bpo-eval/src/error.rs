//! What can go wrong when answers are scored.

use std::io;
use std::path::PathBuf;

use bpo_pairs::PairsError;

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
    /// An answer is neither text nor a number.
    #[error("{}: record {record}: {key} is {found}, not the text of an answer", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
        /// The key of the answer.
        key: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A record has the question where its answer should be.
    #[error(
        "{}: record {record}: the text is the question, and there is no answer under answer, response, caption or output",
        path.display()
    )]
    OnlyQuestion {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
    },
    /// A record has two answers under two keys, and they differ: one may be the right answer.
    #[error(
        "{}: record {record}: {first} and {second} are different answers; keep only the model's, under one of these keys",
        path.display()
    )]
    TwoAnswers {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
        /// The key that would be read.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A file of COCO is of a kind that does not say which objects an image shows.
    #[error("{}: {found}; what images show is in instances_*.json and captions_*.json of COCO", path.display())]
    CocoKind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// Captions say which objects an image shows only to those who know words for objects.
    #[error(
        "{}: captions name objects by many words: give a table of objects and synonyms (--objects FILE)",
        path.display()
    )]
    CaptionsNeedTable {
        /// The file.
        path: PathBuf,
    },
    /// A table of objects has none.
    #[error("{}: no object in the file; expected an object a line, with its synonyms behind it, and commas between", path.display())]
    NoObjects {
        /// The file.
        path: PathBuf,
    },
    /// No object of the truth is in the table, so that every mention would count as wrong.
    #[error("the table of objects has none of those that images show ({}); they must be named alike", examples.join(", "))]
    UnknownObjects {
        /// Some of the objects that images show.
        examples: Vec<String>,
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
    /// A question has no label, so that no answer to it is right or wrong.
    #[error(
        "{}: record {record}: no label; expected \"label\": \"yes\" or \"no\", as POPE's coco_pope_*.json have it",
        path.display()
    )]
    NoLabel {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
    },
    /// Two questions, or two answers, have one id.
    #[error("{}: record {record}: the id {id:?} was there before", path.display())]
    Repeated {
        /// The file.
        path: PathBuf,
        /// The second record with the id, from 1.
        record: usize,
        /// The id.
        id: String,
    },
    /// Some records have an id and some do not.
    #[error(
        "{}: record {record}: no question_id or id, which {with} of {records} records have: give it to all or to none",
        path.display()
    )]
    NoId {
        /// The file.
        path: PathBuf,
        /// The first record without an id, from 1.
        record: usize,
        /// How many have one.
        with: usize,
        /// How many there are.
        records: usize,
    },
    /// An answer is to another question than its id or place says.
    #[error("{}: record {record}: {difference}: the answers are to other questions, or in another order", path.display())]
    OtherQuestion {
        /// The file of answers.
        path: PathBuf,
        /// The answer, from 1.
        record: usize,
        /// What differs.
        difference: Box<Difference>,
    },
    /// Ids of questions and answers are not the same.
    #[error(
        "{} and {}: {} questions have no answer{}, and {} answers have no question{}: \
         every question must have an answer, and its id must be the same in both files",
        questions.display(), answers.display(), missing.len(), some(missing), unasked.len(), some(unasked)
    )]
    Uncovered {
        /// The file of questions.
        questions: PathBuf,
        /// The file of answers.
        answers: PathBuf,
        /// Ids of questions without an answer.
        missing: Vec<String>,
        /// Ids of answers without a question.
        unasked: Vec<String>,
    },
    /// No answer says yes or no.
    #[error(
        "{}: none of {answers} answers says yes or no; the first is {first:?}",
        path.display()
    )]
    Unclear {
        /// The file of answers.
        path: PathBuf,
        /// How many answers.
        answers: usize,
        /// The first answer, its beginning.
        first: String,
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

/// How an answer differs from the question that its id or place says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its {what} is {found:?}, but that of the question in record {question} of {} is {expected:?}",
    questions.display()
)]
#[non_exhaustive]
pub struct Difference {
    /// What differs: `image` or `question`.
    pub what: &'static str,
    /// What the answer has.
    pub found: String,
    /// The file of questions.
    pub questions: PathBuf,
    /// The question, from 1.
    pub question: usize,
    /// What the question has.
    pub expected: String,
}

/// A few of many names in brackets.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    match names {
        [] => String::new(),
        names => format!(" ({}{more})", names[..names.len().min(SHOWN)].join(", ")),
    }
}

impl From<PairsError> for EvalError {
    fn from(error: PairsError) -> Self {
        Self::Records(Box::new(error))
    }
}
