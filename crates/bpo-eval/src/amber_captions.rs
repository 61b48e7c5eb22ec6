//! AMBER's generative task: descriptions of images.

use serde::{Deserialize, Serialize};

use crate::amber_words::{AmberWords, Objects};
use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::EvalError;

/// A description with its nouns, compared with the objects of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AmberCaption {
    /// Id of the question.
    pub id: String,
    /// Name of the image.
    pub image: String,
    /// The nouns that name an object which the image does not show, in their order.
    pub false_nouns: Vec<String>,
    counts: Counts,
}

/// Counts from which the metrics are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    captions: usize,
    /// Descriptions without a false noun.
    faithful: usize,
    /// Nouns that AMBER knows.
    nouns: usize,
    false_nouns: usize,
    /// Objects that the image shows.
    shown: usize,
    covered: usize,
    /// Objects that are easily hallucinated in the image.
    likely: usize,
    hallucinated: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.captions += other.captions;
        self.faithful += other.faithful;
        self.nouns += other.nouns;
        self.false_nouns += other.false_nouns;
        self.shown += other.shown;
        self.covered += other.covered;
        self.likely += other.likely;
        self.hallucinated += other.hallucinated;
    }
}

impl AmberCaption {
    /// Compares the nouns of a description with the annotation of its image: the objects that it shows
    /// (`truth`) and those that models easily hallucinate (`hallu`). The order of the comparisons is that of
    /// the published script.
    pub(crate) fn new(
        words: &AmberWords,
        (id, image): (String, String),
        nouns: &[String],
        (truth, likely): (&Objects, &Objects),
    ) -> Self {
        let (mut covered, mut hallucinated) = (vec![false; truth.number], vec![false; likely.number]);
        let (mut known, mut false_nouns) = (0, Vec::new());
        for noun in nouns.iter().filter(|noun| words.is_known(noun)) {
            known += 1;
            if words.is_safe(noun) {
                continue;
            }
            if let Some(object) = truth.find(|word| word == noun) {
                covered[object] = true;
                continue;
            }
            let named = [likely.find(|word| word == noun), words.find_similar(likely, noun)];
            named.into_iter().flatten().for_each(|object| hallucinated[object] = true);
            match words.find_similar(truth, noun) {
                Some(object) => covered[object] = true,
                None => false_nouns.push(noun.clone()),
            }
        }
        let number = |flags: Vec<bool>| flags.into_iter().filter(|flag| *flag).count();
        let counts = Counts {
            captions: 1,
            faithful: usize::from(false_nouns.is_empty()),
            nouns: known,
            false_nouns: false_nouns.len(),
            shown: truth.number,
            covered: number(covered),
            likely: likely.number,
            hallucinated: number(hallucinated),
        };
        Self { id, image, false_nouns, counts }
    }
}

#[derive(Clone, Copy)]
enum Metric {
    Chair,
    Cover,
    Hal,
    Cog,
}

impl Metric {
    /// Returns the value for the chosen descriptions, or `None` without one.
    fn of(self, counted: &[Counts], chosen: &[usize]) -> Option<f64> {
        let mut sum = Counts::default();
        chosen.iter().for_each(|&place| sum.add(counted[place]));
        // the published script adds this to each number that it divides by
        let share = |part: usize, of: usize| part as f64 / (of as f64 + 0.001);
        (sum.captions > 0).then(|| match self {
            Self::Chair => share(sum.false_nouns, sum.nouns),
            Self::Cover => share(sum.covered, sum.shown),
            Self::Hal => 1.0 - share(sum.faithful, sum.captions),
            Self::Cog => share(sum.hallucinated, sum.likely),
        })
    }
}

/// The metrics of descriptions, from 0 to 1, or their differences between two systems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AmberCaptionScores {
    /// CHAIR: nouns that name an object which the image does not show, divided by all nouns that AMBER
    /// knows.
    pub chair: Estimate,
    /// Cover: objects of the image that are named, divided by all its objects.
    pub cover: Estimate,
    /// Hal: descriptions with at least one such noun, divided by all.
    pub hal: Estimate,
    /// Cog: objects that models easily hallucinate in the image and that are named, divided by all such
    /// objects.
    pub cog: Estimate,
}

impl AmberCaptionScores {
    fn of(estimate: impl Fn(Metric) -> Estimate) -> Self {
        Self {
            chair: estimate(Metric::Chair),
            cover: estimate(Metric::Cover),
            hal: estimate(Metric::Hal),
            cog: estimate(Metric::Cog),
        }
    }

    /// The metrics with their names, in the order of the published script.
    pub fn metrics(&self) -> [(&'static str, &Estimate); 4] {
        [("CHAIR", &self.chair), ("Cover", &self.cover), ("Hal", &self.hal), ("Cog", &self.cog)]
    }

    /// The differences between two systems on the same questions, `after - before`: 0.1 is ten points more.
    ///
    /// Both systems are resampled together, by question, so that the difficulty of an image cancels out.
    ///
    /// # Errors
    /// Returns [`EvalError::Unpaired`] if the two lists are not about the same questions in the same order.
    pub fn differences(
        before: &[AmberCaption],
        after: &[AmberCaption],
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let question = |caption: &AmberCaption| (caption.id.clone(), caption.image.clone());
        EvalError::check_paired(before, after, question, |(id, _)| id)?;
        let [before, after] = [before, after].map(counts);
        Ok(Self::of(|metric| {
            bootstrap.estimate(before.len(), |chosen| {
                Some(metric.of(&after, chosen)? - metric.of(&before, chosen)?)
            })
        }))
    }
}

/// The metrics of descriptions in AMBER's generative task.
///
/// Wang et al. 2023, [arXiv 2311.07397](https://arxiv.org/abs/2311.07397). From the same nouns and word
/// vectors, all values in percent with one decimal equal those that `inference.py` of
/// <https://github.com/junyangwang0410/AMBER> prints. It adds 0.001 to each number that it divides by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AmberCaptionReport {
    /// Number of descriptions.
    pub items: usize,
    /// Number of descriptions without a noun that AMBER knows.
    pub silent: usize,
    /// The metrics.
    #[serde(flatten)]
    pub scores: AmberCaptionScores,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

impl AmberCaptionReport {
    /// Scores descriptions. Intervals resample descriptions.
    pub fn new(captions: &[AmberCaption], bootstrap: Bootstrap) -> Self {
        let counts = counts(captions);
        let estimate = |metric: Metric| bootstrap.estimate(counts.len(), |chosen| metric.of(&counts, chosen));
        Self {
            items: captions.len(),
            silent: counts.iter().filter(|counts| counts.nouns == 0).count(),
            scores: AmberCaptionScores::of(estimate),
            bootstrap,
        }
    }
}

fn counts(captions: &[AmberCaption]) -> Vec<Counts> {
    captions.iter().map(|caption| caption.counts).collect()
}
