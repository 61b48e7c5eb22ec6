//! POPE: yes-or-no questions about objects that an image shows or does not show.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;
use crate::truth::Truth;

/// The label of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PopeLabel {
    /// The image shows the object.
    Yes,
    /// The image does not show the object.
    No,
}

/// Reads an answer like POPE's `evaluate.py`: no if the text up to the first full stop, without
/// commas and split at spaces, has the word `No`, `no` or `not`; else yes.
///
/// ```
/// use bpo_eval::{PopeLabel, parse_yes_no};
///
/// assert_eq!(parse_yes_no("No, there is not."), PopeLabel::No);
/// assert_eq!(parse_yes_no("Yes. No doubt."), PopeLabel::Yes);
/// assert_eq!(parse_yes_no("Nothing"), PopeLabel::Yes);
/// ```
pub fn parse_yes_no(text: &str) -> PopeLabel {
    let first = text.split('.').next().unwrap_or(text).replace(',', "");
    let is_no = first.split(' ').any(|word| ["No", "no", "not"].contains(&word));
    if is_no { PopeLabel::No } else { PopeLabel::Yes }
}

/// Whether an answer contains what [`parse_yes_no`] reads in it: yes or no, and not both.
///
/// `No!` and `NO` are unclear: the published rule reads them as yes.
///
/// ```
/// use bpo_eval::is_clear_yes_no;
///
/// assert!(is_clear_yes_no("Yes!") && is_clear_yes_no("No, there is none."));
/// assert!(!is_clear_yes_no("No!") && !is_clear_yes_no("There is a dog."));
/// ```
pub fn is_clear_yes_no(text: &str) -> bool {
    let first = text.split('.').next().unwrap_or(text);
    let says = |wanted: &[&str]| {
        first.split(|c: char| !c.is_alphanumeric()).any(|word| wanted.contains(&word.to_lowercase().as_str()))
    };
    match parse_yes_no(text) {
        PopeLabel::Yes => says(&["yes"]) && !says(&["no", "not"]),
        PopeLabel::No => !says(&["yes"]),
    }
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopeItem {
    /// Name of the image.
    pub image: String,
    /// The correct answer.
    pub label: PopeLabel,
    /// The answer of the model.
    pub text: String,
}

/// The metrics of a set of answers. Yes is the positive class; shares are from 0 to 1.
///
/// Li et al. 2023, [arXiv 2305.10355](https://arxiv.org/abs/2305.10355).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PopeReport {
    /// Number of questions.
    pub items: usize,
    /// Number of images.
    pub images: usize,
    /// Number of answers that are not [clear](is_clear_yes_no). They count as [`parse_yes_no`]
    /// reads them, mostly as yes.
    pub unclear: usize,
    /// Correct answers, divided by all answers.
    pub accuracy: Estimate,
    /// Correct yes answers, divided by all yes answers.
    pub precision: Estimate,
    /// Correct yes answers, divided by all questions whose label is yes.
    pub recall: Estimate,
    /// Harmonic mean of precision and recall.
    pub f1: Estimate,
    /// Yes answers, divided by all answers.
    pub yes_ratio: Estimate,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl PopeReport {
    /// Scores answers. Intervals resample images, because questions about one image are not
    /// independent.
    pub fn new(items: &[PopeItem], bootstrap: Bootstrap) -> Self {
        let images = by_image(items);
        let estimate = |metric: PopeMetric| {
            bootstrap
                .estimate(images.len(), |chosen| metric.of(chosen.iter().flat_map(|&image| &images[image])))
        };
        Self {
            items: items.len(),
            images: images.len(),
            unclear: items.iter().filter(|item| !is_clear_yes_no(&item.text)).count(),
            accuracy: estimate(PopeMetric::Accuracy),
            precision: estimate(PopeMetric::Precision),
            recall: estimate(PopeMetric::Recall),
            f1: estimate(PopeMetric::F1),
            yes_ratio: estimate(PopeMetric::YesRatio),
            bootstrap,
        }
    }
}

/// The differences of all metrics between two systems on the same questions, `after - before`: 0.1 is
/// ten points more.
///
/// Both systems are resampled together, by image, so that the difficulty of an image cancels out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PopeDifferences {
    /// Difference of [`PopeReport::accuracy`].
    pub accuracy: Estimate,
    /// Difference of [`PopeReport::precision`].
    pub precision: Estimate,
    /// Difference of [`PopeReport::recall`].
    pub recall: Estimate,
    /// Difference of [`PopeReport::f1`].
    pub f1: Estimate,
    /// Difference of [`PopeReport::yes_ratio`].
    pub yes_ratio: Estimate,
}

impl PopeDifferences {
    /// Compares the answers of two systems to the same questions, in the same order.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists differ in an image or a label.
    pub fn new(before: &[PopeItem], after: &[PopeItem], bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let question = |item: &PopeItem| (item.image.clone(), item.label);
        EvalError::check_paired(before, after, question, |(image, _)| image)?;
        let [before, after] = [before, after].map(by_image);
        let difference = |metric: PopeMetric| {
            bootstrap.estimate(before.len(), |chosen| {
                let of =
                    |images: &[Vec<Answered>]| metric.of(chosen.iter().flat_map(|&image| &images[image]));
                Some(of(&after)? - of(&before)?)
            })
        };
        Ok(Self {
            accuracy: difference(PopeMetric::Accuracy),
            precision: difference(PopeMetric::Precision),
            recall: difference(PopeMetric::Recall),
            f1: difference(PopeMetric::F1),
            yes_ratio: difference(PopeMetric::YesRatio),
        })
    }
}

/// The label of a question, and the answer.
type Answered = (PopeLabel, PopeLabel);

/// Returns the answers about each image.
fn by_image(items: &[PopeItem]) -> Vec<Vec<Answered>> {
    let mut images: BTreeMap<&str, Vec<Answered>> = BTreeMap::new();
    for item in items {
        images.entry(&item.image).or_default().push((item.label, parse_yes_no(&item.text)));
    }
    images.into_values().collect()
}

/// A metric of a set of answers.
#[derive(Clone, Copy)]
enum PopeMetric {
    Accuracy,
    Precision,
    Recall,
    F1,
    YesRatio,
}

impl PopeMetric {
    /// Returns the value, or `None` for a share of nothing.
    fn of<'a>(self, answers: impl Iterator<Item = &'a Answered>) -> Option<f64> {
        let (mut part, mut whole) = (0, 0);
        for &(label, answer) in answers {
            let (is_yes, says_yes) =
                (usize::from(label == PopeLabel::Yes), usize::from(answer == PopeLabel::Yes));
            let (counted, of) = match self {
                Self::Accuracy => (usize::from(label == answer), 1),
                Self::Precision => (hit(label, answer), says_yes),
                Self::Recall => (hit(label, answer), is_yes),
                Self::F1 => (2 * hit(label, answer), is_yes + says_yes),
                Self::YesRatio => (says_yes, 1),
            };
            part += counted;
            whole += of;
        }
        (whole > 0).then(|| part as f64 / whole as f64)
    }
}

fn hit(label: PopeLabel, answer: PopeLabel) -> usize {
    usize::from(label == PopeLabel::Yes && answer == PopeLabel::Yes)
}

/// The sampling of absent objects for questions whose label is no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PopeNegatives {
    /// Any absent object.
    Random,
    /// The absent objects that most images show.
    Popular,
    /// The absent objects that most often appear together with the objects of the image.
    Adversarial,
}

impl PopeNegatives {
    /// All samplings, the easiest first.
    pub const ALL: [Self; 3] = [Self::Random, Self::Popular, Self::Adversarial];

    /// The name in POPE's file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Popular => "popular",
            Self::Adversarial => "adversarial",
        }
    }
}

/// A question in POPE's file format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopeQuestion {
    /// Unique id of the question.
    pub question_id: u64,
    /// Name of the image.
    pub image: String,
    /// The question.
    pub text: String,
    /// The correct answer.
    pub label: PopeLabel,
}

/// Makes questions like POPE: for each image, up to `per_image` objects that it shows and the same
/// number that it does not.
///
/// An image with fewer objects of one sort gets fewer questions of both. Frequencies and
/// co-occurrences come from `statistics`; POPE uses the images of the questions.
pub fn pope_questions(
    truth: &Truth,
    statistics: &Truth,
    negatives: PopeNegatives,
    per_image: usize,
    seed: u64,
) -> Vec<PopeQuestion> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let objects = statistics.objects().union(&truth.objects()).cloned().collect::<BTreeSet<_>>();
    let together = together(statistics);
    let mut all = Vec::new();
    for (image, shown) in truth.iter() {
        let mut absent: Vec<&String> = objects.difference(shown).collect();
        // Ties are broken at random.
        absent.shuffle(&mut rng);
        let often = |object: &String, with: &mut dyn Iterator<Item = &String>| -> usize {
            with.filter_map(|other| together.get(&(object.as_str(), other.as_str()))).sum()
        };
        match negatives {
            PopeNegatives::Random => {}
            PopeNegatives::Popular => {
                absent.sort_by_key(|object| std::cmp::Reverse(often(object, &mut std::iter::once(*object))))
            }
            PopeNegatives::Adversarial => {
                absent.sort_by_key(|object| std::cmp::Reverse(often(object, &mut shown.iter())));
            }
        }
        let there: Vec<&String> = shown.iter().collect();
        let count = per_image.min(there.len()).min(absent.len());
        let there = there.sample(&mut rng, count).copied().collect::<Vec<_>>();
        for (yes, no) in there.into_iter().zip(absent) {
            for (object, label) in [(yes, PopeLabel::Yes), (no, PopeLabel::No)] {
                all.push(PopeQuestion {
                    question_id: all.len() as u64 + 1,
                    image: image.to_owned(),
                    text: format!("Is there {} {object} in the image?", article(object)),
                    label,
                });
            }
        }
    }
    all
}

/// The number of images that show both objects, for every pair of objects and for each object with
/// itself.
fn together(truth: &Truth) -> BTreeMap<(&str, &str), usize> {
    let mut counts = BTreeMap::new();
    for (_, shown) in truth.iter() {
        for one in shown {
            for other in shown {
                *counts.entry((one.as_str(), other.as_str())).or_default() += 1;
            }
        }
    }
    counts
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
