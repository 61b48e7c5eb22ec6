//! CHAIR: how much of what an answer names is not in the picture.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;
use crate::objects::{Mention, ObjectTable, count_words};

/// An answer held against what its image shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChairItem {
    /// The image's name.
    pub image: String,
    /// The answer.
    pub text: String,
    /// Each mention of an object, and whether the image shows it.
    pub mentions: Vec<(Mention, bool)>,
    counts: Counts,
}

/// What the figures are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    answers: usize,
    answers_with_false: usize,
    mentions: usize,
    false_mentions: usize,
    named: usize,
    named_true: usize,
    shown: usize,
    words: usize,
}

impl ChairItem {
    /// Reads an answer. Objects of the truth that the table does not have are left out.
    pub fn new(
        table: &ObjectTable,
        image: impl Into<String>,
        text: impl Into<String>,
        truth: &BTreeSet<String>,
    ) -> Self {
        let (image, text) = (image.into(), text.into());
        let shown: BTreeSet<&str> = truth.iter().filter_map(|object| table.find(object)).collect();
        let mentions: Vec<(Mention, bool)> = table
            .mentions(&text)
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
            answers_with_false: usize::from(false_mentions > 0),
            mentions: mentions.len(),
            false_mentions,
            named: named.len(),
            named_true: named.intersection(&shown).count(),
            shown: shown.len(),
            words: count_words(&text),
        };
        Self { image, text, mentions, counts }
    }
}

/// A figure of a set of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Figure {
    /// Mentions of what is not there, of all mentions; repeated mentions count as often as they are made.
    ChairI,
    /// Answers with such a mention, of all answers.
    ChairS,
    /// Objects shown that are named, of all objects shown.
    Recall,
    /// Objects named that are shown, of all objects named.
    Precision,
    /// Harmonic mean of precision and recall.
    F1,
    /// Objects named in an answer.
    Objects,
    /// Words of an answer.
    Words,
}

impl Figure {
    fn of(self, items: &[ChairItem], chosen: &[usize]) -> Option<f64> {
        let mut sum = Counts::default();
        for counts in chosen.iter().map(|&item| items[item].counts) {
            sum.answers += counts.answers;
            sum.answers_with_false += counts.answers_with_false;
            sum.mentions += counts.mentions;
            sum.false_mentions += counts.false_mentions;
            sum.named += counts.named;
            sum.named_true += counts.named_true;
            sum.shown += counts.shown;
            sum.words += counts.words;
        }
        let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        match self {
            Self::ChairI => share(sum.false_mentions, sum.mentions),
            Self::ChairS => share(sum.answers_with_false, sum.answers),
            Self::Recall => share(sum.named_true, sum.shown),
            Self::Precision => share(sum.named_true, sum.named),
            // 2 p r / (p + r), which is this
            Self::F1 => share(2 * sum.named_true, sum.named + sum.shown),
            Self::Objects => share(sum.named, sum.answers),
            Self::Words => share(sum.words, sum.answers),
        }
    }
}

/// The figures of a set of answers. Shares are from 0 to 1.
///
/// CHAIR_i and CHAIR_s: Rohrbach et al. 2018, [arXiv 1809.02156](https://arxiv.org/abs/1809.02156), equations 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChairReport {
    /// Answers.
    pub items: usize,
    /// Of these without a single mention. They count in everything but CHAIR_i and precision.
    pub silent: usize,
    /// [`Figure::ChairI`]
    pub chair_i: Estimate,
    /// [`Figure::ChairS`]
    pub chair_s: Estimate,
    /// [`Figure::Recall`]
    pub recall: Estimate,
    /// [`Figure::Precision`]
    pub precision: Estimate,
    /// [`Figure::F1`]
    pub f1: Estimate,
    /// [`Figure::Objects`]
    pub objects: Estimate,
    /// [`Figure::Words`]
    pub words: Estimate,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
}

impl ChairReport {
    /// Scores answers. Intervals are over answers.
    pub fn new(items: &[ChairItem], bootstrap: Bootstrap) -> Self {
        let estimate = |figure: Figure| bootstrap.estimate(items.len(), |chosen| figure.of(items, chosen));
        Self {
            items: items.len(),
            silent: items.iter().filter(|item| item.mentions.is_empty()).count(),
            chair_i: estimate(Figure::ChairI),
            chair_s: estimate(Figure::ChairS),
            recall: estimate(Figure::Recall),
            precision: estimate(Figure::Precision),
            f1: estimate(Figure::F1),
            objects: estimate(Figure::Objects),
            words: estimate(Figure::Words),
            bootstrap,
        }
    }
}

/// The relative change of a figure from one system to another on the same items, `after / before - 1`: -0.4 is 40 % less.
/// Both systems are drawn together, so what makes an image hard cancels.
///
/// # Errors
/// [`EvalError::Unpaired`] if the items are not of the same images in the same order.
pub fn relative_change(
    figure: Figure,
    before: &[ChairItem],
    after: &[ChairItem],
    bootstrap: &Bootstrap,
) -> Result<Estimate, EvalError> {
    let same = before.iter().zip(after).all(|(before, after)| before.image == after.image);
    if before.len() != after.len() || !same {
        return Err(EvalError::Unpaired { before: before.len(), after: after.len() });
    }
    Ok(bootstrap.estimate(before.len(), |chosen| {
        let (before, after) = (figure.of(before, chosen)?, figure.of(after, chosen)?);
        (before > 0.0).then(|| after / before - 1.0)
    }))
}
