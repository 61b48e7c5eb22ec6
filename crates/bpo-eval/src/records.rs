//! Answer records of different programs: one reader for all metrics.

use std::path::Path;

use bpo_pairs::PairsError;
use bpo_pairs::format::FileKind;
use bpo_pairs::format::json::for_each;
use serde_json::{Map, Value};

use crate::error::EvalError;
use crate::grading_error::GradingError;
use crate::truth::{number, open};

/// Keys of the image name, or of a list with one name.
const IMAGE: &[&str] = &["image", "images", "image_id", "image_name"];
/// Keys of the question id.
const ID: &[&str] = &["question_id", "id"];
/// Keys of the question text.
const QUESTION: &[&str] = &["prompt", "question"];

/// Keys of the answer, by priority. `text` is last: next to another key it is the question.
const ANSWER: &[&str] = &["answer", "response", "caption", "output", TEXT];
const TEXT: &str = "text";

/// Keys of the model's answer in other formats. They are not read, but a record with a different
/// answer under one of the keys above is refused: there, `answer` is often the annotated answer.
const PREDICTION: &[&str] =
    &["prediction", "pred", "predict", "model_answer", "generated_text", "output_text"];

/// The key of a score.
const SCORE: &str = "score";
/// What the label of a yes-or-no question must be.
pub(crate) const YES_NO: &str = "\"label\": \"yes\" or \"no\", as in POPE's coco_pope_*.json";

/// The name of answers to evaluate in messages.
const ANSWERS: &str = "answers to questions about images";
/// Kinds of files whose records may have an answer to evaluate.
const ACCEPTED: [FileKind; 4] =
    [FileKind::Generated, FileKind::Questions, FileKind::Samples, FileKind::Pairs];

/// An answer record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Number of the record in the file, from 1.
    pub record: usize,
    /// Id of the question.
    pub id: Option<String>,
    /// Name of the image.
    pub image: Option<String>,
    /// The question, possibly with an instruction around it.
    pub question: Option<String>,
    /// The answer.
    pub text: String,
    /// Whether the key of the answer is `text`.
    pub under_text: bool,
}

impl Answer {
    fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// Checks that no answer is empty: a judge has nothing to grade then.
pub(crate) fn refuse_empty(path: &Path, answers: &[Answer]) -> Result<(), EvalError> {
    match answers.iter().find(|answer| answer.is_empty()) {
        Some(Answer { record, .. }) => {
            Err(GradingError::EmptyAnswer { path: path.into(), record: *record }.into())
        }
        None => Ok(()),
    }
}

/// Reads answers from a JSON array or JSON lines. `agree` decides whether two texts are the same
/// answer; a record with two different answers is an error.
pub(crate) fn read_answers(path: &Path, agree: fn(&str, &str) -> bool) -> Result<Vec<Answer>, EvalError> {
    let answers = read_with_empty(path, agree)?;
    refuse_all_empty(path, &answers)?;
    Ok(answers)
}

/// Reads answers like [`read_answers`], of which all may be empty.
pub(crate) fn read_with_empty(path: &Path, agree: fn(&str, &str) -> bool) -> Result<Vec<Answer>, EvalError> {
    answers(path, &read_all(path)?, agree)
}

/// Checks that some answer has a text: a file of empty ones is no result of a model.
fn refuse_all_empty(path: &Path, answers: &[Answer]) -> Result<(), EvalError> {
    if !answers.is_empty() && answers.iter().all(Answer::is_empty) {
        return Err(EvalError::NoAnswers { path: path.into(), records: answers.len() });
    }
    Ok(())
}

/// Reads answers, each with the value under another key.
pub(crate) fn read_with(
    path: &Path,
    agree: fn(&str, &str) -> bool,
    key: &str,
) -> Result<Vec<(Answer, Option<Value>)>, EvalError> {
    let mut all = read_all(path)?;
    let answers = answers(path, &all, agree)?;
    refuse_all_empty(path, &answers)?;
    Ok(answers.into_iter().zip(all.iter_mut().map(|record| record.remove(key))).collect())
}

fn answers(
    path: &Path,
    all: &[Map<String, Value>],
    agree: fn(&str, &str) -> bool,
) -> Result<Vec<Answer>, EvalError> {
    let other = |kind: FileKind| EvalError::from(kind.instead_of(ANSWERS, path));
    let kind = all.first().and_then(FileKind::of_record);
    // their records have an answer, but no image
    if let Some(kind @ (FileKind::Weakened | FileKind::Injected)) = kind {
        return Err(other(kind));
    }
    let answers = all.iter().enumerate().map(|(i, record)| answer(path, i + 1, record, agree));
    let answers: Result<Vec<Answer>, _> = answers.collect();
    answers.map_err(|error| match kind.filter(|kind| *kind != FileKind::Generated) {
        // other programs may add answers to questions, samples and pairs
        Some(kind) if matches!(error, EvalError::NoKey { record: 1, .. }) => other(kind),
        _ => error,
    })
}

fn read_all(path: &Path) -> Result<Vec<Map<String, Value>>, EvalError> {
    read_records(path, |error| error.or_other_kind(path, ANSWERS, &ACCEPTED))
}

/// Reads all records of a file. `map` changes the errors of its content.
pub(crate) fn read_records(
    path: &Path,
    map: impl FnOnce(PairsError) -> PairsError,
) -> Result<Vec<Map<String, Value>>, EvalError> {
    let mut all = Vec::new();
    let read = for_each(path, open(path)?, &mut |record| {
        all.push(record);
        Ok(())
    });
    read.map_err(map)?;
    Ok(all)
}

/// Answers that are numbers, and the numbers, in the order of the file.
pub(crate) struct ScoreAnswers {
    pub answers: Vec<Answer>,
    pub scores: Vec<f64>,
}

/// Reads answers that are numbers under `score`. Returns `None` if no record has a score.
pub(crate) fn read_scores(path: &Path) -> Result<Option<ScoreAnswers>, EvalError> {
    let all = read_all(path)?;
    let given = |record: &Map<String, Value>| record.get(SCORE).is_some_and(|value| !value.is_null());
    if !all.iter().any(given) {
        return Ok(None);
    }
    let (mut answers, mut scores) = (Vec::new(), Vec::new());
    for (i, record) in all.iter().enumerate() {
        let no_score = |found| EvalError::NoScore { path: path.into(), record: i + 1, found };
        let value = record.get(SCORE).ok_or_else(|| no_score("no score"))?;
        let score = value.as_f64().ok_or_else(|| no_score(kind(value)))?;
        let asked = QUESTION.iter().find_map(|key| record.get(*key)?.as_str());
        answers.push(Answer {
            record: i + 1,
            id: find(record, ID),
            image: image(record),
            question: asked.or_else(|| question_in_text(record)).map(str::to_owned),
            text: score.to_string(),
            under_text: false,
        });
        scores.push(score);
    }
    Ok(Some(ScoreAnswers { answers, scores }))
}

/// The `text` next to an answer if it is the question. It may also repeat the answer in other words; a
/// question has a question mark.
fn question_in_text(record: &Map<String, Value>) -> Option<&str> {
    record.get(TEXT)?.as_str().filter(|text| text.contains('?'))
}

fn answer(
    path: &Path,
    place: usize,
    record: &Map<String, Value>,
    agree: fn(&str, &str) -> bool,
) -> Result<Answer, EvalError> {
    let given = |key: &&str| record.get(*key).is_some_and(|value| !value.is_null());
    let is_empty = |key: &&str| record[*key].as_str().is_some_and(|text| text.trim().is_empty());
    let no_answer = || EvalError::NoKey { path: path.into(), record: place, keys: ANSWER };
    // An empty answer is used only if there is no other.
    let filled = ANSWER.iter().find(|key| given(key) && !is_empty(key));
    let key = *filled.or_else(|| ANSWER.iter().find(|key| given(key))).ok_or_else(no_answer)?;
    // a number is a label or a score, not an answer
    let text = record[key].as_str().map(str::to_owned).ok_or_else(|| EvalError::NoText {
        path: path.into(),
        record: place,
        key,
        found: kind(&record[key]),
    })?;
    // A number under these keys is an id, not the question.
    let asked = QUESTION.iter().find_map(|key| record.get(*key)?.as_str().map(str::to_owned));
    let under_text = key == TEXT;
    if under_text && asked.as_deref().is_some_and(|asked| is_same_question(asked, &text)) {
        return Err(EvalError::OnlyQuestion { path: path.into(), record: place });
    }
    // If the question is known, a `text` that differs from it is a second answer. Short texts are
    // no part of a question ("no" is a substring of "snowboard").
    let is_part =
        |asked: &str, text: &str| text.split_whitespace().count() > 2 && holds_question(asked, text);
    let text_is_answer = |text: &str| {
        asked.as_deref().is_some_and(|asked| !is_same_question(asked, text) && !is_part(asked, text))
    };
    let others =
        ANSWER.iter().chain(PREDICTION).filter(|other| **other != key && given(other) && !is_empty(other));
    for other in others.copied() {
        let Some(second) = plain(&record[other]) else { continue };
        if (other != TEXT || text_is_answer(&second)) && !agree(&text, &second) {
            return Err(EvalError::TwoAnswers {
                path: path.into(),
                record: place,
                first: key,
                second: other,
            });
        }
    }
    let question = asked.or_else(|| question_in_text(record).filter(|_| !under_text).map(str::to_owned));
    Ok(Answer { record: place, id: find(record, ID), image: image(record), question, text, under_text })
}

/// The first string or number under one of the keys.
pub(crate) fn find(record: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| plain(record.get(*key)?))
}

/// The name of the image of a record. `None` for a record with several images.
pub(crate) fn image(record: &Map<String, Value>) -> Option<String> {
    let name = |value: &Value| match value {
        Value::Array(names) if names.len() == 1 => plain(&names[0]),
        value => plain(value),
    };
    IMAGE.iter().find_map(|key| name(record.get(*key)?))
}

/// A list of names. `keys` is its key.
pub(crate) fn names(
    path: &Path,
    record: usize,
    keys: &'static [&'static str],
    names: Option<Value>,
) -> Result<Vec<String>, EvalError> {
    let no_names = |found| EvalError::NoNames { path: path.into(), record, key: keys[0], found };
    let names = match names.ok_or_else(|| EvalError::NoKey { path: path.into(), record, keys })? {
        Value::Array(names) => names,
        other => return Err(no_names(kind(&other))),
    };
    let name = |name| match name {
        Value::String(name) => Ok(name),
        other => Err(no_names(kind(&other))),
    };
    names.into_iter().map(name).collect()
}

/// Whether a record may have its image, id, question or answer under a key.
pub(crate) fn is_known_key(key: &str) -> bool {
    [IMAGE, ID, QUESTION, ANSWER].iter().any(|keys| keys.contains(&key))
}

/// The id of a record.
pub(crate) fn id(record: &Map<String, Value>) -> Option<String> {
    find(record, ID)
}

/// The error of an answer without an image name.
pub(crate) fn no_image(path: &Path, record: usize) -> EvalError {
    EvalError::NoKey { path: path.into(), record, keys: IMAGE }
}

/// The error of a record without an id.
pub(crate) fn no_id(path: &Path, record: usize) -> EvalError {
    EvalError::NoKey { path: path.into(), record, keys: ID }
}

/// A string unchanged, or a number as written.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The JSON type of a value, with an article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a Boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A question without image tokens, in lower case, with single spaces.
pub(crate) fn bare(question: &str) -> String {
    let words: Vec<String> =
        question.replace("<image>", " ").split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

/// Whether two texts are the same question.
pub(crate) fn is_same_question(one: &str, other: &str) -> bool {
    bare(one) == bare(other)
}

/// Whether two texts are the same question, and one of them may have an instruction around it.
pub(crate) fn holds_question(one: &str, other: &str) -> bool {
    let (one, other) = (bare(one), bare(other));
    one.contains(&other) || other.contains(&one)
}

/// Whether two names mean the same image. Folders are ignored, the extension is ignored if one name
/// has none, and COCO names are compared by number.
pub(crate) fn is_same_image(one: &str, other: &str) -> bool {
    let last = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned();
    let (one, other) = (last(one), last(other));
    let stem = |name: &str| name.rsplit_once('.').map(|(stem, _)| stem.to_owned());
    one == other
        || number(&one).is_some_and(|found| number(&other) == Some(found))
        || match (stem(&one), stem(&other)) {
            (Some(stem), None) => stem == other,
            (None, Some(stem)) => stem == one,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Answer, EvalError> {
        answer(Path::new("a.jsonl"), 3, &serde_json::from_str(json).unwrap(), |one, other| one == other)
    }

    #[test]
    fn an_image_is_a_name_or_a_list_of_one() {
        for (json, expected) in [
            (r#"{"image": "a.jpg", "answer": "A."}"#, Some("a.jpg")),
            (r#"{"images": ["a.jpg"], "answer": "A."}"#, Some("a.jpg")),
            (r#"{"image_id": 7, "answer": "A."}"#, Some("7")),
            (r#"{"images": ["a.jpg", "b.jpg"], "answer": "A."}"#, None),
            (r#"{"images": [], "answer": "A."}"#, None),
        ] {
            assert_eq!(read(json).unwrap().image.as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn answer_keys_have_priority_over_text() {
        for (json, text, question) in [
            (r#"{"text": "Is there a dog?", "answer": "no", "label": "yes"}"#, "no", Some("Is there a dog?")),
            (r#"{"text": "Describe.", "response": "A dog."}"#, "A dog.", None),
            (r#"{"text": "Yes, one.", "answer": "yes"}"#, "yes", None),
            (r#"{"text": "Yes", "prompt": "Is there a dog?"}"#, "Yes", Some("Is there a dog?")),
            (r#"{"text": "q?", "caption": "c", "output": "c"}"#, "c", Some("q?")),
            (r#"{"answer": "", "response": "A dog."}"#, "A dog.", None),
            (
                r#"{"text": "is there a dog?", "prompt": "Is there a dog? Say yes or no.", "answer": "no"}"#,
                "no",
                Some("Is there a dog? Say yes or no."),
            ),
            (r#"{"output": "o", "question": "q"}"#, "o", Some("q")),
            (r#"{"answer": null, "text": "Yes"}"#, "Yes", None),
            (r#"{"question": 7, "answer": "no"}"#, "no", None),
        ] {
            let found = read(json).unwrap();
            assert_eq!((found.text.as_str(), found.question.as_deref()), (text, question), "{json}");
        }
    }

    #[test]
    fn two_different_answers_are_an_error() {
        for (json, keys) in [
            (r#"{"response": "yes", "answer": "no"}"#, "answer and response"),
            (r#"{"prompt": "Is there a dog?", "text": "no", "answer": "yes"}"#, "answer and text"),
            (r#"{"prompt": "Is there a snowboard?", "text": "no", "answer": "yes"}"#, "answer and text"),
            (
                r#"{"question": "Is there a dog?", "answer": "yes", "prediction": "no"}"#,
                "answer and prediction",
            ),
            (r#"{"prompt": "Describe.", "text": "A dog.", "caption": "A cat."}"#, "caption and text"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("record 3") && error.contains(keys), "{error}");
        }
    }

    #[test]
    fn a_missing_answer_is_an_error_with_the_record() {
        for (json, said) in [
            (r#"{"image": "a"}"#, "record 3: none of the keys answer, response, caption, output, text"),
            (
                r#"{"prompt": "<image>\nIs there a dog?", "text": "Is there a  dog?"}"#,
                "record 3: the text is the question",
            ),
            (r#"{"answer": ["a dog"]}"#, "record 3: answer is an array"),
            (r#"{"answer": 3}"#, "record 3: answer is a number; expected a string"),
            (r#"{"answer": true}"#, "record 3: answer is a Boolean"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn equal_image_names() {
        for (one, other, same) in [
            ("a/b.jpg", "b.jpg", true),
            ("b", "b.jpg", true),
            ("b.png", "b.jpg", false),
            ("42", "COCO_val2014_000000000042.jpg", true),
            ("val/000000000042.jpg", "42", true),
            ("43", "42.jpg", false),
        ] {
            assert_eq!(is_same_image(one, other), same, "{one} {other}");
        }
    }
}
