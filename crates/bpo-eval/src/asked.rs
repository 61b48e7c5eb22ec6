//! Files of questions, and the answers to them.

use std::path::Path;

use bpo_pairs::format::FileKind;
use bpo_pairs::format::json::for_each;
use serde_json::{Map, Value};

use crate::answers::Scored;
use crate::error::EvalError;
use crate::pairing::{Files, Question, pair};
use crate::pope::PopeLabel;
use crate::records::{self, Answer};
use crate::truth::open;

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
        for (i, record) in read_records(path)?.iter().enumerate() {
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
    /// The image of the question or, if it has none, that of the answer.
    pub fn image(&self) -> String {
        self.question.image.clone().or_else(|| self.answer.image.clone()).unwrap_or_default()
    }
}

/// Reads all records of a file.
pub(crate) fn read_records(path: &Path) -> Result<Vec<Map<String, Value>>, EvalError> {
    let mut all = Vec::new();
    for_each(path, open(path)?, &mut |record| {
        all.push(record);
        Ok(())
    })?;
    Ok(all)
}

/// Returns the label of a question.
pub(crate) fn label<'a>(
    path: &Path,
    record: usize,
    question: &'a Map<String, Value>,
) -> Result<&'a Value, EvalError> {
    let label = question.get("label").filter(|label| !label.is_null());
    label.ok_or_else(|| match FileKind::of_record(question).filter(|kind| *kind != FileKind::Questions) {
        Some(found) => found.instead_of("questions with labels", path).into(),
        None => EvalError::NoLabel { path: path.into(), record },
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
