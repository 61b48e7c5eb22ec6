//! Selection of pairs: which pairs of a sample are kept, and which samples.

mod groups;
mod sources;

use serde::{Deserialize, Serialize};

pub use groups::ImageGroups;
pub use sources::{Subset, source_of};

use crate::filter::PairFilter;
use crate::pairs::{PairSet, make_pairs};
use crate::record::{PreferencePair, Record};
use crate::seed::{item_seed, unit_interval};
use crate::skipped::{SkipCounts, SkipReason, Skipped};
use crate::untrusted::Untrusted;
use crate::words::{lower_words, word_edits};

/// Which pairs of a sample are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PairRule {
    /// Every two answers with different scores, as in the authors' code.
    #[default]
    All,
    /// One pair: the best answer and the worst one.
    BestWorst,
    /// One pair for each kind of rejected answer: the best answer, and the worst one of the kind.
    OnePerKind,
}

impl PairRule {
    /// All rules.
    pub const ALL: [Self; 3] = [Self::All, Self::BestWorst, Self::OnePerKind];

    /// Returns the name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::BestWorst => "best-worst",
            Self::OnePerKind => "one-per-kind",
        }
    }
}

/// Which other images with another right answer a pair gets: its
/// [contrast](PreferencePair::contrast).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ContrastChoice {
    /// None.
    #[default]
    None,
    /// Those of the sample whose annotated answer shares the most words with the chosen answer of the
    /// pair. It is ours: the authors of SymMPO (arXiv 2506.11712) take similar images by features of
    /// CLIP.
    Similar,
    /// Those of a sample that the seed draws.
    Random,
}

impl ContrastChoice {
    /// All values.
    pub const ALL: [Self; 3] = [Self::None, Self::Similar, Self::Random];

    /// Returns the name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Similar => "similar",
            Self::Random => "random",
        }
    }

    /// Returns whether pairs get no contrast.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Selection of the pairs of a data set. Every choice but that of
/// [`contrast`](Self::contrast) depends on the seed and on ids alone, so it is the same for samples in
/// any order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table with `rule`")]
#[non_exhaustive]
pub struct PairSelection {
    /// Which pairs of a sample are kept. Ties between scores are decided by the seed. Default: all.
    pub rule: PairRule,
    /// Maximum number of pairs of a sample, which the seed selects. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_sample: Option<usize>,
    /// Similarity of rejected answers, from 0 to 1, from which the later one of a sample makes no
    /// pair: 1 minus the share of changed words. 1 finds answers that differ in case, spacing and
    /// punctuation only. Default: none, so that only equal answers of the same kind are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<f64>,
    /// Share of the images whose pairs are for evaluation, in percent; see [`ImageGroups`]. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_percent: Option<f64>,
    /// Maximum number of tokens of the prompt with its images and one answer. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Whether answers about weakened images that reached their maximum length make no pair.
    /// [`pairs_of`](Self::pairs_of) does not apply it, because a record does not say how its answers ended;
    /// the pair stage of the crate `bpo` does. Default: false, as in the authors' code.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_cut: bool,
    /// Whether answers about weakened images that decline to answer make no pair, unless the annotated
    /// answer declines, too. Like `skip_cut`, it is applied by the pair stage of the crate `bpo` and not by
    /// [`pairs_of`](Self::pairs_of). Default: false, as in the authors' code.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_refusals: bool,
    /// Share of the samples of each source that make pairs, in percent. Default: all samples.
    #[serde(skip_serializing_if = "Subset::is_all")]
    pub subset: Subset,
    /// Which other images with another annotated answer to the same question a pair gets, for losses that
    /// compare images. Like `skip_cut`, it is applied by the pair stage of the crate `bpo`, because it
    /// needs all samples. Default: none.
    #[serde(skip_serializing_if = "ContrastChoice::is_none")]
    pub contrast: ContrastChoice,
}

/// A value of [`PairSelection`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` must be {expected}, not {found}", Untrusted(key))]
pub struct SelectionError {
    /// Name of the key.
    pub key: String,
    /// The values that can be used.
    pub expected: &'static str,
    /// The value that was found.
    pub found: String,
}

/// The pairs of one record after the selection.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SelectedPairs {
    /// The pairs that were selected.
    pub pairs: Vec<PreferencePair>,
    /// Pairs that did not pass the filter, or the record if it makes no pair.
    pub skipped: Vec<Skipped>,
    /// Number of pairs, or of records, that were not selected.
    pub left_out: SkipCounts,
}

impl PairSelection {
    /// Sets which pairs of a sample are kept.
    #[must_use]
    pub fn with_rule(mut self, rule: PairRule) -> Self {
        self.rule = rule;
        self
    }

    /// Sets the maximum number of pairs of a sample.
    #[must_use]
    pub fn with_max_per_sample(mut self, pairs: usize) -> Self {
        self.max_per_sample = Some(pairs);
        self
    }

    /// Sets the similarity from which rejected answers are left out.
    #[must_use]
    pub fn with_dedup(mut self, similarity: f64) -> Self {
        self.dedup = Some(similarity);
        self
    }

    /// Sets the share of the samples of each source.
    #[must_use]
    pub fn with_subset(mut self, subset: Subset) -> Self {
        self.subset = subset;
        self
    }

    /// Makes the pairs of a record that pass `filter` ([`make_pairs`]), and selects among them. The
    /// order of the pairs stays the same.
    pub fn pairs_of(&self, record: &Record, filter: &PairFilter, seed: u64) -> SelectedPairs {
        let mut selected = SelectedPairs::default();
        if !self.subset.has(record, seed) {
            selected.left_out.add(SkipReason::OutsideSubset);
            return selected;
        }
        let PairSet { mut pairs, skipped } = make_pairs(record, filter);
        selected.skipped = skipped;
        if let Some(similarity) = self.dedup {
            keep_different(&mut pairs, similarity, &mut selected.left_out);
        }
        match self.rule {
            PairRule::All => {}
            PairRule::BestWorst => {
                let best = best_of(&pairs, seed, |_| true);
                keep(&mut pairs, SkipReason::NotSelected, &mut selected.left_out, |place, _| {
                    Some(place) == best
                });
            }
            PairRule::OnePerKind => {
                let best: Vec<Option<usize>> =
                    pairs.iter().map(|pair| best_of(&pairs, seed, |other| other.kind == pair.kind)).collect();
                keep(&mut pairs, SkipReason::NotSelected, &mut selected.left_out, |place, _| {
                    best[place] == Some(place)
                });
            }
        }
        if let Some(most) = self.max_per_sample.filter(|&most| most < pairs.len()) {
            let mut drawn: Vec<u64> = pairs.iter().map(|pair| draw("cap", seed, &pair.id)).collect();
            let places: Vec<u64> = drawn.clone();
            drawn.sort_unstable();
            let kept = &drawn[..most];
            keep(&mut pairs, SkipReason::OverCap, &mut selected.left_out, |place, _| {
                kept.binary_search(&places[place]).is_ok()
            });
        }
        selected.pairs = pairs;
        selected
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the key.
    pub fn validate(&self) -> Result<(), SelectionError> {
        let check = |key: &str, holds: bool, expected: &'static str, found: String| {
            if holds { Ok(()) } else { Err(SelectionError { key: key.to_owned(), expected, found }) }
        };
        if let Some(most) = self.max_per_sample {
            check("max_per_sample", most > 0, "at least 1", most.to_string())?;
        }
        if let Some(similarity) = self.dedup {
            let expected = "above 0 and at most 1";
            check("dedup", similarity > 0.0 && similarity <= 1.0, expected, similarity.to_string())?;
        }
        for (source, percent) in self.subset.percents() {
            let key = format!("subset.{source}");
            check(&key, (0.0..=100.0).contains(&percent), "from 0 to 100", percent.to_string())?;
        }
        if let Some(percent) = self.eval_percent {
            let expected = "above 0 and below 100";
            check("eval_percent", percent > 0.0 && percent < 100.0, expected, percent.to_string())?;
        }
        if let Some(most) = self.max_tokens {
            check("max_tokens", most > 0, "at least 1", most.to_string())?;
        }
        Ok(())
    }
}

/// Returns a random number that depends on the purpose, the seed and the id.
fn draw(purpose: &str, seed: u64, id: &str) -> u64 {
    item_seed(seed, format!("{purpose}/{id}"))
}

/// Returns whether an id is within the first `percent` of all ids in the random order of a seed.
fn is_within(percent: f64, purpose: &str, seed: u64, id: &str) -> bool {
    unit_interval(draw(purpose, seed, id)) * 100.0 < percent
}

/// Keeps the pairs for which `is_kept` returns true, and counts the others.
fn keep(
    pairs: &mut Vec<PreferencePair>,
    reason: SkipReason,
    left_out: &mut SkipCounts,
    is_kept: impl Fn(usize, &PreferencePair) -> bool,
) {
    let mut place = 0;
    pairs.retain(|pair| {
        let is_kept = is_kept(place, pair);
        place += 1;
        if !is_kept {
            left_out.add(reason);
        }
        is_kept
    });
}

/// Returns the index of the pair with the largest difference of scores among those that `is_asked`
/// accepts: that of the best and the worst answer. The seed decides between equal ones.
fn best_of(pairs: &[PreferencePair], seed: u64, is_asked: impl Fn(&PreferencePair) -> bool) -> Option<usize> {
    // a difference that is not finite is not recorded
    let margin = |pair: &PreferencePair| pair.margin.unwrap_or(f64::INFINITY);
    let asked = pairs.iter().enumerate().filter(|(_, pair)| is_asked(pair));
    let best = asked.max_by(|(_, one), (_, other)| {
        let by_draw = || draw("tie", seed, &one.id).cmp(&draw("tie", seed, &other.id));
        margin(one).total_cmp(&margin(other)).then_with(by_draw)
    });
    best.map(|(place, _)| place)
}

/// Removes pairs whose rejected answer is similar to that of an earlier pair with the same chosen
/// answer.
fn keep_different(pairs: &mut Vec<PreferencePair>, similarity: f64, left_out: &mut SkipCounts) {
    let words: Vec<Vec<String>> = pairs.iter().map(|pair| lower_words(&pair.rejected)).collect();
    let mut kept: Vec<usize> = Vec::new();
    for place in 0..pairs.len() {
        let is_similar = |&earlier: &usize| {
            pairs[earlier].chosen == pairs[place].chosen
                && are_similar(&words[earlier], &words[place], similarity)
        };
        if !kept.iter().any(is_similar) {
            kept.push(place);
        }
    }
    keep(pairs, SkipReason::NearDuplicate, left_out, |place, _| kept.binary_search(&place).is_ok());
}

fn are_similar(one: &[String], other: &[String], similarity: f64) -> bool {
    let longer = one.len().max(other.len());
    // fewer edits than the difference of the lengths are impossible
    let allowed = (1.0 - similarity) * longer as f64 + 1e-9;
    one.len().abs_diff(other.len()) as f64 <= allowed && word_edits(one, other) as f64 <= allowed
}

#[cfg(test)]
mod tests;
