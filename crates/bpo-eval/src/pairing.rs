//! Matching of answers to questions by id, order, image and text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bpo_pairs::{Untrusted, UntrustedPath};

use crate::error::EvalError;
use crate::records::{Answer, bare, holds_question, is_same_image, is_same_question};

/// The known fields of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub id: Option<String>,
    pub image: Option<String>,
    pub text: Option<String>,
}

/// The answer of each question, and the answers without a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paired {
    /// Index of the answer of each question.
    pub answers: Vec<usize>,
    /// Ids or record numbers of answers without a question.
    pub unasked: Vec<String>,
}

/// Paths of the two files, for error messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    pub questions: &'a Path,
    pub answers: &'a Path,
}

/// The mismatch between an answer and the question that its id or position names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its {what} is {:?}, but that of the question in record {question} of {} is {:?}",
    Untrusted(found),
    UntrustedPath(questions),
    Untrusted(expected)
)]
#[non_exhaustive]
pub struct QuestionMismatch {
    /// The field that differs: `image` or `question`.
    pub what: &'static str,
    /// The value of the answer.
    pub found: String,
    /// Path of the file of questions.
    pub questions: PathBuf,
    /// Number of the question, from 1.
    pub question: usize,
    /// The value of the question.
    pub expected: String,
}

/// Result of the comparison of an answer with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// At least one known field is equal, and none differs.
    Same,
    /// No field that identifies the question is known on both sides.
    Unknown,
    /// The named field differs.
    Other(&'static str),
}

/// Matches answers to questions: by id if both files have ids, else by order; by image and text if
/// these disagree.
///
/// # Errors
/// Returns an error if only some records of a file have ids, ids repeat, an answer belongs to
/// another question, or a question has no answer.
pub(crate) fn pair(files: Files<'_>, asked: &[Question], given: &[Answer]) -> Result<Paired, EvalError> {
    let index = Index::new(asked, given);
    if let Some(answer) = given.iter().find(|answer| answer.under_text && index.is_question(&answer.text)) {
        return Err(EvalError::OnlyQuestion { path: files.answers.into(), record: answer.record });
    }
    let asked_ids: Vec<Option<&str>> = asked.iter().map(|question| question.id.as_deref()).collect();
    let given_ids: Vec<Option<&str>> = given.iter().map(|answer| answer.id.as_deref()).collect();
    let (asked_by_id, given_by_id) =
        (all_or_none(files.questions, &asked_ids)?, all_or_none(files.answers, &given_ids)?);
    let has_ids = asked_by_id && given_by_id;
    let all_known = given.iter().all(is_known);
    let candidates: Vec<Option<usize>> = if has_ids {
        let by_id = by_id(files.answers, &given_ids);
        // Repeated ids are useless, but image and text may still match.
        match (repeated(files.questions, &asked_ids), by_id) {
            (None, Ok(by_id)) => asked_ids.iter().map(|id| by_id.get(&(*id)?).copied()).collect(),
            _ if all_known => vec![None; asked.len()],
            (Some(error), _) | (_, Err(error)) => return Err(error),
        }
    } else if asked.len() == given.len() {
        (0..given.len()).map(Some).collect()
    } else if all_known {
        vec![None; asked.len()]
    } else {
        return Err(EvalError::Count { questions: asked.len(), answers: given.len() });
    };
    index.settle(files, has_ids, &candidates)
}

struct Index<'a> {
    asked: &'a [Question],
    given: &'a [Answer],
    /// Indices of answers with known image and question, by the text of the question.
    known: HashMap<String, Vec<usize>>,
    questions: HashSet<String>,
}

impl<'a> Index<'a> {
    fn new(asked: &'a [Question], given: &'a [Answer]) -> Self {
        let questions = asked.iter().filter_map(|question| question.text.as_deref()).map(bare).collect();
        let mut known: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, answer) in given.iter().enumerate().filter(|(_, answer)| is_known(answer)) {
            known.entry(answer.question.as_deref().map(core).unwrap_or_default()).or_default().push(place);
        }
        Self { asked, given, known, questions }
    }

    /// Whether a text equals one of the questions.
    fn is_question(&self, text: &str) -> bool {
        self.questions.contains(&bare(text))
    }

    fn settle(
        &self,
        files: Files<'_>,
        has_ids: bool,
        candidates: &[Option<usize>],
    ) -> Result<Paired, EvalError> {
        let mut answers = Vec::with_capacity(self.asked.len());
        let mut missing = Vec::new();
        let mut unconfirmed = false;
        for (place, (question, candidate)) in self.asked.iter().zip(candidates).enumerate() {
            let fitting = candidate.map(|answer| (answer, fit(question, &self.given[answer])));
            match fitting {
                Some((answer, fit @ (Fit::Same | Fit::Unknown))) => {
                    unconfirmed |= fit == Fit::Unknown;
                    answers.push(answer);
                    continue;
                }
                Some((answer, Fit::Other(what))) => match self.alike(question) {
                    Some(alike) => answers.push(alike),
                    None => return Err(self.other(files, place, answer, what)),
                },
                None => match self.alike(question) {
                    Some(alike) => answers.push(alike),
                    None => missing.push(question.id.clone().unwrap_or_else(|| (place + 1).to_string())),
                },
            }
        }
        let mut used = vec![false; self.given.len()];
        answers.iter().for_each(|&answer| used[answer] = true);
        let unasked: Vec<String> =
            self.given.iter().zip(&used).filter(|(_, used)| !**used).map(name).collect();
        if !missing.is_empty() || (has_ids && unconfirmed && !unasked.is_empty()) {
            return Err(EvalError::Uncovered {
                questions: files.questions.into(),
                answers: files.answers.into(),
                missing,
                unasked,
            });
        }
        Ok(Paired { answers, unasked })
    }

    /// The answer about the same image and question, if there is exactly one or all of them are
    /// equal.
    fn alike(&self, question: &Question) -> Option<usize> {
        let (image, text) = (question.image.as_deref()?, question.text.as_deref()?);
        let mut fitting = self.known.get(&core(text))?.iter().filter(|&&place| {
            self.given[place].image.as_deref().is_some_and(|other| is_same_image(image, other))
        });
        let first = *fitting.next()?;
        fitting.all(|&place| self.given[place].text == self.given[first].text).then_some(first)
    }

    fn other(&self, files: Files<'_>, place: usize, answer: usize, what: &'static str) -> EvalError {
        let (question, answer) = (&self.asked[place], &self.given[answer]);
        let (expected, found) = match what {
            "image" => (&question.image, &answer.image),
            _ => (&question.text, &answer.question),
        };
        let difference = Box::new(QuestionMismatch {
            what,
            found: found.clone().unwrap_or_default(),
            questions: files.questions.into(),
            question: place + 1,
            expected: expected.clone().unwrap_or_default(),
        });
        EvalError::OtherQuestion { path: files.answers.into(), record: answer.record, difference }
    }
}

/// The sentence of a text that ends with a question mark, or the whole text without one.
fn core(question: &str) -> String {
    let text = bare(question);
    let Some(end) = text.find('?') else { return text };
    let start = text[..end].rfind(['.', '!', ':']).map_or(0, |before| before + 1);
    text[start..=end].trim().to_owned()
}

fn is_known(answer: &Answer) -> bool {
    answer.image.is_some() && answer.question.is_some()
}

fn fit(question: &Question, answer: &Answer) -> Fit {
    let both = |one: &Option<String>, other: &Option<String>, same: fn(&str, &str) -> bool| {
        Some(same(one.as_deref()?, other.as_deref()?))
    };
    let image = both(&question.image, &answer.image, is_same_image);
    let text = both(&question.text, &answer.question, |one, other| {
        is_same_question(one, other) || holds_question(one, other)
    });
    match (image, text) {
        (Some(false), _) => Fit::Other("image"),
        (_, Some(false)) => Fit::Other("question"),
        (None, None) => Fit::Unknown,
        // An image has several questions.
        (Some(true), None) => Fit::Unknown,
        _ => Fit::Same,
    }
}

/// Whether all records have an id; an error if only some have.
fn all_or_none(path: &Path, ids: &[Option<&str>]) -> Result<bool, EvalError> {
    let with = ids.iter().flatten().count();
    match ids.iter().position(Option::is_none) {
        Some(record) if with > 0 => {
            Err(EvalError::NoId { path: path.into(), record: record + 1, with, records: ids.len() })
        }
        record => Ok(record.is_none()),
    }
}

fn by_id<'a>(path: &Path, ids: &[Option<&'a str>]) -> Result<BTreeMap<&'a str, usize>, EvalError> {
    match repeated(path, ids) {
        Some(error) => Err(error),
        None => Ok(ids.iter().enumerate().filter_map(|(place, id)| Some(((*id)?, place))).collect()),
    }
}

fn repeated(path: &Path, ids: &[Option<&str>]) -> Option<EvalError> {
    let mut seen = HashSet::new();
    let record = ids.iter().position(|id| id.is_some_and(|id| !seen.insert(id)))?;
    let id = ids[record]?.to_owned();
    Some(EvalError::Repeated { path: path.into(), record: record + 1, id })
}

fn name((answer, _): (&Answer, &bool)) -> String {
    answer.id.clone().unwrap_or_else(|| format!("record {}", answer.record))
}

impl EvalError {
    /// Checks that two systems have the same questions in the same order. `question` returns what must
    /// be equal, and `name` its name.
    pub(crate) fn check_paired<T, Q: PartialEq>(
        before: &[T],
        after: &[T],
        question: impl Fn(&T) -> Q,
        name: impl Fn(Q) -> String,
    ) -> Result<(), Self> {
        let of = |items: &[T], place: usize| items.get(place).map(&question);
        let mut places = 0..before.len().max(after.len());
        let Some(place) = places.find(|&place| of(before, place) != of(after, place)) else { return Ok(()) };
        let first = of(before, place).or_else(|| of(after, place)).map(name).unwrap_or_default();
        Err(Self::Unpaired { before: before.len(), after: after.len(), first })
    }
}
