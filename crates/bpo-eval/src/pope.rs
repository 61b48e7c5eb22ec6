//! POPE: yes-or-no questions about objects that an image shows or does not show.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
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
        // PopeLabel and answer of each question, by image.
        let mut images: BTreeMap<&str, Vec<(PopeLabel, PopeLabel)>> = BTreeMap::new();
        for item in items {
            images.entry(&item.image).or_default().push((item.label, parse_yes_no(&item.text)));
        }
        let images: Vec<Vec<(PopeLabel, PopeLabel)>> = images.into_values().collect();
        // `part` and `whole` count (label, answer) pairs.
        let share = |part: fn(PopeLabel, PopeLabel) -> usize, whole: fn(PopeLabel, PopeLabel) -> usize| {
            bootstrap.estimate(images.len(), |chosen| {
                let count = |what: fn(PopeLabel, PopeLabel) -> usize| -> usize {
                    let answers = chosen.iter().flat_map(|&image| &images[image]);
                    answers.map(|&(label, answer)| what(label, answer)).sum()
                };
                let of = count(whole);
                (of > 0).then(|| count(part) as f64 / of as f64)
            })
        };
        use PopeLabel::Yes;
        Self {
            items: items.len(),
            images: images.len(),
            unclear: items.iter().filter(|item| !is_clear_yes_no(&item.text)).count(),
            accuracy: share(|label, answer| usize::from(label == answer), |_, _| 1),
            precision: share(hit, |_, answer| usize::from(answer == Yes)),
            recall: share(hit, |label, _| usize::from(label == Yes)),
            f1: share(
                |label, answer| 2 * hit(label, answer),
                |label, answer| usize::from(label == Yes) + usize::from(answer == Yes),
            ),
            yes_ratio: share(|_, answer| usize::from(answer == Yes), |_, _| 1),
            bootstrap,
        }
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
