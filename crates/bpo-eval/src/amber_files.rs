//! Readers of AMBER's files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::amber::{AmberItem, AmberKind};
use crate::amber_captions::AmberCaption;
use crate::amber_words::AmberWords;
use crate::answers::{Scored, check_clear};
use crate::asked::{Answered, Asked, yes_no_label};
use crate::error::EvalError;
use crate::pairing::Files;
use crate::pope::PopeLabel;
use crate::records;
use crate::yes_no::YesNoReading;

/// The key of the nouns of a description.
const NOUNS: &[&str] = &["nouns"];

/// AMBER's files of questions and correct answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmberFiles {
    /// `query_discriminative.json` or one of its parts, or `query_generative.json`: `{"id", "image", "query"}`.
    pub questions: PathBuf,
    /// `annotations.json`: `{"id", "type", "truth"}`.
    pub annotations: PathBuf,
}

/// Kind and label of a question, or `None` for one of the generative task.
type Annotation = Option<(AmberKind, PopeLabel)>;

impl AmberFiles {
    /// Reads the answers to the questions. The keys of answers, and how they are matched to the
    /// questions, are those of [`read_pope_answers`](crate::read_pope_answers).
    ///
    /// Questions of the generative task (`query_all.json`) need an answer too, which is not scored.
    ///
    /// # Errors
    /// - [`EvalError::Read`], [`EvalError::Records`] for files that cannot be read.
    /// - [`EvalError::NoKey`], [`EvalError::AmberType`], [`EvalError::Label`],
    ///   [`EvalError::Repeated`] for annotations that cannot be used, and
    ///   [`EvalError::NoAnnotation`] for a question without one.
    /// - The errors of [`read_pope_answers`](crate::read_pope_answers) for the answers.
    pub fn read_answers(
        &self,
        answers: &Path,
        reading: YesNoReading,
    ) -> Result<Scored<AmberItem>, EvalError> {
        let asked = self.read_questions(read_annotation)?;
        let questions = &self.questions;
        let given = records::read_answers(answers, |one, other| one.trim() == other.trim())?;
        let Scored { items, unmatched } = asked.answered(Files { questions, answers }, &given)?;
        let item = |answered: Answered<Annotation>| {
            let (kind, label) = answered.label?;
            Some(AmberItem::new(answered.image(), kind, label, answered.answer.text, reading))
        };
        let items: Vec<AmberItem> = items.into_iter().filter_map(item).collect();
        check_clear(answers, &items, reading == YesNoReading::AsPublished, |item| {
            (&item.text, item.answer.is_some())
        })?;
        Ok(Scored { items, unmatched })
    }

    /// Reads the nouns of descriptions, which another program found in them:
    /// `{"id", "response", "nouns": ["dog", ...]}`. The keys of answers, and how they are matched to the
    /// questions, are those of [`read_pope_answers`](crate::read_pope_answers).
    ///
    /// Questions of the discriminative task (`query_all.json`) need an answer too, which is not scored.
    ///
    /// # Errors
    /// - [`EvalError::NoKey`], [`EvalError::NoNames`] for an annotation or a description without lists of
    ///   names.
    /// - [`EvalError::Words`] for a word of an annotation that `relation.json` does not have.
    /// - The errors of [`read_answers`](Self::read_answers).
    pub fn read_captions(
        &self,
        answers: &Path,
        words: &AmberWords,
    ) -> Result<Scored<AmberCaption>, EvalError> {
        let asked = self.read_questions(|path, record, annotation| {
            if kind(path, record, annotation)?.is_some() {
                return Ok(None);
            }
            let objects = |key: &'static [&'static str]| {
                let names = records::names(path, record, key, annotation.get(key[0]).cloned())?;
                words.objects(path, record, names)
            };
            Ok(Some((objects(&["truth"])?, objects(&["hallu"])?)))
        })?;
        let given = records::read_with(answers, |one, other| one.trim() == other.trim(), NOUNS[0])?;
        let (given, mut nouns): (Vec<_>, Vec<_>) = given.into_iter().unzip();
        let files = Files { questions: &self.questions, answers };
        let Scored { items: answered, unmatched } = asked.answered(files, &given)?;
        let mut items = Vec::new();
        for (place, answered) in answered.into_iter().enumerate() {
            let Some((truth, likely)) = &answered.label else { continue };
            let record = answered.answer.record;
            let nouns = nouns.get_mut(record - 1).and_then(Option::take);
            let nouns = records::names(answers, record, NOUNS, nouns)?;
            let name = (answered.name(place + 1), answered.image());
            items.push(AmberCaption::new(words, name, &nouns, (truth, likely)));
        }
        Ok(Scored { items, unmatched })
    }

    /// Reads the questions, each with what `read` makes of its annotation.
    fn read_questions<T: Clone>(
        &self,
        read: impl Fn(&Path, usize, &Map<String, Value>) -> Result<T, EvalError>,
    ) -> Result<Asked<T>, EvalError> {
        let (questions, path) = (&self.questions, &self.annotations);
        let mut all = HashMap::new();
        for (i, annotation) in records::read_records(path, |error| error)?.iter().enumerate() {
            let record = i + 1;
            let id = records::id(annotation).ok_or_else(|| records::no_id(path, record))?;
            if all.insert(id.clone(), read(path, record, annotation)?).is_some() {
                return Err(EvalError::Repeated { path: path.clone(), record, id });
            }
        }
        Asked::read(questions, |record, question| {
            let id = records::id(question);
            let id = id.ok_or_else(|| records::no_id(questions, record))?;
            all.get(&id).cloned().ok_or_else(|| EvalError::NoAnnotation {
                path: questions.clone(),
                record,
                id,
                annotations: path.clone(),
            })
        })
    }
}

fn read_annotation(
    path: &Path,
    record: usize,
    annotation: &Map<String, Value>,
) -> Result<Annotation, EvalError> {
    let Some(kind) = kind(path, record, annotation)? else { return Ok(None) };
    let keys = &["truth"];
    let truth =
        annotation.get("truth").ok_or_else(|| EvalError::NoKey { path: path.into(), record, keys })?;
    Ok(Some((kind, yes_no_label(path, record, truth)?)))
}

/// The kind of a question, or `None` for one of the generative task.
fn kind(path: &Path, record: usize, annotation: &Map<String, Value>) -> Result<Option<AmberKind>, EvalError> {
    let keys = &["type"];
    let found = records::find(annotation, keys);
    let found = found.ok_or_else(|| EvalError::NoKey { path: path.into(), record, keys })?;
    Ok(Some(match found.as_str() {
        "generative" => return Ok(None),
        "discriminative-hallucination" => AmberKind::Existence,
        "discriminative-attribute-state" => AmberKind::State,
        "discriminative-attribute-number" => AmberKind::Number,
        "discriminative-attribute-action" => AmberKind::Action,
        "discriminative-relation" | "relation" => AmberKind::Relation,
        _ => return Err(EvalError::AmberType { path: path.into(), record, found }),
    }))
}
