//! Readers of answer and question files.

use std::path::Path;

use crate::asked::{Answered, Asked, label, yes_no_label};
use crate::chair::ChairItem;
use crate::error::EvalError;
use crate::objects::ObjectTable;
use crate::pairing::Files;
use crate::pope::{PopeItem, PopeLabel, is_clear_yes_no, parse_yes_no};
use crate::records::{self, Answer};
use crate::truth::Truth;

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
    let asked = Asked::read(questions, |record, question| {
        yes_no_label(questions, record, label(questions, record, question, records::YES_NO)?)
    })?;
    let given = records::read_answers(answers, |one, other| parse_yes_no(one) == parse_yes_no(other))?;
    let Scored { items, unmatched } = asked.answered(Files { questions, answers }, &given)?;
    let item = |answered: Answered<PopeLabel>| PopeItem {
        image: answered.image(),
        label: answered.label,
        text: answered.answer.text,
    };
    let items: Vec<PopeItem> = items.into_iter().map(item).collect();
    check_clear(answers, &items, false, |item| (&item.text, is_clear_yes_no(&item.text)))?;
    Ok(Scored { items, unmatched })
}

/// Refuses answers none of which is clear. `exact` tells whether another reading of answers is possible, and
/// `of` returns the text of an item, and whether it is clear.
pub(crate) fn check_clear<T>(
    answers: &Path,
    items: &[T],
    exact: bool,
    of: impl Fn(&T) -> (&str, bool),
) -> Result<(), EvalError> {
    match items.first() {
        Some(first) if !items.iter().any(|item| of(item).1) => Err(EvalError::Unclear {
            path: answers.into(),
            answers: items.len(),
            first: of(first).0.chars().take(80).collect(),
            exact,
        }),
        _ => Ok(()),
    }
}
