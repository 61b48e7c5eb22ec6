//! Other people's files of answers and questions.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::format::json::for_each;
use serde::Deserialize;
use serde_json::Value;

use crate::chair::ChairItem;
use crate::error::EvalError;
use crate::objects::ObjectTable;
use crate::pope::{Label, PopeItem};
use crate::truth::{Truth, open};

/// Keys under which files have the name of an image, the text of an answer, and the number of a question.
const IMAGE: &[&str] = &["image", "image_id", "image_name"];
const TEXT: &[&str] = &["text", "answer", "caption", "response"];
const QUESTION: &[&str] = &["question_id", "id"];

/// What a set of answers came to, and what of it could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scored<T> {
    /// What is scored.
    pub items: Vec<T>,
    /// Names of images or questions without their other half, in the order of the file.
    pub unmatched: Vec<String>,
}

/// Reads answers about images, an array or one object a line: the image under `image`, `image_id` or `image_name`, the
/// answer under `text`, `answer`, `caption` or `response`. Answers about images that the truth does not have are told apart.
///
/// # Errors
/// [`EvalError::Read`], [`EvalError::Records`], and [`EvalError::NoKey`] for a record without image or answer.
pub fn read_answers(path: &Path, table: &ObjectTable, truth: &Truth) -> Result<Scored<ChairItem>, EvalError> {
    let mut scored = Scored { items: Vec::new(), unmatched: Vec::new() };
    for (i, record) in records(path)?.into_iter().enumerate() {
        let image = key(&record, IMAGE).ok_or_else(|| no_key(path, i, IMAGE))?;
        let text = key(&record, TEXT).ok_or_else(|| no_key(path, i, TEXT))?;
        match truth.of(&image) {
            Some(shown) => scored.items.push(ChairItem::new(table, image, text, shown)),
            None => scored.unmatched.push(image),
        }
    }
    Ok(scored)
}

#[derive(Deserialize)]
struct Question {
    question_id: Option<Value>,
    #[serde(default)]
    image: String,
    label: String,
}

/// Reads POPE's questions (`{"question_id", "image", "text", "label"}`) and answers to them: by `question_id` or `id`
/// where all answers have one, else in order.
///
/// # Errors
/// [`EvalError::Read`], [`EvalError::Records`], [`EvalError::Label`], [`EvalError::NoKey`] for an answer without text, and
/// [`EvalError::Repeated`] for a question that is answered twice, and [`EvalError::Count`] where the order must tell and the
/// numbers differ.
pub fn read_pope(questions: &Path, answers: &Path) -> Result<Scored<PopeItem>, EvalError> {
    let mut asked = Vec::new();
    for (i, question) in typed::<Question>(questions)?.into_iter().enumerate() {
        let label = match question.label.trim().to_lowercase().as_str() {
            "yes" => Label::Yes,
            "no" => Label::No,
            _ => {
                return Err(EvalError::Label {
                    path: questions.into(),
                    record: i + 1,
                    found: question.label,
                });
            }
        };
        asked.push((question.question_id.map(|id| plain(&id)), question.image, label));
    }
    let mut given = Vec::new();
    for (i, record) in records(answers)?.into_iter().enumerate() {
        let text = key(&record, TEXT).ok_or_else(|| no_key(answers, i, TEXT))?;
        given.push((key(&record, QUESTION), text));
    }

    let by_id = asked.iter().all(|(id, ..)| id.is_some()) && given.iter().all(|(id, _)| id.is_some());
    if !by_id && asked.len() != given.len() {
        return Err(EvalError::Count { questions: asked.len(), answers: given.len() });
    }
    let mut scored = Scored { items: Vec::new(), unmatched: Vec::new() };
    let mut texts: BTreeMap<Option<String>, String> = BTreeMap::new();
    for (i, (id, text)) in given.iter().enumerate().filter(|_| by_id) {
        if texts.insert(id.clone(), text.clone()).is_some() {
            let id = id.clone().unwrap_or_default();
            return Err(EvalError::Repeated { path: answers.into(), record: i + 1, id });
        }
    }
    for (i, (id, image, label)) in asked.into_iter().enumerate() {
        let text = if by_id { texts.remove(&id) } else { given.get(i).map(|(_, text)| text.clone()) };
        match text {
            Some(text) => scored.items.push(PopeItem { image, label, text }),
            None => scored.unmatched.push(id.unwrap_or_default()),
        }
    }
    // answers to questions that nobody asked
    scored.unmatched.extend(texts.into_keys().flatten());
    Ok(scored)
}

fn records(path: &Path) -> Result<Vec<serde_json::Map<String, Value>>, EvalError> {
    typed(path)
}

fn typed<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvalError> {
    let mut all = Vec::new();
    for_each(path, open(path)?, &mut |record: T| {
        all.push(record);
        Ok(())
    })?;
    Ok(all)
}

fn key(record: &serde_json::Map<String, Value>, names: &[&str]) -> Option<String> {
    let value = names.iter().find_map(|name| record.get(*name))?;
    matches!(value, Value::String(_) | Value::Number(_)).then(|| plain(value))
}

/// A text as it is, a number as it is written.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn no_key(path: &Path, index: usize, keys: &'static [&'static str]) -> EvalError {
    EvalError::NoKey { path: path.into(), record: index + 1, keys }
}
