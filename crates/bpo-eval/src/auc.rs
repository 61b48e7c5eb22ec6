//! AUC of yes-or-no answers or scores.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;
use crate::pope::PopeLabel;
use crate::yes_no::{YesNoReading, first_word};

/// A question with its answer as a score.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AucItem {
    /// Id of the question, or its number in the file.
    pub question: String,
    /// The correct answer. Yes is the positive class.
    pub label: PopeLabel,
    /// The answer of the model, as it was written.
    pub text: String,
    /// The score, higher for yes, or `None` if the answer is unclear.
    pub score: Option<f64>,
}

impl AucItem {
    /// Reads an answer: a yes has the score 1, a no the score 0. HaNoRec's published script knows `yes`
    /// and `no` in any case, with white space around them.
    pub fn new(
        question: impl Into<String>,
        label: PopeLabel,
        text: impl Into<String>,
        reading: YesNoReading,
    ) -> Self {
        let text = text.into();
        let answer = match (reading, text.trim().to_lowercase().as_str()) {
            (YesNoReading::FirstWord, _) => first_word(&text),
            (YesNoReading::AsPublished, "yes") => Some(PopeLabel::Yes),
            (YesNoReading::AsPublished, "no") => Some(PopeLabel::No),
            (YesNoReading::AsPublished, _) => None,
        };
        let score = answer.map(|answer| f64::from(u8::from(answer == PopeLabel::Yes)));
        Self { question: question.into(), label, text, score }
    }

    /// Creates an item with a score, higher for yes. A score that is not finite is unclear.
    pub fn with_score(question: impl Into<String>, label: PopeLabel, score: f64) -> Self {
        let text = score.to_string();
        Self { question: question.into(), label, text, score: Some(score).filter(|score| score.is_finite()) }
    }
}

/// The area under the ROC curve of a set of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AucReport {
    /// Number of questions.
    pub items: usize,
    /// Number of unclear answers, which are left out.
    pub unclear: usize,
    /// AUC: the share of pairs of a question with the label yes and one with the label no in which the
    /// first has the higher score. Equal scores count half. `None` if all labels are the same.
    ///
    /// It equals scikit-learn's `roc_auc_score` and, for yes-or-no answers, the mean of the shares of
    /// right answers among both labels.
    pub auc: Estimate,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl AucReport {
    /// Scores answers. Intervals resample answers.
    pub fn new(items: &[AucItem], bootstrap: Bootstrap) -> Self {
        let ranked = Ranked::new(items);
        let auc = bootstrap.estimate(items.len(), |chosen| ranked.auc(chosen));
        let unclear = items.iter().filter(|item| item.score.is_none()).count();
        Self { items: items.len(), unclear, auc, bootstrap }
    }
}

/// The difference of the AUC between two systems on the same questions, `after - before`: 0.1 is ten
/// points more.
///
/// Both systems are resampled together, by question, so that the difficulty of a question cancels
/// out. Each leaves out its own unclear answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AucDifferences {
    /// Difference of [`AucReport::auc`].
    pub auc: Estimate,
}

impl AucDifferences {
    /// Compares the answers of two systems to the same questions, in the same order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists differ in a question or a label.
    pub fn new(before: &[AucItem], after: &[AucItem], bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let question = |item: &AucItem| (item.question.clone(), item.label);
        EvalError::check_paired(before, after, question, |(question, _)| question)?;
        let items = before.len();
        let [before, after] = [before, after].map(Ranked::new);
        let auc = bootstrap.estimate(items, |chosen| Some(after.auc(chosen)? - before.auc(chosen)?));
        Ok(Self { auc })
    }
}

/// Answers with the rank of their score, so that a resample needs no sorting.
struct Ranked {
    /// The rank among the distinct scores, and whether the label is yes. `None` for an unclear answer.
    answers: Vec<Option<(usize, bool)>>,
    /// Number of distinct scores.
    ranks: usize,
}

impl Ranked {
    fn new(items: &[AucItem]) -> Self {
        let mut scores: Vec<f64> = items.iter().filter_map(|item| item.score).collect();
        scores.sort_by(f64::total_cmp);
        // by ==, which has one zero
        scores.dedup();
        let rank = |item: &AucItem| {
            let score = item.score?;
            Some((scores.partition_point(|other| *other < score), item.label == PopeLabel::Yes))
        };
        Self { answers: items.iter().map(rank).collect(), ranks: scores.len() }
    }

    /// The AUC of the chosen answers (Mann and Whitney, 1947), or `None` if all labels are the same.
    fn auc(&self, chosen: &[usize]) -> Option<f64> {
        let mut counts = vec![(0u64, 0u64); self.ranks];
        for (rank, is_yes) in chosen.iter().filter_map(|&answer| self.answers[answer]) {
            let (yes, no) = &mut counts[rank];
            *(if is_yes { yes } else { no }) += 1;
        }
        let (mut all_yes, mut all_no, mut won) = (0, 0, 0.0);
        for (yes, no) in counts {
            won += yes as f64 * (all_no as f64 + 0.5 * no as f64);
            all_yes += yes;
            all_no += no;
        }
        let pairs = all_yes as f64 * all_no as f64;
        (pairs > 0.0).then(|| won / pairs)
    }
}
