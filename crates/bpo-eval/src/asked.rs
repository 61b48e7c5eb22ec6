//! Files of questions, and the answers to them.

use std::path::Path;

use bpo_pairs::format::FileKind;
use serde_json::{Map, Value};

use crate::answers::Scored;
use crate::error::EvalError;
use crate::pairing::{Files, Question, pair};
use crate::pope::PopeLabel;
use crate::records::{self, Answer};

/// A question with its label and its answer.
pub(crate) struct Answered<T> {
    pub question: Question,
    pub label: T,
    pub answer: Answer,
}

/// Questions, each with what is known of the correct answer.
pub(crate) struct Asked<T> {
    questions: Vec<Question>,
    labels: Vec<T>,
}

impl<T> Asked<T> {
    /// Reads questions from a JSON array or JSON lines. `label` reads the label of a record from its
    /// number, from 1, and its values.
    pub fn read(
        path: &Path,
        mut label: impl FnMut(usize, &Map<String, Value>) -> Result<T, EvalError>,
    ) -> Result<Self, EvalError> {
        let (mut questions, mut labels) = (Vec::new(), Vec::new());
        for (i, record) in records::read_records(path, |error| error)?.iter().enumerate() {
            labels.push(label(i + 1, record)?);
            questions.push(Question {
                id: records::id(record),
                image: records::image(record),
                text: records::find(record, &["text", "question", "prompt", "query"]),
            });
        }
        Ok(Self { questions, labels })
    }

    /// Finds the answer of each question. [`Scored::unmatched`] has the answers without a question.
    ///
    /// # Errors
    /// Returns an error if the answers do not belong to the questions, or a question has none.
    pub fn answered(self, files: Files<'_>, given: &[Answer]) -> Result<Scored<Answered<T>>, EvalError> {
        let paired = pair(files, &self.questions, given)?;
        let asked = self.questions.into_iter().zip(self.labels).zip(paired.answers);
        let items = asked.map(|((question, label), place)| {
            let answer = given[place].clone();
            Answered { question, label, answer }
        });
        Ok(Scored { items: items.collect(), unmatched: paired.unasked })
    }
}

impl<T> Answered<T> {
    /// The id of the question or, if it has none, its number in the file.
    pub fn name(&self, record: usize) -> String {
        self.question.id.clone().unwrap_or_else(|| format!("question {record}"))
    }

    /// The image of the question or, if it has none, that of the answer.
    pub fn image(&self) -> String {
        self.question.image.clone().or_else(|| self.answer.image.clone()).unwrap_or_default()
    }
}

/// Returns the label of a question. `expected` describes it in the error of a question without one.
pub(crate) fn label<'a>(
    path: &Path,
    record: usize,
    question: &'a Map<String, Value>,
    expected: &'static str,
) -> Result<&'a Value, EvalError> {
    let label = question.get("label").filter(|label| !label.is_null());
    label.ok_or_else(|| match FileKind::of_record(question).filter(|kind| *kind != FileKind::Questions) {
        Some(found) => found.instead_of("questions with labels", path).into(),
        None => EvalError::NoLabel { path: path.into(), record, expected },
    })
}

/// Reads a label that is yes or no.
pub(crate) fn yes_no_label(path: &Path, record: usize, label: &Value) -> Result<PopeLabel, EvalError> {
    match label.as_str().map(|label| label.trim().to_lowercase()).as_deref() {
        Some("yes") => Ok(PopeLabel::Yes),
        Some("no") => Ok(PopeLabel::No),
        _ => Err(EvalError::Label {
            path: path.into(),
            record,
            found: label.as_str().map_or_else(|| label.to_string(), str::to_owned),
        }),
    }
}
