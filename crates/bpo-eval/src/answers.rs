//! Readers of answer and question files.

use std::path::Path;

use bpo_pairs::format::FileKind;
use bpo_pairs::format::json::for_each;
use serde_json::{Map, Value};

use crate::chair::ChairItem;
use crate::error::EvalError;
use crate::objects::ObjectTable;
use crate::pairing::{Files, Question, pair};
use crate::pope::{PopeItem, PopeLabel, is_clear_yes_no, parse_yes_no};
use crate::records::{self, Answer};
use crate::truth::{Truth, open};

/// Answers that can be scored, and the names of those that cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scored<T> {
    /// The answers to score.
    pub items: Vec<T>,
    /// Answers without ground truth, in file order: the image of an answer that is not in the
    /// ground truth, or the id of an answer without a question.
    pub unmatched: Vec<String>,
}

/// Reads answers for CHAIR from a JSON array or JSON lines.
///
/// The image is read from the key `image`, `image_id` or `image_name`. The answer is read from the
/// first of `answer`, `response`, `caption`, `output` and `text` that the record has. A `text` that
/// equals the `prompt` or `question` is not an answer. [`Scored::unmatched`] lists answers about
/// images that are not in the ground truth.
///
/// # Errors
/// - [`EvalError::Read`], [`EvalError::Records`] for files that cannot be read.
/// - [`EvalError::NoKey`], [`EvalError::NoText`], [`EvalError::OnlyQuestion`] for a record without
///   image or answer.
/// - [`EvalError::TwoAnswers`] for a record with two different answers.
/// - The errors of [`Truth::check`].
pub fn read_chair_answers(
    path: &Path,
    table: &ObjectTable,
    truth: &Truth,
) -> Result<Scored<ChairItem>, EvalError> {
    truth.check(table)?;
    let answers = records::read_answers(path, |one, other| one.trim() == other.trim())?;
    let mut scored = Scored { items: Vec::new(), unmatched: Vec::new() };
    for Answer { record, image, text, .. } in answers {
        let image = image.ok_or_else(|| records::no_image(path, record))?;
        match truth.of(&image) {
            Some(shown) => scored.items.push(ChairItem::new(table, image, text, shown)),
            None => scored.unmatched.push(image),
        }
    }
    Ok(scored)
}

/// Reads POPE's questions (`{"question_id", "image", "text", "label"}`) and the answers to them.
///
/// Answers have the keys of [`read_chair_answers`]. They are matched to questions by `question_id`
/// or `id` if both files have ids, else by order.
///
/// If an answer has an `image` or its question (`prompt`, `question`, or `text` next to another key
/// with the answer), these are compared with those of the question; the question may have an
/// instruction around it. If they differ, or a question has no answer, the answer about the same
/// image and question is used, if there is one.
///
/// Every question must have an answer. [`Scored::unmatched`] lists answers without a question; they
/// are accepted if images or questions confirm the other answers.
///
/// # Errors
/// - [`EvalError::Read`], [`EvalError::Records`] for files that cannot be read.
/// - [`EvalError::NoLabel`], [`EvalError::Label`] for questions without a valid label.
/// - [`EvalError::NoKey`], [`EvalError::NoText`], [`EvalError::OnlyQuestion`] for a record without
///   an answer.
/// - [`EvalError::TwoAnswers`] for a record with a yes and a no.
/// - [`EvalError::NoId`], [`EvalError::Repeated`], [`EvalError::OtherQuestion`],
///   [`EvalError::Uncovered`], [`EvalError::Count`] if questions and answers do not belong
///   together.
/// - [`EvalError::Unclear`] if no answer contains yes or no.
pub fn read_pope_answers(questions: &Path, answers: &Path) -> Result<Scored<PopeItem>, EvalError> {
    let mut asked = Vec::new();
    let mut labels = Vec::new();
    for (i, question) in read_questions(questions)?.iter().enumerate() {
        let label = question.get("label").filter(|label| !label.is_null());
        let label = label.ok_or_else(|| no_label(questions, i + 1, question))?;
        labels.push(read_label(label).ok_or_else(|| EvalError::Label {
            path: questions.into(),
            record: i + 1,
            found: label.as_str().map_or_else(|| label.to_string(), str::to_owned),
        })?);
        asked.push(Question {
            id: records::id(question),
            image: records::image(question),
            text: records::find(question, &["text", "question", "prompt"]),
        });
    }
    let given = records::read_answers(answers, |one, other| parse_yes_no(one) == parse_yes_no(other))?;
    let paired = pair(Files { questions, answers }, &asked, &given)?;
    let mut scored = Scored { items: Vec::new(), unmatched: paired.unasked };
    for ((question, label), answer) in asked.into_iter().zip(labels).zip(paired.answers) {
        let Answer { image, text, .. } = &given[answer];
        let image = question.image.or_else(|| image.clone()).unwrap_or_default();
        scored.items.push(PopeItem { image, label, text: text.clone() });
    }
    if let Some(first) = scored.items.first()
        && !scored.items.iter().any(|item| is_clear_yes_no(&item.text))
    {
        let first = first.text.chars().take(80).collect();
        return Err(EvalError::Unclear { path: answers.into(), answers: scored.items.len(), first });
    }
    Ok(scored)
}

fn read_questions(path: &Path) -> Result<Vec<Map<String, Value>>, EvalError> {
    let mut all = Vec::new();
    for_each(path, open(path)?, &mut |record| {
        all.push(record);
        Ok(())
    })?;
    Ok(all)
}

/// Returns the error for a question without a label, or for another file of bpo in place of
/// questions.
fn no_label(path: &Path, record: usize, question: &Map<String, Value>) -> EvalError {
    match FileKind::of_record(question).filter(|kind| *kind != FileKind::Questions) {
        Some(found) => found.instead_of("questions with labels", path).into(),
        None => EvalError::NoLabel { path: path.into(), record },
    }
}

fn read_label(label: &Value) -> Option<PopeLabel> {
    match label.as_str()?.trim().to_lowercase().as_str() {
        "yes" => Some(PopeLabel::Yes),
        "no" => Some(PopeLabel::No),
        _ => None,
    }
}
