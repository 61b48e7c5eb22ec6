//! Other people's files of answers and questions.

use std::path::Path;

use bpo_pairs::format::json::for_each;
use serde_json::{Map, Value};

use crate::chair::ChairItem;
use crate::error::EvalError;
use crate::objects::ObjectTable;
use crate::pairing::{Asked, Files, pair};
use crate::pope::{Label, PopeItem, is_clear, parse_answer};
use crate::records::{self, Answer};
use crate::truth::{Truth, open};

/// What a set of answers came to, and what of it could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scored<T> {
    /// What is scored.
    pub items: Vec<T>,
    /// What has no other half, in the order of the file: images of answers that the truth does not have, ids of answers to
    /// other questions.
    pub unmatched: Vec<String>,
}

/// Reads answers about images, an array or one object a line: the image under `image`, `image_id` or `image_name`, the
/// answer under `answer`, `response`, `caption`, `output` or `text`, whichever comes first in this list. A `text` that is
/// also the `prompt` or `question` is no answer. Answers about images that the truth does not have are listed apart.
///
/// # Errors
/// [`EvalError::Read`], [`EvalError::Records`]; [`EvalError::NoKey`], [`EvalError::NoText`] and [`EvalError::OnlyQuestion`] for
/// a record without image or answer; [`EvalError::TwoAnswers`] for one with two; and those of [`Truth::check`].
pub fn read_answers(path: &Path, table: &ObjectTable, truth: &Truth) -> Result<Scored<ChairItem>, EvalError> {
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

/// Reads POPE's questions (`{"question_id", "image", "text", "label"}`) and answers to them, under the keys of
/// [`read_answers`]: by `question_id` or `id` where both sides have them, else in order.
///
/// Where an answer has an `image` or its question (`prompt`, `question`, or `text` beside another key with the answer), it is
/// compared with that of the question; a question may have an instruction around it. Where they differ, or an answer is
/// missing, the answer about the same image with the same question is taken, if there is one.
///
/// Every question must have an answer. Answers to other questions are listed apart, if image or question shows that the rest
/// is right.
///
/// # Errors
/// [`EvalError::Read`], [`EvalError::Records`]; [`EvalError::NoLabel`] and [`EvalError::Label`] for questions;
/// [`EvalError::NoKey`], [`EvalError::NoText`] and [`EvalError::OnlyQuestion`] for a record without an answer;
/// [`EvalError::TwoAnswers`] for one with a yes and a no;
/// [`EvalError::NoId`], [`EvalError::Repeated`], [`EvalError::OtherQuestion`], [`EvalError::Uncovered`] and
/// [`EvalError::Count`] where questions and answers do not belong together; and [`EvalError::Unclear`] if no answer says yes
/// or no.
pub fn read_pope(questions: &Path, answers: &Path) -> Result<Scored<PopeItem>, EvalError> {
    let mut asked = Vec::new();
    let mut labels = Vec::new();
    for (i, question) in read_questions(questions)?.iter().enumerate() {
        let label = question.get("label").filter(|label| !label.is_null());
        let label = label.ok_or_else(|| EvalError::NoLabel { path: questions.into(), record: i + 1 })?;
        labels.push(read_label(label).ok_or_else(|| EvalError::Label {
            path: questions.into(),
            record: i + 1,
            found: label.as_str().map_or_else(|| label.to_string(), str::to_owned),
        })?);
        asked.push(Asked {
            id: records::id(question),
            image: records::image(question),
            text: records::find(question, &["text", "question", "prompt"]),
        });
    }
    let given = records::read_answers(answers, |one, other| parse_answer(one) == parse_answer(other))?;
    let paired = pair(Files { questions, answers }, &asked, &given)?;
    let mut scored = Scored { items: Vec::new(), unmatched: paired.unasked };
    for ((question, label), answer) in asked.into_iter().zip(labels).zip(paired.answers) {
        let Answer { image, text, .. } = &given[answer];
        let image = question.image.or_else(|| image.clone()).unwrap_or_default();
        scored.items.push(PopeItem { image, label, text: text.clone() });
    }
    if let Some(first) = scored.items.first()
        && !scored.items.iter().any(|item| is_clear(&item.text))
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

fn read_label(label: &Value) -> Option<Label> {
    match label.as_str()?.trim().to_lowercase().as_str() {
        "yes" => Some(Label::Yes),
        "no" => Some(Label::No),
        _ => None,
    }
}
