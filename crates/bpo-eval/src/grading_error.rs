//! Errors of files with answers that a judge grades.

use std::path::PathBuf;

use bpo_pairs::{Untrusted, UntrustedPath};

/// Errors of the questions, answers and grades of MM-Vet and MMHal-Bench.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GradingError {
    /// A file is not `mm-vet.json`.
    #[error(
        "{}: expected the questions of MM-Vet: {{\"v1_0\": {{\"question\", \"answer\", \"capability\"}}}}, as in its \
         mm-vet.json",
        UntrustedPath(path)
    )]
    MmVetQuestions {
        /// Path of the file.
        path: PathBuf,
        /// The error of the JSON parser, with line and column.
        source: serde_json::Error,
    },
    /// A question of MM-Vet has an empty id.
    #[error("{}: the id of a question is empty; expected one such as \"v1_0\"", UntrustedPath(path))]
    EmptyId {
        /// Path of the file of questions.
        path: PathBuf,
    },
    /// A question of MM-Vet has no capability.
    #[error(
        "{}: the question {:?} has no capability; expected names such as \"ocr\" under capability",
        UntrustedPath(path),
        Untrusted(id)
    )]
    NoCapability {
        /// Path of the file of questions.
        path: PathBuf,
        /// Id of the question.
        id: String,
    },
    /// A file is no file of grades of MM-Vet's published script.
    #[error(
        "{}: expected the grades of MM-Vet's script: {{\"v1_0\": {{\"score\": [0.5]}}}}, as in its *-grade-*.json",
        UntrustedPath(path)
    )]
    MmVetGrades {
        /// Path of the file.
        path: PathBuf,
        /// The error of the JSON parser, with line and column.
        source: serde_json::Error,
    },
    /// A grade is outside of its scale.
    #[error(
        "{}: the question {:?} has the score {found}; expected a number from 0 to 1",
        UntrustedPath(path),
        Untrusted(id)
    )]
    Grade {
        /// Path of the file of grades.
        path: PathBuf,
        /// Id of the question.
        id: String,
        /// The grade.
        found: f64,
    },
    /// The grades of questions are of different numbers of runs.
    #[error(
        "{}: the question {:?} has {found} scores; expected {expected} (--runs N takes the first N of each question)",
        UntrustedPath(path),
        Untrusted(id)
    )]
    Runs {
        /// Path of the file of grades.
        path: PathBuf,
        /// Id of the question.
        id: String,
        /// Number of its grades.
        found: usize,
        /// Number of the runs to score, or of the grades of the first question.
        expected: usize,
    },
    /// The type of a question is none of MMHal-Bench's.
    #[error(
        "{}: record {record}: the question_type is {:?}; expected attribute, adversarial, comparison, counting, \
         relation, environment, holistic or other, as in MMHal-Bench's response_template.json",
        UntrustedPath(path),
        Untrusted(found)
    )]
    MmhalKind {
        /// Path of the file of questions.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The type.
        found: String,
    },
    /// Questions or replies without a type are not as many as eight types need.
    #[error(
        "{}: {found} records without a question_type; the types follow from their order, so their number must be a \
         multiple of 8 (96 in MMHal-Bench)",
        UntrustedPath(path)
    )]
    MmhalCount {
        /// Path of the file.
        path: PathBuf,
        /// Number of records.
        found: usize,
    },
    /// No question of MMHal-Bench's template has an answer.
    #[error(
        "{}: no model_answer has a text; fill in the answers of the model, or give this file as --questions and the \
         answers as --answers",
        UntrustedPath(path)
    )]
    Unanswered {
        /// Path of the file.
        path: PathBuf,
    },
    /// An answer is empty.
    #[error(
        "{}: record {record}: the answer is empty, so there is nothing to grade; if the model gave none, write a text such \
         as \"(no answer)\"",
        UntrustedPath(path)
    )]
    EmptyAnswer {
        /// Path of the file of answers.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
    },
    /// A value of a question is not of the right type.
    #[error("{}: record {record}: {key} is {found}; expected {expected}", UntrustedPath(path))]
    Value {
        /// Path of the file.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// Key of the value.
        key: &'static str,
        /// The JSON type that was found.
        found: &'static str,
        /// The valid values.
        expected: &'static str,
    },
    /// A record is no reply of a judge.
    #[error(
        "{}: record {record} is {found} without a reply; expected a text, or {{\"choices\": [{{\"message\": \
         {{\"content\"}}}}]}} as MMHal-Bench's eval_gpt4.py writes it",
        UntrustedPath(path)
    )]
    Reply {
        /// Path of the file of replies.
        path: PathBuf,
        /// Number of the record, from 1.
        record: usize,
        /// The JSON type that was found.
        found: &'static str,
    },
}
