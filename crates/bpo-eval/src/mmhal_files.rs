//! Readers of MMHal-Bench's files.

use std::path::Path;

use bpo_pairs::format::json::for_each;
use serde_json::{Map, Value};

use crate::answers::Scored;
use crate::asked::{Answered, Asked};
use crate::error::EvalError;
use crate::grading_error::GradingError;
use crate::mmhal::{MmhalItem, MmhalKind};
use crate::pairing::Files;
use crate::records;
use crate::truth::open;

/// The key of the answers in `response_template.json`.
const ANSWER: &str = "model_answer";
const KIND: &str = "question_type";

/// Reads MMHal-Bench's `response_template.json` with the answers of a model under `model_answer`.
///
/// Without any `question_type` the types follow from the order of the questions, as in the published
/// script.
///
/// # Errors
/// - [`EvalError::Read`], [`EvalError::Records`] for a file that cannot be read.
/// - [`EvalError::NoKey`], [`EvalError::Grading`] for a record without a question, an answer of a human or
///   an answer of the model, and if no answer of the model has a text.
pub fn read_mmhal_answers(path: &Path) -> Result<Scored<MmhalItem>, EvalError> {
    let all = records::read_records(path, |error| error)?;
    let kinds = kinds(path, &all)?;
    let mut items = Vec::new();
    for (place, (record, kind)) in all.iter().zip(kinds).enumerate() {
        let text = text(path, place + 1, record, ANSWER, &[ANSWER])?;
        if record[ANSWER].is_number() {
            return Err(wrong(path, place + 1, ANSWER, &record[ANSWER], "a text"));
        }
        items.push(MmhalItem { text, ..item(path, place + 1, record, kind)? });
    }
    if !items.is_empty() && items.iter().all(|item| item.text.trim().is_empty()) {
        return Err(GradingError::Unanswered { path: path.into() }.into());
    }
    if let Some(place) = items.iter().position(|item| item.text.trim().is_empty()) {
        return Err(GradingError::EmptyAnswer { path: path.into(), record: place + 1 }.into());
    }
    Ok(Scored { items, unmatched: Vec::new() })
}

/// Reads MMHal-Bench's `response_template.json` and answers to its questions in another file.
///
/// Keys of answers, and how they are matched to the questions, are those of
/// [`read_pope_answers`](crate::read_pope_answers).
///
/// # Errors
/// Returns the errors of [`read_mmhal_answers`] for the questions, and those of
/// [`read_pope_answers`](crate::read_pope_answers) for the answers.
pub fn read_mmhal_answers_to(questions: &Path, answers: &Path) -> Result<Scored<MmhalItem>, EvalError> {
    let all = records::read_records(questions, |error| error)?;
    let mut kinds = kinds(questions, &all)?.into_iter();
    let asked = Asked::read(questions, |record, question| {
        let kind = kinds.next().unwrap_or(MmhalKind::Other);
        item(questions, record, question, kind)
    })?;
    let given = records::read_answers(answers, |one, other| one.trim() == other.trim())?;
    records::refuse_empty(answers, &given)?;
    let Scored { items, unmatched } = asked.answered(Files { questions, answers }, &given)?;
    let item = |Answered { label, answer, .. }: Answered<MmhalItem>| MmhalItem { text: answer.text, ..label };
    Ok(Scored { items: items.into_iter().map(item).collect(), unmatched })
}

/// Reads the replies of a judge to the questions of MMHal-Bench in their order, as the published
/// `eval_gpt4.py` writes them (`--evaluation`): a JSON array of chat completions, or of texts.
///
/// A reply without a clear rating is an item without one or, with `as_published`, the rating 0. The types
/// of the questions follow from their order.
///
/// # Errors
/// - [`EvalError::Read`], [`EvalError::Records`] for a file that cannot be read.
/// - [`EvalError::Grading`] for a record without a reply, or a number of replies that is no multiple of 8.
pub fn read_mmhal_replies(path: &Path, as_published: bool) -> Result<Scored<MmhalItem>, EvalError> {
    let mut all: Vec<Value> = Vec::new();
    for_each(path, open(path)?, &mut |value| {
        all.push(value);
        Ok(())
    })?;
    let kinds = by_order(path, all.len())?;
    let mut items = Vec::new();
    for (place, (value, kind)) in all.iter().zip(kinds).enumerate() {
        let found = value
            .as_str()
            .or_else(|| value.pointer("/choices/0/message/content")?.as_str())
            .or_else(|| value.get("content")?.as_str());
        let reply = found.ok_or_else(|| GradingError::Reply {
            path: path.into(),
            record: place + 1,
            found: records::kind(value),
        })?;
        let rating = MmhalItem::read_rating(reply).or(as_published.then_some(0));
        items.push(MmhalItem { rating, ..empty(place + 1, kind) });
    }
    Ok(Scored { items, unmatched: Vec::new() })
}

fn empty(record: usize, kind: MmhalKind) -> MmhalItem {
    MmhalItem {
        id: record.to_string(),
        kind,
        question: String::new(),
        reference: String::new(),
        image_content: String::new(),
        text: String::new(),
        rating: None,
    }
}

/// A question without the answer of the model.
fn item(
    path: &Path,
    record: usize,
    question: &Map<String, Value>,
    kind: MmhalKind,
) -> Result<MmhalItem, EvalError> {
    Ok(MmhalItem {
        question: text(path, record, question, "question", &["question"])?,
        reference: text(path, record, question, "gt_answer", &["gt_answer"])?,
        image_content: image_content(path, record, question)?,
        ..empty(record, kind)
    })
}

fn text(
    path: &Path,
    record: usize,
    values: &Map<String, Value>,
    key: &'static str,
    keys: &'static [&'static str],
) -> Result<String, EvalError> {
    let value = values.get(key).ok_or_else(|| EvalError::NoKey { path: path.into(), record, keys })?;
    records::plain(value).ok_or_else(|| wrong(path, record, key, value, "a text"))
}

/// The objects in the image, with commas between them as in the published prompt.
fn image_content(path: &Path, record: usize, values: &Map<String, Value>) -> Result<String, EvalError> {
    let key = "image_content";
    let Some(value) = values.get(key) else {
        return Err(EvalError::NoKey { path: path.into(), record, keys: &["image_content"] });
    };
    let expected = "a list of names";
    let names = value.as_array().ok_or_else(|| wrong(path, record, key, value, expected))?;
    let names: Result<Vec<&str>, EvalError> = names
        .iter()
        .map(|name| name.as_str().ok_or_else(|| wrong(path, record, key, name, expected)))
        .collect();
    Ok(names?.join(", "))
}

fn wrong(path: &Path, record: usize, key: &'static str, value: &Value, expected: &'static str) -> EvalError {
    GradingError::Value { path: path.into(), record, key, found: records::kind(value), expected }.into()
}

/// The type of each question.
fn kinds(path: &Path, all: &[Map<String, Value>]) -> Result<Vec<MmhalKind>, EvalError> {
    if !all.iter().any(|record| record.contains_key(KIND)) {
        return by_order(path, all.len());
    }
    let kind = |(place, record): (usize, &Map<String, Value>)| {
        let found = text(path, place + 1, record, KIND, &[KIND])?;
        let kind = MmhalKind::ALL.into_iter().find(|kind| kind.as_str() == found);
        kind.ok_or_else(|| GradingError::MmhalKind { path: path.into(), record: place + 1, found }.into())
    };
    all.iter().enumerate().map(kind).collect()
}

/// The types of questions in the published order, in which the eight types follow one another.
fn by_order(path: &Path, number: usize) -> Result<Vec<MmhalKind>, EvalError> {
    if !number.is_multiple_of(MmhalKind::ALL.len()) {
        return Err(GradingError::MmhalCount { path: path.into(), found: number }.into());
    }
    Ok(MmhalKind::ALL.into_iter().cycle().take(number).collect())
}
