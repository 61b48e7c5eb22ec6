//! AMBER: yes-or-no questions about the existence, attributes and relations of objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;
use crate::pope::PopeLabel;
use crate::yes_no::{YesNoReading, first_word};

/// What a question of AMBER's discriminative task is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmberKind {
    /// Whether an object is in the image (`discriminative-hallucination`).
    Existence,
    /// The state of an object (`discriminative-attribute-state`).
    State,
    /// The number of objects (`discriminative-attribute-number`).
    Number,
    /// The action of an object (`discriminative-attribute-action`).
    Action,
    /// Contact of two objects (`discriminative-relation` and `relation`).
    Relation,
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AmberItem {
    /// Name of the image.
    pub image: String,
    /// What the question is about.
    pub kind: AmberKind,
    /// The correct answer.
    pub label: PopeLabel,
    /// The answer of the model.
    pub text: String,
    /// What the answer says, or `None` if it is unclear.
    pub answer: Option<PopeLabel>,
}

impl AmberItem {
    /// Reads an answer. The published script knows exactly `Yes` and `No`.
    pub fn new(
        image: impl Into<String>,
        kind: AmberKind,
        label: PopeLabel,
        text: impl Into<String>,
        reading: YesNoReading,
    ) -> Self {
        let (image, text) = (image.into(), text.into());
        let answer = match (reading, text.as_str()) {
            (YesNoReading::FirstWord, text) => first_word(text),
            (YesNoReading::AsPublished, "Yes") => Some(PopeLabel::Yes),
            (YesNoReading::AsPublished, "No") => Some(PopeLabel::No),
            (YesNoReading::AsPublished, _) => None,
        };
        Self { image, kind, label, text, answer }
    }
}

/// The metrics of one kind of questions, from 0 to 1. No is the positive class: the answer that
/// denies a hallucination.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AmberScores {
    /// Correct answers, divided by all questions.
    pub accuracy: Estimate,
    /// Correct no answers, divided by all no answers. 0 without a no answer.
    pub precision: Estimate,
    /// Correct no answers, divided by all questions whose label is no. 0 without such a question.
    pub recall: Estimate,
    /// Harmonic mean of precision and recall.
    pub f1: Estimate,
}

impl AmberScores {
    /// The metrics with their names, in the order of the published script.
    pub fn metrics(&self) -> [(&'static str, &Estimate); 4] {
        [
            ("accuracy", &self.accuracy),
            ("precision", &self.precision),
            ("recall", &self.recall),
            ("F1", &self.f1),
        ]
    }
}

/// The metrics of each kind of questions. `None` for a kind without a question.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AmberKinds {
    /// All questions; `None` unless there are questions about existence, attributes and relations.
    pub overall: Option<AmberScores>,
    /// [`AmberKind::Existence`]
    pub existence: Option<AmberScores>,
    /// Questions about states, numbers and actions together.
    pub attribute: Option<AmberScores>,
    /// [`AmberKind::State`]
    pub state: Option<AmberScores>,
    /// [`AmberKind::Number`]
    pub number: Option<AmberScores>,
    /// [`AmberKind::Action`]
    pub action: Option<AmberScores>,
    /// [`AmberKind::Relation`]
    pub relation: Option<AmberScores>,
}

/// The metrics of answers to the discriminative task of AMBER.
///
/// Wang et al. 2023, [arXiv 2311.07397](https://arxiv.org/abs/2311.07397). All values in percent,
/// with one decimal, equal those that `inference.py` of
/// <https://github.com/junyangwang0410/AMBER> prints. It adds 0.001 to each number of questions or
/// answers that it divides by (0.003 for attributes), and computes F1 from the rounded precision and
/// recall, with 0.0001 added to their sum (0.001 for existence).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AmberReport {
    /// Number of questions.
    pub items: usize,
    /// Number of images.
    pub images: usize,
    /// Number of answers that are neither yes nor no under the [`YesNoReading`]. They count as
    /// wrong, and not as no.
    pub unclear: usize,
    /// The metrics.
    #[serde(flatten)]
    pub kinds: AmberKinds,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl AmberReport {
    /// Scores answers. Intervals resample images, because questions about one image are not
    /// independent.
    pub fn new(items: &[AmberItem], bootstrap: Bootstrap) -> Self {
        let images = by_image(items);
        let kinds = AmberKinds::of(&total(&images), |group, metric| {
            bootstrap.estimate(images.len(), |chosen| metric.of(group, &images, chosen))
        });
        let unclear = items.iter().filter(|item| item.answer.is_none()).count();
        Self { items: items.len(), images: images.len(), unclear, kinds, bootstrap }
    }
}

impl AmberKinds {
    /// Names and metrics of the kinds that have questions, in the order of the published script.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &AmberScores)> {
        let kinds = [
            ("overall", &self.overall),
            ("existence", &self.existence),
            ("attribute", &self.attribute),
            ("state", &self.state),
            ("number", &self.number),
            ("action", &self.action),
            ("relation", &self.relation),
        ];
        kinds.into_iter().filter_map(|(name, scores)| Some((name, scores.as_ref()?)))
    }

    /// The differences between two systems on the same questions, `after - before`: 0.1 is ten
    /// points more.
    ///
    /// Both systems are resampled together, by image, so that the difficulty of an image cancels
    /// out. Both must have the same questions in the same order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists differ in an image, a kind or a label.
    pub fn differences(
        before: &[AmberItem],
        after: &[AmberItem],
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let question = |item: &AmberItem| (item.image.clone(), item.kind, item.label);
        EvalError::check_paired(before, after, question, |(image, ..)| image)?;
        let [before, after] = [before, after].map(by_image);
        Ok(Self::of(&total(&before), |group, metric| {
            bootstrap.estimate(before.len(), |chosen| {
                Some(metric.of(group, &after, chosen)? - metric.of(group, &before, chosen)?)
            })
        }))
    }

    /// The kinds that have questions, with estimates of each metric.
    fn of(total: &Image, estimate: impl Fn(Group, Metric) -> Estimate) -> Self {
        let has = |group: Group| group.sum(std::iter::once(total)).questions > 0;
        let scores = |group: Group| {
            has(group).then(|| AmberScores {
                accuracy: estimate(group, Metric::Accuracy),
                precision: estimate(group, Metric::Precision),
                recall: estimate(group, Metric::Recall),
                f1: estimate(group, Metric::F1),
            })
        };
        let has_all = [EXISTENCE, ATTRIBUTE, RELATION].into_iter().all(has);
        Self {
            overall: scores(OVERALL).filter(|_| has_all),
            existence: scores(EXISTENCE),
            attribute: scores(ATTRIBUTE),
            state: scores(STATE),
            number: scores(NUMBER),
            action: scores(ACTION),
            relation: scores(RELATION),
        }
    }
}

/// Counts of questions and answers, by which the metrics are defined.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    questions: usize,
    right: usize,
    /// Questions whose label is no.
    labels: usize,
    /// Answers that say no.
    answers: usize,
    /// Questions whose label and answer are no.
    hits: usize,
}

/// The counts of an image for each [`AmberKind`].
type Image = [Counts; 5];

impl Counts {
    fn add(&mut self, other: Self) {
        self.questions += other.questions;
        self.right += other.right;
        self.labels += other.labels;
        self.answers += other.answers;
        self.hits += other.hits;
    }
}

/// Kinds of questions that are scored together, with the constants of the published script.
#[derive(Clone, Copy)]
struct Group {
    kinds: &'static [AmberKind],
    /// Added to the number that a share is divided by.
    to_number: f64,
    /// Added to the sum of precision and recall in F1.
    to_sum: f64,
}

const OVERALL: Group = Group {
    kinds: &[
        AmberKind::Existence,
        AmberKind::State,
        AmberKind::Number,
        AmberKind::Action,
        AmberKind::Relation,
    ],
    to_number: 0.001,
    to_sum: 0.0001,
};
const EXISTENCE: Group = Group { kinds: &[AmberKind::Existence], to_number: 0.001, to_sum: 0.001 };
const ATTRIBUTE: Group = Group {
    kinds: &[AmberKind::State, AmberKind::Number, AmberKind::Action],
    to_number: 0.003,
    to_sum: 0.0001,
};
const STATE: Group = Group { kinds: &[AmberKind::State], to_number: 0.001, to_sum: 0.0001 };
const NUMBER: Group = Group { kinds: &[AmberKind::Number], to_number: 0.001, to_sum: 0.0001 };
const ACTION: Group = Group { kinds: &[AmberKind::Action], to_number: 0.001, to_sum: 0.0001 };
const RELATION: Group = Group { kinds: &[AmberKind::Relation], to_number: 0.001, to_sum: 0.0001 };

impl Group {
    fn sum<'a>(self, images: impl Iterator<Item = &'a Image>) -> Counts {
        let mut sum = Counts::default();
        images.for_each(|image| self.kinds.iter().for_each(|&kind| sum.add(image[kind as usize])));
        sum
    }
}

#[derive(Clone, Copy)]
enum Metric {
    Accuracy,
    Precision,
    Recall,
    F1,
}

impl Metric {
    /// Returns the value for the chosen images, or `None` without a question.
    fn of(self, group: Group, images: &[Image], chosen: &[usize]) -> Option<f64> {
        let sum = group.sum(chosen.iter().map(|&image| &images[image]));
        let share = |part: usize, whole: usize| part as f64 / (whole as f64 + group.to_number);
        let (precision, recall) = (share(sum.hits, sum.answers), share(sum.hits, sum.labels));
        (sum.questions > 0).then(|| match self {
            Self::Accuracy => share(sum.right, sum.questions),
            Self::Precision => precision,
            Self::Recall => recall,
            Self::F1 => {
                let [precision, recall] = [precision, recall].map(|share| rounded(100.0 * share) / 100.0);
                2.0 * precision * recall / (precision + recall + group.to_sum)
            }
        })
    }
}

/// Rounds to one decimal like Python's `round`: by the exact decimal value, ties to even.
/// `(10.0 * value).round()` would round twice.
fn rounded(value: f64) -> f64 {
    format!("{value:.1}").parse().expect("a formatted number is a number")
}

/// Returns the counts of each image, sorted by name.
fn by_image(items: &[AmberItem]) -> Vec<Image> {
    let mut images: BTreeMap<&str, Image> = BTreeMap::new();
    for item in items {
        let (label, answer) = (item.label == PopeLabel::No, item.answer == Some(PopeLabel::No));
        images.entry(&item.image).or_default()[item.kind as usize].add(Counts {
            questions: 1,
            right: usize::from(item.answer == Some(item.label)),
            labels: usize::from(label),
            answers: usize::from(answer),
            hits: usize::from(label && answer),
        });
    }
    images.into_values().collect()
}

fn total(images: &[Image]) -> Image {
    let mut total = Image::default();
    for image in images {
        total.iter_mut().zip(image).for_each(|(sum, counts)| sum.add(*counts));
    }
    total
}
