//! POPE: yes-or-no questions about what is there and what is not.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::truth::Truth;

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// It is there.
    Yes,
    /// It is not.
    No,
}

/// Reads an answer as POPE's `evaluate.py` does: of the text up to the first full stop, without commas, cut at spaces, the
/// words `No`, `no` and `not` mean no; everything else means yes.
///
/// ```
/// use bpo_eval::pope::{Label, parse_answer};
///
/// assert_eq!(parse_answer("No, there is not."), Label::No);
/// assert_eq!(parse_answer("Yes. No doubt."), Label::Yes);
/// assert_eq!(parse_answer("Nothing"), Label::Yes);
/// ```
pub fn parse_answer(text: &str) -> Label {
    let first = text.split('.').next().unwrap_or(text).replace(',', "");
    match first.split(' ').any(|word| ["No", "no", "not"].contains(&word)) {
        true => Label::No,
        false => Label::Yes,
    }
}

/// Whether an answer says what [`parse_answer`] reads in it: yes, or no, and not both. `No!` and `NO` are no by their sense, but
/// yes to that rule, and so not clear.
///
/// ```
/// use bpo_eval::pope::is_clear;
///
/// assert!(is_clear("Yes!") && is_clear("No, there is none."));
/// assert!(!is_clear("No!") && !is_clear("There is a dog."));
/// ```
pub fn is_clear(text: &str) -> bool {
    let first = text.split('.').next().unwrap_or(text);
    let says = |wanted: &[&str]| {
        first.split(|c: char| !c.is_alphanumeric()).any(|word| wanted.contains(&word.to_lowercase().as_str()))
    };
    match parse_answer(text) {
        Label::Yes => says(&["yes"]) && !says(&["no", "not"]),
        Label::No => !says(&["yes"]),
    }
}

/// A question and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopeItem {
    /// The image's name.
    pub image: String,
    /// What is right.
    pub label: Label,
    /// The answer.
    pub text: String,
}

/// The figures of a set of answers; yes is the positive class. Shares are from 0 to 1.
///
/// Li et al. 2023, [arXiv 2305.10355](https://arxiv.org/abs/2305.10355).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PopeReport {
    /// Questions.
    pub items: usize,
    /// Images that they are about.
    pub images: usize,
    /// Answers that are not [clear](is_clear). They count as [`parse_answer`] reads them, most of them as yes.
    pub unclear: usize,
    /// Right answers.
    pub accuracy: Estimate,
    /// Of the answers yes, those that are right.
    pub precision: Estimate,
    /// Of the questions whose answer is yes, those answered so.
    pub recall: Estimate,
    /// Harmonic mean of precision and recall.
    pub f1: Estimate,
    /// Answers yes.
    pub yes_ratio: Estimate,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

impl PopeReport {
    /// Scores answers. Intervals are over images: questions about one image are not independent.
    pub fn new(items: &[PopeItem], bootstrap: Bootstrap) -> Self {
        // label and answer of each question, by image
        let mut images: BTreeMap<&str, Vec<(Label, Label)>> = BTreeMap::new();
        for item in items {
            images.entry(&item.image).or_default().push((item.label, parse_answer(&item.text)));
        }
        let images: Vec<Vec<(Label, Label)>> = images.into_values().collect();
        // part and whole are counts of (label, answer)
        let share = |part: fn(Label, Label) -> usize, whole: fn(Label, Label) -> usize| {
            bootstrap.estimate(images.len(), |chosen| {
                let count = |what: fn(Label, Label) -> usize| -> usize {
                    let answers = chosen.iter().flat_map(|&image| &images[image]);
                    answers.map(|&(label, answer)| what(label, answer)).sum()
                };
                let of = count(whole);
                (of > 0).then(|| count(part) as f64 / of as f64)
            })
        };
        use Label::Yes;
        Self {
            items: items.len(),
            images: images.len(),
            unclear: items.iter().filter(|item| !is_clear(&item.text)).count(),
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

fn hit(label: Label, answer: Label) -> usize {
    usize::from(label == Label::Yes && answer == Label::Yes)
}

/// Which absent objects are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negatives {
    /// Any.
    Random,
    /// Those that the most images show.
    Popular,
    /// Those that are most often together with what the image shows.
    Adversarial,
}

impl Negatives {
    /// All of them, the easiest first.
    pub const ALL: [Self; 3] = [Self::Random, Self::Popular, Self::Adversarial];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Popular => "popular",
            Self::Adversarial => "adversarial",
        }
    }
}

/// A question of POPE's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopeQuestion {
    /// Unlike that of every other question.
    pub question_id: u64,
    /// The image's name.
    pub image: String,
    /// The question.
    pub text: String,
    /// What is right.
    pub label: Label,
}

/// Makes questions as POPE does: for each image up to `per_image` objects that it shows and as many that it does not.
///
/// An image with fewer of one sort gets fewer of both. How common objects are and what goes with what comes from
/// `statistics`: POPE takes the images that are asked about.
pub fn questions(
    truth: &Truth,
    statistics: &Truth,
    negatives: Negatives,
    per_image: usize,
    seed: u64,
) -> Vec<PopeQuestion> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let objects = statistics.objects().union(&truth.objects()).cloned().collect::<BTreeSet<_>>();
    let together = together(statistics);
    let mut all = Vec::new();
    for (image, shown) in truth.iter() {
        let mut absent: Vec<&String> = objects.difference(shown).collect();
        // of equally common ones chance decides
        absent.shuffle(&mut rng);
        let often = |object: &String, with: &mut dyn Iterator<Item = &String>| -> usize {
            with.filter_map(|other| together.get(&(object.as_str(), other.as_str()))).sum()
        };
        match negatives {
            Negatives::Random => {}
            Negatives::Popular => {
                absent.sort_by_key(|object| std::cmp::Reverse(often(object, &mut std::iter::once(*object))))
            }
            Negatives::Adversarial => {
                absent.sort_by_key(|object| std::cmp::Reverse(often(object, &mut shown.iter())));
            }
        }
        let there: Vec<&String> = shown.iter().collect();
        let count = per_image.min(there.len()).min(absent.len());
        let there = there.sample(&mut rng, count).copied().collect::<Vec<_>>();
        for (yes, no) in there.into_iter().zip(absent) {
            for (object, label) in [(yes, Label::Yes), (no, Label::No)] {
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

/// In how many images each two objects are together, and each object is (with itself).
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
