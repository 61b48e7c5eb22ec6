//! Figures about preference data, for reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::filter::count_words;
use crate::pairs::PairSet;
use crate::record::CompletionKind;
use crate::skipped::SkipCounts;

/// Lengths of answers, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `min`, `mean` and `max`")]
pub struct Lengths {
    /// The shortest; 0 for none.
    pub min: usize,
    /// The mean; 0 for none.
    pub mean: f64,
    /// The longest; 0 for none.
    pub max: usize,
}

impl Lengths {
    /// Lengths of `texts`.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<usize> = texts.into_iter().map(count_words).collect();
        let mean = words.iter().sum::<usize>() as f64 / words.len().max(1) as f64;
        let (min, max) = (words.iter().copied().min(), words.iter().copied().max());
        Self { min: min.unwrap_or(0), mean, max: max.unwrap_or(0) }
    }
}

/// Figures about the pairs of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `pairs`, `chosen_words` and `rejected_words`")]
pub struct KindStats {
    /// Number of pairs.
    pub pairs: usize,
    /// Words of the preferred answers.
    pub chosen_words: Lengths,
    /// Words of the rejected answers.
    pub rejected_words: Lengths,
}

/// Figures about pairs and what was skipped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `pairs`, `kinds` and `skipped`")]
pub struct PairStats {
    /// Number of pairs.
    pub pairs: usize,
    /// By where the rejected answer comes from.
    pub kinds: BTreeMap<CompletionKind, KindStats>,
    /// How often each reason for skipping occurred.
    pub skipped: SkipCounts,
}

impl PairStats {
    /// Figures about `set`.
    pub fn of(set: &PairSet) -> Self {
        let mut by_kind: BTreeMap<&CompletionKind, Vec<_>> = BTreeMap::new();
        for pair in &set.pairs {
            by_kind.entry(&pair.kind).or_default().push(pair);
        }
        let kinds = by_kind.into_iter().map(|(kind, pairs)| {
            let stats = KindStats {
                pairs: pairs.len(),
                chosen_words: Lengths::of(pairs.iter().map(|pair| pair.chosen.as_str())),
                rejected_words: Lengths::of(pairs.iter().map(|pair| pair.rejected.as_str())),
            };
            (kind.clone(), stats)
        });
        Self { pairs: set.pairs.len(), kinds: kinds.collect(), skipped: set.skipped.iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PreferencePair;
    use crate::skipped::{SkipReason, Skipped};

    #[test]
    fn figures_per_kind() {
        let pair = |rejected: &str, kind| PreferencePair {
            id: rejected.into(),
            image: "a.jpg".into(),
            system: None,
            history: vec![],
            prompt: "What?".into(),
            chosen: "a red cup".into(),
            rejected: rejected.into(),
            kind,
            provenance: None,
            margin: None,
            beta: None,
        };
        let set = PairSet {
            pairs: vec![
                pair("a", CompletionKind::ImageWeakened),
                pair("a blue cup here", CompletionKind::ImageWeakened),
                pair("two cups", CompletionKind::ErrorInjected),
            ],
            skipped: vec![Skipped::new("x", SkipReason::Identical)],
        };
        let stats = PairStats::of(&set);
        let weakened = stats.kinds[&CompletionKind::ImageWeakened];
        assert_eq!((stats.pairs, weakened.pairs), (3, 2));
        assert_eq!(weakened.rejected_words, Lengths { min: 1, mean: 2.5, max: 4 });
        assert_eq!(stats.skipped.get(SkipReason::Identical), 1);
        let json = serde_json::to_string(&stats).unwrap();
        assert!(json.contains(r#""mllm-hal":{"pairs":2"#), "{json}");
        assert_eq!(serde_json::from_str::<PairStats>(&json).unwrap(), stats);
    }

    #[test]
    fn no_texts_have_no_length() {
        assert_eq!(Lengths::of([]), Lengths::default());
    }
}
