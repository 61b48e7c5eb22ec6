//! MM-Vet: grades of open answers, by the capabilities that the questions need.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;

/// A question of MM-Vet with the answer of a model and its grades.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MmVetItem {
    /// Id of the question, such as `v1_0`.
    pub id: String,
    /// The question.
    pub question: String,
    /// The correct answer: elements that must all be there with `<AND>` between them, alternatives with
    /// `<OR>`.
    pub reference: String,
    /// The capabilities that the question needs, each once.
    pub capabilities: Vec<String>,
    /// The answer of the model. Empty for grades without answers.
    pub text: String,
    /// The grade of each run, from 0 to 1. Empty for an answer without a grade.
    pub grades: Vec<f64>,
}

impl MmVetItem {
    /// Creates an item without a grade. A repeated capability counts once.
    pub fn new(
        id: impl Into<String>,
        question: impl Into<String>,
        reference: impl Into<String>,
        capabilities: impl IntoIterator<Item = String>,
        text: impl Into<String>,
    ) -> Self {
        let mut kept: Vec<String> = Vec::new();
        for capability in capabilities {
            if !kept.contains(&capability) {
                kept.push(capability);
            }
        }
        let (id, question, reference) = (id.into(), question.into(), reference.into());
        Self { id, question, reference, capabilities: kept, text: text.into(), grades: Vec::new() }
    }

    /// Reads a grade as the published script does: the reply up to its first space is a number from 0
    /// to 1. Returns `None` for any other reply.
    ///
    /// ```
    /// use bpo_eval::MmVetItem;
    ///
    /// assert_eq!(MmVetItem::read_grade("0.7 (partly right)"), Some(0.7));
    /// assert_eq!(MmVetItem::read_grade("The score is 0.7"), None);
    /// ```
    pub fn read_grade(reply: &str) -> Option<f64> {
        let first = reply.split(' ').next()?.trim();
        first.parse().ok().filter(|grade| (0.0..=1.0).contains(grade))
    }

    fn is_graded(&self) -> bool {
        !self.grades.is_empty()
    }
}

/// The score of the questions that need a capability, a combination of capabilities, or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmVetScore {
    /// The capability, the capabilities of a combination with `_` between them, or `total`.
    pub name: String,
    /// Number of graded answers.
    pub items: usize,
    /// Mean grade, from 0 to 1.
    pub score: Estimate,
    /// The mean grade in percent with one decimal, as the published script computes and rounds it.
    pub published: Option<f64>,
}

/// The metrics of graded answers to MM-Vet.
///
/// Yu et al. 2023, [arXiv 2308.02490](https://arxiv.org/abs/2308.02490). If all answers have grades,
/// [`MmVetScore::published`], [`std`](Self::std) and [`runs`](Self::runs) equal the figures of
/// `mm-vet_evaluator.py` of <https://github.com/yuweihao/MM-Vet>. That script counts an answer without a
/// grade as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmVetReport {
    /// Number of graded answers.
    pub items: usize,
    /// Ids of the questions whose answers have no grade. They are left out.
    pub ungraded: Vec<String>,
    /// All questions.
    pub total: MmVetScore,
    /// The total of each run in percent, with one decimal.
    pub runs: Vec<f64>,
    /// Standard deviation of the totals of the runs in percent, with one decimal: the square root of
    /// their mean squared distance from their mean.
    pub std: Option<f64>,
    /// The questions that need each capability, the most frequent capability first.
    pub capabilities: Vec<MmVetScore>,
    /// The questions that need exactly these capabilities, the most frequent combination first.
    pub combinations: Vec<MmVetScore>,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl MmVetReport {
    /// Scores answers. Intervals resample questions.
    pub fn new(items: &[MmVetItem], bootstrap: Bootstrap) -> Self {
        let score = |group: Group| {
            let among = group.items(items);
            let score = bootstrap.estimate(among.len(), |chosen| mean(&among, chosen).map(|m| m / 100.0));
            let all: Vec<usize> = (0..among.len()).collect();
            let published = mean(&among, &all).map(rounded);
            MmVetScore { name: group.name, items: among.len(), score, published }
        };
        let graded = Group::total().items(items);
        let all: Vec<usize> = (0..graded.len()).collect();
        let runs = totals(&graded, &all);
        let ungraded = items.iter().filter(|item| !item.is_graded()).map(|item| item.id.clone()).collect();
        Self {
            items: graded.len(),
            ungraded,
            total: score(Group::total()),
            std: deviation(&runs).map(rounded),
            runs: runs.into_iter().map(rounded).collect(),
            capabilities: Group::capabilities(items).into_iter().map(score).collect(),
            combinations: Group::combinations(items).into_iter().map(score).collect(),
            bootstrap,
        }
    }
}

/// The difference of the scores of a [`MmVetScore`] between two systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmVetDifference {
    /// [`MmVetScore::name`]
    pub name: String,
    /// Number of questions whose answers of both systems have grades.
    pub items: usize,
    /// Difference of the mean grades: 0.1 is ten points more.
    pub score: Estimate,
}

/// The differences of all scores between two systems on the same questions, `after - before`.
///
/// Both systems are resampled together, by question, so that the difficulty of a question cancels out.
/// Questions with a grade of only one system are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MmVetDifferences {
    /// Difference of [`MmVetReport::total`].
    pub total: MmVetDifference,
    /// Differences of [`MmVetReport::capabilities`].
    pub capabilities: Vec<MmVetDifference>,
    /// Differences of [`MmVetReport::combinations`].
    pub combinations: Vec<MmVetDifference>,
}

impl MmVetDifferences {
    /// Compares the answers of two systems to the same questions, in the same order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists differ in a question or its capabilities.
    pub fn new(before: &[MmVetItem], after: &[MmVetItem], bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let question = |item: &MmVetItem| (item.id.clone(), item.capabilities.clone());
        EvalError::check_paired(before, after, question, |(id, _)| id)?;
        let both = |one: &[MmVetItem], other: &[MmVetItem]| -> Vec<MmVetItem> {
            let graded = one.iter().zip(other).filter(|(one, other)| one.is_graded() && other.is_graded());
            graded.map(|(one, _)| one.clone()).collect()
        };
        let (capabilities, combinations) = (Group::capabilities(before), Group::combinations(before));
        let (before, after) = (both(before, after), both(after, before));
        let difference = |group: Group| {
            let [before, after] = [&before, &after].map(|items| group.items(items));
            let score = bootstrap.estimate(before.len(), |chosen| {
                Some((mean(&after, chosen)? - mean(&before, chosen)?) / 100.0)
            });
            MmVetDifference { name: group.name, items: before.len(), score }
        };
        Ok(Self {
            total: difference(Group::total()),
            capabilities: capabilities.into_iter().map(difference).collect(),
            combinations: combinations.into_iter().map(difference).collect(),
        })
    }
}

/// The questions with some capabilities.
struct Group {
    name: String,
    needs: Needs,
}

enum Needs {
    Anything,
    One(String),
    /// Exactly these, sorted.
    Exactly(Vec<String>),
}

impl Group {
    fn total() -> Self {
        Self { name: "total".to_owned(), needs: Needs::Anything }
    }

    /// The capabilities of all questions, by their number of questions.
    fn capabilities(items: &[MmVetItem]) -> Vec<Self> {
        let one = |name: String| Self { needs: Needs::One(name.clone()), name };
        by_count(items.iter().flat_map(|item| item.capabilities.clone())).into_iter().map(one).collect()
    }

    /// The combinations of all questions, by their number of questions. A name has the capabilities in
    /// the order of [`capabilities`](Self::capabilities), while the published script has them in a random
    /// order.
    fn combinations(items: &[MmVetItem]) -> Vec<Self> {
        let order = by_count(items.iter().flat_map(|item| item.capabilities.clone()));
        let named = |needs: Vec<String>| {
            let names: Vec<&str> =
                order.iter().filter(|name| needs.contains(name)).map(String::as_str).collect();
            Self { name: names.join("_"), needs: Needs::Exactly(needs) }
        };
        by_count(items.iter().map(sorted)).into_iter().map(named).collect()
    }

    /// The graded answers of the group, in their order.
    fn items<'a>(&self, items: &'a [MmVetItem]) -> Vec<&'a MmVetItem> {
        let belongs = |item: &&MmVetItem| match &self.needs {
            Needs::Anything => true,
            Needs::One(capability) => item.capabilities.contains(capability),
            Needs::Exactly(needs) => sorted(item) == *needs,
        };
        items.iter().filter(|item| item.is_graded()).filter(belongs).collect()
    }
}

fn sorted(item: &MmVetItem) -> Vec<String> {
    let mut needs = item.capabilities.clone();
    needs.sort_unstable();
    needs
}

/// The values without repetition, the most frequent first; equally frequent ones in their order.
fn by_count<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut counted: Vec<(usize, T)> = Vec::new();
    for value in values {
        match counted.iter_mut().find(|(_, known)| *known == value) {
            Some((count, _)) => *count += 1,
            None => counted.push((1, value)),
        }
    }
    counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counted.into_iter().map(|(_, value)| value).collect()
}

/// The mean grade of each run in percent, with the operations of the published script in their order.
fn totals(items: &[&MmVetItem], chosen: &[usize]) -> Vec<f64> {
    let runs = items.iter().map(|item| item.grades.len()).min().unwrap_or(0);
    let mut sums = vec![0.0; runs];
    for &place in chosen {
        sums.iter_mut().zip(&items[place].grades).for_each(|(sum, grade)| *sum += grade);
    }
    sums.into_iter().map(|sum| sum / chosen.len() as f64 * 100.0).collect()
}

/// The mean of the totals of all runs, or `None` without an answer.
fn mean(items: &[&MmVetItem], chosen: &[usize]) -> Option<f64> {
    mean_of(&totals(items, chosen)).filter(|_| !chosen.is_empty())
}

fn mean_of(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation without a correction for the number of runs, as NumPy's `std`.
fn deviation(runs: &[f64]) -> Option<f64> {
    let mean = mean_of(runs)?;
    let squares: Vec<f64> = runs.iter().map(|run| (run - mean) * (run - mean)).collect();
    mean_of(&squares).map(f64::sqrt)
}

/// Rounds to one decimal like NumPy's `round`, which multiplies, rounds ties to even and divides.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round_ties_even() / 10.0
}
