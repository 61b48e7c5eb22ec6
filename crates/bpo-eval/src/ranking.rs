//! Ranked lists with one relevant item: hit rate and NDCG.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;

/// A list that a model gave, and the place of the relevant item in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RankingItem {
    /// Id of the question, or its number in the file.
    pub question: String,
    /// The relevant item.
    pub label: String,
    /// The answer of the model.
    pub text: String,
    /// Number of items in the answer.
    pub listed: usize,
    /// Place of the relevant item in the answer, from 0, or `None` if the answer does not list it.
    pub place: Option<usize>,
}

impl RankingItem {
    /// Reads an answer with one item per line, the best first, like HaNoRec's `llm_infer.py`: without
    /// blank lines, and without spaces and double quotes around an item. An item is the relevant one
    /// if it is equal to the first item of `label`, which is read alike.
    ///
    /// ```
    /// use bpo_eval::RankingItem;
    ///
    /// let item = RankingItem::new("7", "\"Alien\"", "\"Brazil\"\n\"Alien\"");
    /// assert_eq!((item.listed, item.place), (2, Some(1)));
    /// ```
    pub fn new(question: impl Into<String>, label: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        let label = items(label).next().unwrap_or_default().to_owned();
        let (listed, place) = (items(&text).count(), items(&text).position(|item| item == label));
        Self { question: question.into(), label, text, listed, place }
    }
}

/// The items of a list. Python's `strip('" ')` removes only these two signs from a line.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.trim().split('\n').filter(|line| !line.trim().is_empty());
    lines.map(|line| line.trim_matches(['"', ' ']))
}

/// The metrics of a set of ranked lists, from 0 to 1.
///
/// Both equal those of `validation/llm_infer.py` of <https://github.com/wangyu0627/HaNoRec>. With one
/// relevant item the ideal DCG is 1 (Järvelin and Kekäläinen, 2002).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankingReport {
    /// Number of lists.
    pub items: usize,
    /// Number of items of a list that count, from its start.
    pub k: usize,
    /// Number of answers without an item. They count as misses.
    pub empty: usize,
    /// HR@k: lists whose first k items have the relevant one, divided by all lists.
    pub hit_rate: Estimate,
    /// NDCG@k: mean of `1 / log2(place + 2)` over all lists, where `place` is that of the relevant item,
    /// from 0; it is 0 if the item is not among the first k.
    pub ndcg: Estimate,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl RankingReport {
    /// Scores lists. Intervals resample lists.
    pub fn new(items: &[RankingItem], k: usize, bootstrap: Bootstrap) -> Self {
        let estimate = |gain: Gain| bootstrap.estimate(items.len(), |chosen| mean(gain, items, k, chosen));
        Self {
            items: items.len(),
            k,
            empty: items.iter().filter(|item| item.listed == 0).count(),
            hit_rate: estimate(hit),
            ndcg: estimate(discounted),
            bootstrap,
        }
    }
}

/// The differences of the metrics between two systems on the same questions, `after - before`: 0.1 is
/// ten points more.
///
/// Both systems are resampled together, by question, so that the difficulty of a question cancels
/// out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankingDifferences {
    /// Number of items of a list that count.
    pub k: usize,
    /// Difference of [`RankingReport::hit_rate`].
    pub hit_rate: Estimate,
    /// Difference of [`RankingReport::ndcg`].
    pub ndcg: Estimate,
}

impl RankingDifferences {
    /// Compares the answers of two systems to the same questions, in the same order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists differ in a question or a relevant item.
    pub fn new(
        before: &[RankingItem],
        after: &[RankingItem],
        k: usize,
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let question = |item: &RankingItem| (item.question.clone(), item.label.clone());
        EvalError::check_paired(before, after, question, |(question, _)| question)?;
        let difference = |gain: Gain| {
            bootstrap.estimate(before.len(), |chosen| {
                Some(mean(gain, after, k, chosen)? - mean(gain, before, k, chosen)?)
            })
        };
        Ok(Self { k, hit_rate: difference(hit), ndcg: difference(discounted) })
    }
}

/// The value of a relevant item among the first k, by its place from 0.
type Gain = fn(usize) -> f64;

fn hit(_: usize) -> f64 {
    1.0
}

fn discounted(place: usize) -> f64 {
    1.0 / (place as f64 + 2.0).log2()
}

fn mean(gain: Gain, items: &[RankingItem], k: usize, chosen: &[usize]) -> Option<f64> {
    let places = chosen.iter().filter_map(|&item| items[item].place);
    // `sum` of nothing is -0
    let sum = places.filter(|place| *place < k).map(gain).fold(0.0, |sum, gain| sum + gain);
    (!chosen.is_empty()).then(|| sum / chosen.len() as f64)
}
