//! Readers of MM-Vet's files.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::answers::Scored;
use crate::error::EvalError;
use crate::grading_error::GradingError;
use crate::mm_vet::MmVetItem;
use crate::named;
use crate::pairing::{Files, Question, pair};
use crate::records::{self, Answer};

/// A question of `mm-vet.json`. Other keys are ignored.
#[derive(Deserialize)]
#[serde(expecting = "a question: an object with `question`, `answer` and `capability`")]
struct Asked {
    question: String,
    answer: String,
    capability: Vec<String>,
    imagename: Option<String>,
}

/// The grades of a question in a `*-grade-*.json`. Other keys are ignored.
#[derive(Deserialize)]
#[serde(expecting = "grades: an object with a list under `score`")]
struct Grades {
    score: Vec<f64>,
}

/// Reads MM-Vet's questions (`mm-vet.json`) and the answers to them: one object with an answer for each id,
/// as the published script reads it (`{"v1_0": "x = -1"}`), or records.
///
/// Keys of records, and how they are matched to the questions, are those of
/// [`read_pope_answers`](crate::read_pope_answers).
///
/// # Errors
/// - [`EvalError::Grading`] for questions that cannot be used.
/// - The errors of [`read_pope_answers`](crate::read_pope_answers) for the answers.
pub fn read_mm_vet_answers(questions: &Path, answers: &Path) -> Result<Scored<MmVetItem>, EvalError> {
    let asked = read_questions(questions)?;
    let known: Vec<Question> = asked.iter().map(|(id, asked)| asked.known(id)).collect();
    let given = match read_texts(answers)? {
        Some(given) => given,
        None => records::read_answers(answers, |one, other| one.trim() == other.trim())?,
    };
    records::refuse_empty(answers, &given)?;
    let paired = pair(Files { questions, answers }, &known, &given)?;
    let items = asked.into_iter().zip(paired.answers).map(|((id, asked), place)| {
        MmVetItem::new(id, asked.question, asked.answer, asked.capability, given[place].text.as_str())
    });
    Ok(Scored { items: items.collect(), unmatched: paired.unasked })
}

/// Reads MM-Vet's questions and the grades of answers that the published script has written
/// (`*-grade-*.json`). With `runs`, the first grades of each question count.
///
/// A question that the file does not have, or that has no score, is an item without a grade.
/// [`Scored::unmatched`] lists grades of other questions.
///
/// # Errors
/// [`EvalError::Grading`] for questions or grades that cannot be used, and for questions with different
/// numbers of grades.
pub fn read_mm_vet_grades(
    questions: &Path,
    grades: &Path,
    runs: Option<usize>,
) -> Result<Scored<MmVetItem>, EvalError> {
    let asked = read_questions(questions)?;
    let malformed = |source| GradingError::MmVetGrades { path: grades.into(), source }.into();
    let read: Vec<(String, Grades)> = named::read(grades, malformed)?;
    let names: Vec<String> = read.iter().map(|(id, _)| id.clone()).collect();
    let mut given: HashMap<String, Vec<f64>> =
        read.into_iter().map(|(id, grades)| (id, grades.score)).collect();
    let mut expected = runs;
    let mut items = Vec::new();
    for (id, Asked { question, answer, capability, .. }) in asked {
        let mut item = MmVetItem::new(id, question, answer, capability, "");
        let mut found = given.remove(&item.id).unwrap_or_default();
        if !found.is_empty() {
            let most = *expected.get_or_insert(found.len());
            let is_enough = if runs.is_some() { found.len() >= most } else { found.len() == most };
            if !is_enough {
                let (path, id, found) = (grades.into(), item.id, found.len());
                return Err(GradingError::Runs { path, id, found, expected: most }.into());
            }
            found.truncate(most);
        }
        if let Some(&found) = found.iter().find(|grade| !(0.0..=1.0).contains(*grade)) {
            return Err(GradingError::Grade { path: grades.into(), id: item.id, found }.into());
        }
        item.grades = found;
        items.push(item);
    }
    if items.iter().all(|item| item.grades.is_empty()) {
        items.clear();
    }
    Ok(Scored { items, unmatched: names.into_iter().filter(|name| given.contains_key(name)).collect() })
}

impl Asked {
    fn known(&self, id: &str) -> Question {
        Question { id: Some(id.to_owned()), image: self.imagename.clone(), text: Some(self.question.clone()) }
    }
}

fn read_questions(path: &Path) -> Result<Vec<(String, Asked)>, EvalError> {
    let malformed = |source| GradingError::MmVetQuestions { path: path.into(), source }.into();
    let asked: Vec<(String, Asked)> = named::read(path, malformed)?;
    if asked.iter().any(|(id, _)| id.is_empty()) {
        return Err(GradingError::EmptyId { path: path.into() }.into());
    }
    let is_bare = |asked: &Asked| {
        asked.capability.is_empty() || asked.capability.iter().any(|name| name.trim().is_empty())
    };
    match asked.iter().find(|(_, asked)| is_bare(asked)) {
        Some((id, _)) => Err(GradingError::NoCapability { path: path.into(), id: id.clone() }.into()),
        None => Ok(asked),
    }
}

/// Reads answers under the ids of their questions. Returns `None` for a file of records.
fn read_texts(path: &Path) -> Result<Option<Vec<Answer>>, EvalError> {
    let Some(named) = named::read_if_one::<Value>(path)? else { return Ok(None) };
    if named.iter().any(|(key, _)| records::is_known_key(key)) {
        return Ok(None);
    }
    let answer = |(place, (id, value)): (usize, (String, Value))| {
        let record = place + 1;
        let text = value.as_str().map(str::to_owned).ok_or_else(|| EvalError::NoText {
            path: path.into(),
            record,
            key: "the answer",
            found: records::kind(&value),
        })?;
        Ok(Answer { record, id: Some(id), image: None, question: None, text, under_text: false })
    };
    named.into_iter().enumerate().map(answer).collect::<Result<_, _>>().map(Some)
}
