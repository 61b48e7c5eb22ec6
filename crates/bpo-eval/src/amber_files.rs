//! Readers of AMBER's files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::amber::{AmberItem, AmberKind};
use crate::answers::{Scored, check_clear};
use crate::asked::{Answered, Asked, yes_no_label};
use crate::error::EvalError;
use crate::pairing::Files;
use crate::pope::PopeLabel;
use crate::records;
use crate::yes_no::YesNoReading;

/// AMBER's files of questions and correct answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmberFiles {
    /// `query_discriminative.json` or one of its parts: `{"id", "image", "query"}`.
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
        let annotations = self.read_annotations()?;
        let questions = &self.questions;
        let asked = Asked::read(questions, |record, question| {
            let id = records::id(question);
            let id = id.ok_or_else(|| records::no_id(questions, record))?;
            annotations.get(&id).copied().ok_or_else(|| EvalError::NoAnnotation {
                path: questions.clone(),
                record,
                id,
                annotations: self.annotations.clone(),
            })
        })?;
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

    fn read_annotations(&self) -> Result<HashMap<String, Annotation>, EvalError> {
        let path = &self.annotations;
        let mut all = HashMap::new();
        for (i, annotation) in records::read_records(path, |error| error)?.iter().enumerate() {
            let record = i + 1;
            let id = records::id(annotation).ok_or_else(|| records::no_id(path, record))?;
            let read = read_annotation(path, record, annotation)?;
            if all.insert(id.clone(), read).is_some() {
                return Err(EvalError::Repeated { path: path.clone(), record, id });
            }
        }
        Ok(all)
    }
}

fn read_annotation(
    path: &Path,
    record: usize,
    annotation: &Map<String, Value>,
) -> Result<Annotation, EvalError> {
    let no_key = |keys| EvalError::NoKey { path: path.into(), record, keys };
    let found = records::find(annotation, &["type"]).ok_or_else(|| no_key(&["type"]))?;
    let kind = match found.as_str() {
        "generative" => return Ok(None),
        "discriminative-hallucination" => AmberKind::Existence,
        "discriminative-attribute-state" => AmberKind::State,
        "discriminative-attribute-number" => AmberKind::Number,
        "discriminative-attribute-action" => AmberKind::Action,
        "discriminative-relation" | "relation" => AmberKind::Relation,
        _ => return Err(EvalError::AmberType { path: path.into(), record, found }),
    };
    let truth = annotation.get("truth").ok_or_else(|| no_key(&["truth"]))?;
    Ok(Some((kind, yes_no_label(path, record, truth)?)))
}
