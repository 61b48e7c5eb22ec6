//! Readers of questions and answers of recommendation tasks.

use std::path::Path;

use crate::answers::{Scored, check_clear};
use crate::asked::{Answered, Asked, label, yes_no_label};
use crate::auc::AucItem;
use crate::error::EvalError;
use crate::pairing::Files;
use crate::pope::PopeLabel;
use crate::ranking::RankingItem;
use crate::records::{self, ScoreAnswers};
use crate::yes_no::YesNoReading;

/// What the label of a question about a list must be.
const ITEM: &str = "\"label\": \"...\" with the relevant item";

/// Reads questions (`{"id", "image", "prompt", "label"}`, where the label is the relevant item) and the
/// lists that answer them, with one item per line.
///
/// Keys of answers, and how they are matched to the questions, are those of
/// [`read_pope_answers`](crate::read_pope_answers).
///
/// # Errors
/// - [`EvalError::Read`], [`EvalError::Records`] for files that cannot be read.
/// - [`EvalError::NoLabel`] for a question without a label.
/// - The errors of [`read_pope_answers`](crate::read_pope_answers) for the answers.
pub fn read_ranking_answers(questions: &Path, answers: &Path) -> Result<Scored<RankingItem>, EvalError> {
    let asked = Asked::read(questions, |record, question| {
        let label = records::plain(label(questions, record, question, ITEM)?).unwrap_or_default();
        match label.trim() {
            "" => Err(EvalError::NoLabel { path: questions.into(), record, expected: ITEM }),
            label => Ok((record, label.to_owned())),
        }
    })?;
    // an empty answer is an empty list, which is counted
    let given = records::read_with_empty(answers, |one, other| one.trim() == other.trim())?;
    let Scored { items, unmatched } = asked.answered(Files { questions, answers }, &given)?;
    let item = |answered: Answered<(usize, String)>| {
        let (record, label) = &answered.label;
        RankingItem::new(answered.name(*record), label, answered.answer.text.as_str())
    };
    Ok(Scored { items: items.into_iter().map(item).collect(), unmatched })
}

/// Reads questions (`{"id", "image", "prompt", "label"}`, where the label is yes or no) and the answers
/// to them: texts, or numbers under `score`, which are higher for yes.
///
/// Keys of texts, and how answers are matched to the questions, are those of
/// [`read_pope_answers`](crate::read_pope_answers).
///
/// # Errors
/// - [`EvalError::NoScore`] if only some answers have a score, or one is no number.
/// - [`EvalError::FirstWordOfScore`] for scores with [`YesNoReading::FirstWord`].
/// - The errors of [`read_pope_answers`](crate::read_pope_answers).
pub fn read_auc_answers(
    questions: &Path,
    answers: &Path,
    reading: YesNoReading,
) -> Result<Scored<AucItem>, EvalError> {
    let asked = Asked::read(questions, |record, question| {
        let label = label(questions, record, question, records::YES_NO)?;
        Ok((record, yes_no_label(questions, record, label)?))
    })?;
    let (given, scores) = match records::read_scores(answers)? {
        Some(_) if reading == YesNoReading::FirstWord => {
            return Err(EvalError::FirstWordOfScore { path: answers.into() });
        }
        Some(ScoreAnswers { answers, scores }) => (answers, Some(scores)),
        None => (records::read_answers(answers, |one, other| one.trim() == other.trim())?, None),
    };
    let Scored { items, unmatched } = asked.answered(Files { questions, answers }, &given)?;
    let item = |answered: Answered<(usize, PopeLabel)>| {
        let (record, label) = answered.label;
        let name = answered.name(record);
        match &scores {
            Some(scores) => AucItem::with_score(name, label, scores[answered.answer.record - 1]),
            None => AucItem::new(name, label, answered.answer.text, reading),
        }
    };
    let items: Vec<AucItem> = items.into_iter().map(item).collect();
    check_clear(answers, &items, reading == YesNoReading::AsPublished, |item| {
        (&item.text, item.score.is_some())
    })?;
    Ok(Scored { items, unmatched })
}
