//! CHAIR: the share of objects in an answer that the image does not show.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;
use crate::objects::{Mention, ObjectTable, count_words};

/// An answer with its object mentions, compared with the objects of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChairItem {
    /// Name of the image.
    pub image: String,
    /// The answer.
    pub text: String,
    /// The mentions of objects, each with whether the image shows the object. Those of
    /// [extracted names](Self::from_names) have the empty range at the start of the text.
    pub mentions: Vec<(Mention, bool)>,
    /// Words of extracted names that the table does not have.
    pub unknown: Vec<String>,
    counts: Counts,
}

/// Counts from which the metrics are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    answers: usize,
    answers_with_mention: usize,
    answers_with_false: usize,
    mentions: usize,
    false_mentions: usize,
    named: usize,
    named_true: usize,
    shown: usize,
    words: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.answers_with_mention += other.answers_with_mention;
        self.answers_with_false += other.answers_with_false;
        self.mentions += other.mentions;
        self.false_mentions += other.false_mentions;
        self.named += other.named;
        self.named_true += other.named_true;
        self.shown += other.shown;
        self.words += other.words;
    }
}

impl ChairItem {
    /// Finds the objects in an answer. Objects of `truth` that are not in the table do not count.
    pub fn new(
        table: &ObjectTable,
        image: impl Into<String>,
        text: impl Into<String>,
        truth: &BTreeSet<String>,
    ) -> Self {
        let (image, text) = (image.into(), text.into());
        let (mentions, words) = (table.mentions(&text), count_words(&text));
        Self::of_mentions(table, image, text, mentions, words, truth)
    }

    /// An answer of `words` words in which a language model found objects.
    pub(crate) fn of_objects(
        table: &ObjectTable,
        image: String,
        text: String,
        objects: &[&str],
        unknown: Vec<String>,
        words: usize,
        truth: &BTreeSet<String>,
    ) -> Self {
        let mention = |object: &&str| Mention { object: (*object).to_owned(), start: 0, end: 0 };
        let mentions = objects.iter().map(mention).collect();
        Self { unknown, ..Self::of_mentions(table, image, text, mentions, words, truth) }
    }

    fn of_mentions(
        table: &ObjectTable,
        image: String,
        text: String,
        mentions: Vec<Mention>,
        words: usize,
        truth: &BTreeSet<String>,
    ) -> Self {
        let shown: BTreeSet<&str> = truth.iter().filter_map(|object| table.find(object)).collect();
        let mentions: Vec<(Mention, bool)> = mentions
            .into_iter()
            .map(|mention| {
                let there = shown.contains(mention.object.as_str());
                (mention, there)
            })
            .collect();
        let named: BTreeSet<&str> = mentions.iter().map(|(mention, _)| mention.object.as_str()).collect();
        let false_mentions = mentions.iter().filter(|(_, there)| !there).count();
        let counts = Counts {
            answers: 1,
            answers_with_mention: usize::from(!mentions.is_empty()),
            answers_with_false: usize::from(false_mentions > 0),
            mentions: mentions.len(),
            false_mentions,
            named: named.len(),
            named_true: named.intersection(&shown).count(),
            shown: shown.len(),
            words,
        };
        Self { image, text, mentions, unknown: Vec::new(), counts }
    }
}

/// A metric of a set of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChairMetric {
    /// CHAIR_i: mentions of objects that the image does not show, divided by all mentions. Repeated
    /// mentions count each time.
    ChairI,
    /// CHAIR_s: answers with at least one such mention, divided by all answers.
    ChairS,
    /// Answers with at least one such mention, divided by the answers that name an object: the response
    /// hallucination rate of Object HalBench.
    ChairSNaming,
    /// Shown objects that are named, divided by all shown objects.
    Recall,
    /// Named objects that are shown, divided by all named objects.
    Precision,
    /// Harmonic mean of precision and recall.
    F1,
    /// Mean number of different objects named in an answer.
    Objects,
    /// Mean number of words of an answer.
    Words,
}

impl ChairMetric {
    fn of(self, counted: &[Counts], chosen: &[usize]) -> Option<f64> {
        let mut sum = Counts::default();
        chosen.iter().for_each(|&place| sum.add(counted[place]));
        let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        match self {
            Self::ChairI => share(sum.false_mentions, sum.mentions),
            Self::ChairS => share(sum.answers_with_false, sum.answers),
            Self::ChairSNaming => share(sum.answers_with_false, sum.answers_with_mention),
            Self::Recall => share(sum.named_true, sum.shown),
            Self::Precision => share(sum.named_true, sum.named),
            // Equals 2 p r / (p + r).
            Self::F1 => share(2 * sum.named_true, sum.named + sum.shown),
            Self::Objects => share(sum.named, sum.answers),
            Self::Words => share(sum.words, sum.answers),
        }
    }
}

/// The metrics of a set of answers. Shares are from 0 to 1.
///
/// CHAIR_i and CHAIR_s: Rohrbach et al. 2018, [arXiv 1809.02156](https://arxiv.org/abs/1809.02156),
/// equations 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChairReport {
    /// Number of answers.
    pub items: usize,
    /// Number of answers that name no object. They do not affect CHAIR_i and precision.
    pub silent: usize,
    /// [`ChairMetric::ChairI`]
    pub chair_i: Estimate,
    /// [`ChairMetric::ChairS`]
    pub chair_s: Estimate,
    /// [`ChairMetric::ChairSNaming`]
    pub chair_s_naming: Estimate,
    /// [`ChairMetric::Recall`]
    pub recall: Estimate,
    /// [`ChairMetric::Precision`]
    pub precision: Estimate,
    /// [`ChairMetric::F1`]
    pub f1: Estimate,
    /// [`ChairMetric::Objects`]
    pub objects: Estimate,
    /// [`ChairMetric::Words`]
    pub words: Estimate,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl ChairReport {
    /// Scores answers. Intervals resample answers.
    pub fn new(items: &[ChairItem], bootstrap: Bootstrap) -> Self {
        let counts = counts(items);
        let estimate =
            |metric: ChairMetric| bootstrap.estimate(items.len(), |chosen| metric.of(&counts, chosen));
        Self {
            items: items.len(),
            silent: items.iter().filter(|item| item.mentions.is_empty()).count(),
            chair_i: estimate(ChairMetric::ChairI),
            chair_s: estimate(ChairMetric::ChairS),
            chair_s_naming: estimate(ChairMetric::ChairSNaming),
            recall: estimate(ChairMetric::Recall),
            precision: estimate(ChairMetric::Precision),
            f1: estimate(ChairMetric::F1),
            objects: estimate(ChairMetric::Objects),
            words: estimate(ChairMetric::Words),
            bootstrap,
        }
    }
}

/// The relative change of a metric between two systems on the same images, `after / before - 1`:
/// -0.4 means 40 % less.
///
/// Both systems are resampled together, so that the difficulty of an image cancels out.
///
/// # Errors
/// Returns [`EvalError::Unpaired`] if the two lists are not about the same images in the same
/// order.
pub fn relative_change(
    metric: ChairMetric,
    before: &[ChairItem],
    after: &[ChairItem],
    bootstrap: &Bootstrap,
) -> Result<Estimate, EvalError> {
    EvalError::check_paired(before, after, |item| item.image.clone(), |image| image)?;
    let [before, after] = [before, after].map(counts);
    Ok(bootstrap.estimate(before.len(), |chosen| {
        let (before, after) = (metric.of(&before, chosen)?, metric.of(&after, chosen)?);
        (before > 0.0).then(|| after / before - 1.0)
    }))
}

fn counts(items: &[ChairItem]) -> Vec<Counts> {
    items.iter().map(|item| item.counts).collect()
}

/// The differences of all metrics between two systems on the same images, `after - before`: 0.1 is
/// ten points more.
///
/// Images are resampled, each with all answers of both systems, so that the difficulty of an image
/// cancels out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChairDifferences {
    /// [`ChairMetric::ChairI`]
    pub chair_i: Estimate,
    /// [`ChairMetric::ChairS`]
    pub chair_s: Estimate,
    /// [`ChairMetric::ChairSNaming`]
    pub chair_s_naming: Estimate,
    /// [`ChairMetric::Recall`]
    pub recall: Estimate,
    /// [`ChairMetric::Precision`]
    pub precision: Estimate,
    /// [`ChairMetric::F1`]
    pub f1: Estimate,
    /// [`ChairMetric::Objects`]
    pub objects: Estimate,
    /// [`ChairMetric::Words`]
    pub words: Estimate,
}

impl ChairDifferences {
    /// Compares two systems, whose answers may be in any order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if they do not have the same number of answers about each
    /// image.
    pub fn new(before: &[ChairItem], after: &[ChairItem], bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let [one, other] = [before, after].map(by_image);
        let answers = |of: &BTreeMap<&str, Counts>, image: &str| of.get(image).map(|counts| counts.answers);
        let mut images = one.keys().chain(other.keys());
        if let Some(&first) = images.find(|image| answers(&one, image) != answers(&other, image)) {
            let (before, after) = (before.len(), after.len());
            return Err(EvalError::Unpaired { before, after, first: first.to_owned() });
        }
        let [one, other] = [one, other].map(|images| images.into_values().collect::<Vec<_>>());
        let difference = |metric: ChairMetric| {
            bootstrap
                .estimate(one.len(), |chosen| Some(metric.of(&other, chosen)? - metric.of(&one, chosen)?))
        };
        Ok(Self {
            chair_i: difference(ChairMetric::ChairI),
            chair_s: difference(ChairMetric::ChairS),
            chair_s_naming: difference(ChairMetric::ChairSNaming),
            recall: difference(ChairMetric::Recall),
            precision: difference(ChairMetric::Precision),
            f1: difference(ChairMetric::F1),
            objects: difference(ChairMetric::Objects),
            words: difference(ChairMetric::Words),
        })
    }
}

/// Returns the counts of all answers about each image.
fn by_image(items: &[ChairItem]) -> BTreeMap<&str, Counts> {
    let mut images: BTreeMap<&str, Counts> = BTreeMap::new();
    for item in items {
        images.entry(&item.image).or_default().add(item.counts);
    }
    images
}
