//! MMHal-Bench: ratings of open answers from 0 to 6.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;

/// What a question of MMHal-Bench is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MmhalKind {
    /// Attributes of an object, such as its colour.
    Attribute,
    /// An object that the image does not show.
    Adversarial,
    /// A comparison of objects.
    Comparison,
    /// The number of objects.
    Counting,
    /// The place of an object in relation to others.
    Relation,
    /// The place where the image was taken.
    Environment,
    /// A description of the whole image.
    Holistic,
    /// Anything else, such as a text in the image.
    Other,
}

impl MmhalKind {
    /// All kinds, in the order of the published script.
    pub const ALL: [Self; 8] = [
        Self::Attribute,
        Self::Adversarial,
        Self::Comparison,
        Self::Counting,
        Self::Relation,
        Self::Environment,
        Self::Holistic,
        Self::Other,
    ];

    /// The name in `response_template.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::Adversarial => "adversarial",
            Self::Comparison => "comparison",
            Self::Counting => "counting",
            Self::Relation => "relation",
            Self::Environment => "environment",
            Self::Holistic => "holistic",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for MmhalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A question of MMHal-Bench with the answer of a model and its rating.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MmhalItem {
    /// Number of the question in its file, from 1.
    pub id: String,
    /// What the question is about.
    pub kind: MmhalKind,
    /// The question. Empty for a rating without the question, like the following texts.
    pub question: String,
    /// The answer of a human.
    pub reference: String,
    /// Names of the objects in the image, with commas between them.
    pub image_content: String,
    /// The answer of the model.
    pub text: String,
    /// The rating, from 0 to 6, or `None` for an answer without one.
    pub rating: Option<u8>,
}

impl MmhalItem {
    /// Reads a rating as the published script does: exactly one of `rating: 0` to `rating: 6`, in any
    /// case, is in the reply. Returns `None` for any other reply, which the script counts as 0.
    ///
    /// ```
    /// use bpo_eval::MmhalItem;
    ///
    /// assert_eq!(MmhalItem::read_rating("It is right.\nRating: 5, very informative"), Some(5));
    /// assert_eq!(MmhalItem::read_rating("Rating: 5 or rating: 4"), None);
    /// ```
    pub fn read_rating(reply: &str) -> Option<u8> {
        let reply = reply.to_lowercase();
        let mut found = (0..=6).filter(|rating| reply.contains(&format!("rating: {rating}")));
        found.next().filter(|_| found.next().is_none())
    }
}

/// The ratings of the questions of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmhalScore {
    /// What the questions are about.
    pub kind: MmhalKind,
    /// Number of rated answers.
    pub items: usize,
    /// Mean rating, from 0 to 6.
    pub score: Estimate,
}

/// The metrics of rated answers to MMHal-Bench.
///
/// Sun et al. 2023, [arXiv 2309.14525](https://arxiv.org/abs/2309.14525). If all 96 answers have ratings,
/// the values with two decimals equal those that the published `eval_gpt4.py` prints
/// (<https://huggingface.co/datasets/Shengcao1006/MMHal-Bench>).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmhalReport {
    /// Number of rated answers.
    pub items: usize,
    /// Numbers of the questions whose answers have no rating. They are left out.
    pub ungraded: Vec<String>,
    /// Mean rating, from 0 to 6.
    pub score: Estimate,
    /// Answers with a rating below 3, divided by all rated answers.
    pub hallucination_rate: Estimate,
    /// The mean rating of each kind of questions, in the order of the published script.
    pub kinds: Vec<MmhalScore>,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl MmhalReport {
    /// Scores answers. Intervals resample questions.
    pub fn new(items: &[MmhalItem], bootstrap: Bootstrap) -> Self {
        let estimate = |among: &[u8], metric: Metric| {
            bootstrap.estimate(among.len(), |chosen| metric(&mut chosen.iter().map(|&place| among[place])))
        };
        let rated = ratings(items, |_| true);
        let kinds = MmhalKind::ALL.into_iter().filter(|kind| items.iter().any(|item| item.kind == *kind));
        let kinds = kinds.map(|kind| {
            let among = ratings(items, |item| item.kind == kind);
            MmhalScore { kind, items: among.len(), score: estimate(&among, mean) }
        });
        let ungraded = items.iter().filter(|item| item.rating.is_none()).map(|item| item.id.clone());
        Self {
            items: rated.len(),
            ungraded: ungraded.collect(),
            score: estimate(&rated, mean),
            hallucination_rate: estimate(&rated, hallucinated),
            kinds: kinds.collect(),
            bootstrap,
        }
    }
}

/// The differences of the metrics between two systems on the same questions, `after - before`.
///
/// Both systems are resampled together, by question, so that the difficulty of a question cancels out.
/// Questions with a rating of only one system are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmhalDifferences {
    /// Number of questions whose answers of both systems have ratings.
    pub items: usize,
    /// Difference of [`MmhalReport::score`].
    pub score: Estimate,
    /// Difference of [`MmhalReport::hallucination_rate`].
    pub hallucination_rate: Estimate,
    /// Differences of [`MmhalReport::kinds`].
    pub kinds: Vec<MmhalScore>,
}

impl MmhalDifferences {
    /// Compares the answers of two systems to the same questions, in the same order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists differ in a question or its kind.
    pub fn new(before: &[MmhalItem], after: &[MmhalItem], bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let question = |item: &MmhalItem| (item.id.clone(), item.kind, item.question.clone());
        EvalError::check_paired(before, after, question, |(id, ..)| id)?;
        let both = |of_kind: &dyn Fn(MmhalKind) -> bool| -> Vec<(u8, u8)> {
            let pairs = before.iter().zip(after).filter(|(before, _)| of_kind(before.kind));
            pairs.filter_map(|(before, after)| Some((before.rating?, after.rating?))).collect()
        };
        let estimate = |pairs: &[(u8, u8)], metric: Metric| {
            bootstrap.estimate(pairs.len(), |chosen| {
                let after = metric(&mut chosen.iter().map(|&place| pairs[place].1))?;
                Some(after - metric(&mut chosen.iter().map(|&place| pairs[place].0))?)
            })
        };
        let all = both(&|_| true);
        let kinds = MmhalKind::ALL.into_iter().filter(|kind| before.iter().any(|item| item.kind == *kind));
        let kinds = kinds.map(|kind| {
            let pairs = both(&|other| other == kind);
            MmhalScore { kind, items: pairs.len(), score: estimate(&pairs, mean) }
        });
        Ok(Self {
            items: all.len(),
            score: estimate(&all, mean),
            hallucination_rate: estimate(&all, hallucinated),
            kinds: kinds.collect(),
        })
    }
}

/// A metric of ratings, or `None` without a rating.
type Metric = fn(&mut dyn Iterator<Item = u8>) -> Option<f64>;

fn mean(ratings: &mut dyn Iterator<Item = u8>) -> Option<f64> {
    let (sum, count) = ratings.fold((0, 0), |(sum, count), rating| (sum + usize::from(rating), count + 1));
    (count > 0).then(|| sum as f64 / count as f64)
}

fn hallucinated(ratings: &mut dyn Iterator<Item = u8>) -> Option<f64> {
    mean(&mut ratings.map(|rating| u8::from(rating < 3)))
}

fn ratings(items: &[MmhalItem], belongs: impl Fn(&MmhalItem) -> bool) -> Vec<u8> {
    items.iter().filter(|item| belongs(item)).filter_map(|item| item.rating).collect()
}
