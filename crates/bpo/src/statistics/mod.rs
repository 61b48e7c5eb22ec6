//! Statistics of preference pairs, and the data card that shows them.

mod card;
mod duplicates;
mod words;

use std::collections::BTreeMap;

use bpo_pairs::{PreferencePair, Provenance, count_words, is_zero, source_of};
use serde::Serialize;

use duplicates::Duplicates;
use words::InjectedWords;
pub use words::WordCount;

/// The mean lengths differ by a bias if the rejected answers have less than this share of the words
/// of the chosen ones, or if the chosen have less than it of the rejected.
const BALANCED: f64 = 0.8;
/// With fewer pairs of a kind, a difference of the mean lengths may be chance.
const MANY: usize = 20;

/// Statistics of preference pairs.
///
/// ```
/// # use bpo::PairStatistics;
/// # use bpo::pairs::{CompletionKind, PreferencePair};
/// # let pair = |n: usize| -> PreferencePair { serde_json::from_value(serde_json::json!({
/// #     "id": n.to_string(), "images": ["coco/1.jpg"], "prompt": "<image>\nWhat is it?",
/// #     "chosen": "A cat on a mat.", "rejected": format!("A dog, number {n}."), "kind": "llm-hal",
/// # })).unwrap() };
/// let pairs = [pair(0), pair(1)];
/// let statistics = PairStatistics::of(&pairs);
/// assert_eq!(statistics.pairs, 2);
/// assert_eq!(statistics.kinds["llm-hal"].injected_words[0].word, "dog");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PairStatistics {
    /// Number of pairs.
    pub pairs: usize,
    /// Number of different images, with those of contrasts.
    pub images: usize,
    /// Number of pairs with a [contrast](PreferencePair::contrast).
    #[serde(skip_serializing_if = "is_zero")]
    pub contrasts: usize,
    /// Pairs by the source of their image: [`source_of`](bpo_pairs::source_of).
    pub sources: BTreeMap<String, usize>,
    /// Pairs by the distortion of the image, without its parameters.
    pub distortions: BTreeMap<String, usize>,
    /// Pairs by the source of the chosen answer, if it is recorded: `own` for the model's own. Pairs with an
    /// annotated one are not in it.
    pub chosen_kinds: BTreeMap<String, usize>,
    /// Statistics of each kind of rejected answer.
    pub kinds: BTreeMap<String, KindStatistics>,
    /// Statistics of each kind of injected error, such as `count`. Pairs that name none are not in it.
    pub errors: BTreeMap<String, KindStatistics>,
    /// Pairs whose prompt and answers are nearly those of an earlier pair: the estimated Jaccard
    /// similarity of their sequences of three words is at least 0.8. Images are not compared.
    pub near_duplicates: usize,
    /// The first ten of them: the ids of a pair and of the earlier pair.
    pub examples_of_near_duplicates: Vec<[String; 2]>,
}

/// Statistics of the pairs with one kind of rejected answer or of injected error.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KindStatistics {
    /// Number of pairs.
    pub pairs: usize,
    /// Words of the chosen answers.
    pub chosen: Lengths,
    /// Words of the rejected answers.
    pub rejected: Lengths,
    /// Share of pairs whose rejected answer has more words than the chosen one, from 0 to 1.
    pub rejected_longer: f64,
    /// Share of pairs whose rejected answer has fewer words than the chosen one, from 0 to 1.
    pub rejected_shorter: f64,
    /// The words that occur in the most rejected answers whose chosen answer does not have them,
    /// most common first, at most 20.
    pub injected_words: Vec<WordCount>,
}

/// Lengths of answers in words, which white space separates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lengths {
    /// Mean.
    pub mean: f64,
    /// Fewest words.
    pub min: usize,
    /// Median.
    pub median: usize,
    /// 90th percentile.
    pub p90: usize,
    /// Most words.
    pub max: usize,
}

/// Which answers of a kind are longer by a bias that training can learn in place of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthBias {
    /// The rejected answers are shorter: training prefers long answers.
    RejectedShorter,
    /// The rejected answers are longer: training prefers short answers.
    RejectedLonger,
}

impl PairStatistics {
    /// Computes the statistics of pairs.
    pub fn of<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> Self {
        let (mut kinds, mut errors) = (BTreeMap::<&str, Kind>::new(), BTreeMap::<&str, Kind>::new());
        let (mut images, mut sources, mut distortions) =
            (std::collections::HashSet::new(), BTreeMap::new(), BTreeMap::new());
        let mut chosen_kinds = BTreeMap::new();
        let mut duplicates = Duplicates::default();
        let (mut total, mut contrasts) = (0, 0);
        for pair in pairs {
            total += 1;
            images.extend(pair.all_images());
            contrasts += usize::from(pair.contrast().is_some());
            *sources.entry(source_of(&pair.images).to_owned()).or_default() += 1;
            if let Some(Provenance { distortion, error, .. }) = &pair.provenance {
                if !distortion.is_empty() {
                    *distortions.entry(family_names(distortion)).or_default() += 1;
                }
                if let Some(error) = error {
                    errors.entry(error).or_default().add(pair);
                }
            }
            if let Some(kind) = &pair.chosen_kind {
                *chosen_kinds.entry(kind.as_str().to_owned()).or_default() += 1;
            }
            kinds.entry(pair.kind.as_str()).or_default().add(pair);
            duplicates.add(pair);
        }
        Self {
            pairs: total,
            images: images.len(),
            contrasts,
            sources,
            distortions,
            chosen_kinds,
            kinds: finished(kinds),
            errors: finished(errors),
            near_duplicates: duplicates.found,
            examples_of_near_duplicates: duplicates.examples,
        }
    }

    /// Returns the kinds whose rejected answers are shorter or longer by a bias; see
    /// [`KindStatistics::length_bias`].
    pub fn length_biases(&self) -> impl Iterator<Item = (&str, LengthBias)> {
        self.kinds.iter().filter_map(|(name, kind)| Some((name.as_str(), kind.length_bias()?)))
    }
}

impl KindStatistics {
    /// Returns the length bias of the kind: of at least 20 pairs, the answers of one side have less
    /// than 0.8 times the words of the other side.
    pub fn length_bias(&self) -> Option<LengthBias> {
        if self.pairs < MANY {
            None
        } else if self.rejected.mean < BALANCED * self.chosen.mean {
            Some(LengthBias::RejectedShorter)
        } else if self.chosen.mean < BALANCED * self.rejected.mean {
            Some(LengthBias::RejectedLonger)
        } else {
            None
        }
    }
}

fn finished(kinds: BTreeMap<&str, Kind>) -> BTreeMap<String, KindStatistics> {
    kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind.finish())).collect()
}

/// Returns the names of the families of a distortion: `blur+diffusion-noise` for
/// `blur:sigma=2+diffusion-noise:step=500`.
fn family_names(distortion: &str) -> String {
    let name = |stage: &'_ str| stage.split_once(':').map_or(stage, |(name, _)| name).to_owned();
    distortion.split('+').map(name).collect::<Vec<_>>().join("+")
}

/// The pairs of one kind so far.
#[derive(Default)]
struct Kind {
    chosen: Vec<usize>,
    rejected: Vec<usize>,
    words: InjectedWords,
}

impl Kind {
    fn add(&mut self, pair: &PreferencePair) {
        self.chosen.push(count_words(&pair.chosen));
        self.rejected.push(count_words(&pair.rejected));
        self.words.add(pair);
    }

    fn finish(self) -> KindStatistics {
        let pairs = self.chosen.len();
        let lengths = || self.chosen.iter().zip(&self.rejected);
        let share = |count: usize| count as f64 / pairs as f64;
        let longer = share(lengths().filter(|(chosen, rejected)| rejected > chosen).count());
        let shorter = share(lengths().filter(|(chosen, rejected)| rejected < chosen).count());
        KindStatistics {
            pairs,
            rejected_longer: longer,
            rejected_shorter: shorter,
            chosen: Lengths::of(self.chosen),
            rejected: Lengths::of(self.rejected),
            injected_words: self.words.most_common(),
        }
    }
}

impl Lengths {
    /// Computes the lengths of at least one answer.
    fn of(mut words: Vec<usize>) -> Self {
        words.sort_unstable();
        let at = |tenths: usize| words[(words.len() - 1) * tenths / 10];
        let mean = words.iter().sum::<usize>() as f64 / words.len() as f64;
        Self { mean, min: at(0), median: at(5), p90: at(9), max: at(10) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn pair(id: usize, chosen: &str, rejected: &str) -> PreferencePair {
        serde_json::from_value(json!({
            "id": id.to_string(), "images": [format!("coco/{id}.jpg")], "prompt": "<image>\nWhat is it?",
            "chosen": chosen, "rejected": rejected, "kind": "llm-hal",
        }))
        .unwrap()
    }

    #[test]
    fn kinds_sources_and_distortions_are_counted() {
        let mut pairs = [pair(0, "A b c.", "D e."), pair(1, "A b.", "C d e."), pair(2, "A.", "B.")];
        pairs[1].images = vec!["a.jpg".into(), "coco/0.jpg".into()];
        pairs[2].kind = "mllm-hal".to_owned().into();
        pairs[2].provenance =
            serde_json::from_value(json!({"distortion": "blur:sigma=2+diffusion-noise:step=500"})).unwrap();
        pairs[1].provenance = Some(Provenance::of_error("count"));
        let statistics = PairStatistics::of(&pairs);
        assert_eq!((statistics.pairs, statistics.images), (3, 3));
        let count = &statistics.errors["count"];
        assert_eq!((statistics.errors.len(), count.pairs, count.rejected_longer), (1, 1, 1.0));
        assert_eq!(statistics.sources, BTreeMap::from([(".".into(), 1), ("coco".into(), 2)]));
        assert_eq!(statistics.distortions, BTreeMap::from([("blur+diffusion-noise".into(), 1)]));
        let kind = &statistics.kinds["llm-hal"];
        assert_eq!((kind.pairs, kind.rejected_longer, kind.rejected_shorter), (2, 0.5, 0.5));
        assert_eq!((kind.chosen.mean, kind.chosen.min, kind.chosen.max), (2.5, 2, 3));
        assert_eq!(statistics.contrasts, 0);
        (pairs[2].contrast_images, pairs[2].contrast_answer) = (vec!["b.jpg".into()], Some("C.".into()));
        let statistics = PairStatistics::of(&pairs);
        assert_eq!((statistics.images, statistics.contrasts), (4, 1));
        assert_eq!(PairStatistics::of(&[]).pairs, 0);
    }

    #[test]
    fn length_biases_are_found() {
        let bias = |chosen: &str, rejected: &str, pairs: usize| {
            let pairs: Vec<_> = (0..pairs).map(|id| pair(id, chosen, rejected)).collect();
            PairStatistics::of(&pairs).length_biases().map(|(_, bias)| bias).next()
        };
        assert_eq!(bias("a b c d e", "a b c", MANY), Some(LengthBias::RejectedShorter));
        assert_eq!(bias("a b c", "a b c d e", MANY), Some(LengthBias::RejectedLonger));
        assert_eq!(bias("a b c d e", "a b c d", MANY), None);
        assert_eq!(bias("a b c d e", "a b c", MANY - 1), None);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_lengths() {
        let lengths = Lengths::of((1..=11).rev().collect());
        assert_eq!(lengths, Lengths { mean: 6.0, min: 1, median: 6, p90: 10, max: 11 });
        assert_eq!(Lengths::of(vec![3]), Lengths { mean: 3.0, min: 3, median: 3, p90: 3, max: 3 });
    }
}
