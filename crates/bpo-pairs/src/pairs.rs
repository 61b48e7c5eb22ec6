//! Makes preference pairs from scored completions.

use serde::{Deserialize, Serialize};

use crate::filter::PairFilter;
use crate::pair_ref::PairRef;
use crate::placeholders::check_answers;
use crate::record::{PreferencePair, Record};
use crate::skipped::{SkipCause, SkipReason, Skipped};

/// Pairs, and the records and pairs that were skipped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `pairs` and `skipped`")]
pub struct PairSet {
    /// The pairs that passed the filter.
    pub pairs: Vec<PreferencePair>,
    /// Records that make no pair, and pairs that did not pass the filter.
    pub skipped: Vec<Skipped>,
}

impl PairSet {
    /// Appends the pairs and skipped items of `other`.
    pub fn extend(&mut self, other: Self) {
        self.pairs.extend(other.pairs);
        self.skipped.extend(other.skipped);
    }
}

/// Returns one pair for each two completions with different scores, as in the authors' code. The
/// completion with the higher score is the chosen one.
///
/// The id of a pair is `{record}:{i}>{j}`, where `i` and `j` are the indices of the chosen and the
/// rejected completion. Its kind is that of the rejected completion. A completion with a NaN score
/// makes no pair.
pub fn all_pairs(record: &Record) -> impl Iterator<Item = PreferencePair> + '_ {
    all_pair_refs(record).map(|pair| pair.to_pair())
}

fn all_pair_refs(record: &Record) -> impl Iterator<Item = PairRef<'_>> {
    let indexed = || record.completions.iter().enumerate();
    indexed().flat_map(move |(i, chosen)| {
        indexed().filter(|(_, rejected)| chosen.score > rejected.score).map(move |(j, rejected)| PairRef {
            id: format!("{}:{i}>{j}", record.id).into(),
            images: &record.images,
            system: record.system.as_deref(),
            history: &record.history,
            prompt: &record.prompt,
            chosen: &chosen.response,
            rejected: &rejected.response,
            kind: &rejected.kind,
            chosen_kind: Some(&chosen.kind).filter(|kind| kind.is_bootstrapped()),
            provenance: rejected.provenance.as_ref(),
            margin: Some(chosen.score - rejected.score).filter(|margin| margin.is_finite()),
            beta: None,
            contrast_images: &[],
            contrast_answer: None,
        })
    })
}

/// Makes the pairs of a record that pass `filter`. Other pairs are skipped, and so is a record
/// without a pair.
///
/// Of several pairs with the same kind and the same answers, only the first is kept, so that an
/// answer that the model gave several times does not count more in training. Equal answers of
/// different kinds (weakened image and injected errors) make one pair per kind, as in the authors'
/// data.
pub fn make_pairs(record: &Record, filter: &PairFilter) -> PairSet {
    let (pairs, skipped) = make_pair_refs(record, filter);
    PairSet { pairs: pairs.iter().map(PairRef::to_pair).collect(), skipped }
}

/// Does the same as [`make_pairs`] without copying texts.
pub(crate) fn make_pair_refs<'a>(
    record: &'a Record,
    filter: &PairFilter,
) -> (Vec<PairRef<'a>>, Vec<Skipped>) {
    let (mut pairs, mut skipped) = (Vec::new(), Vec::new());
    if let Err(reason) = filter.check_record(record) {
        skipped.push(Skipped::new(&record.id, reason));
        return (pairs, skipped);
    }
    for pair in all_pair_refs(record) {
        let same = |known: &PairRef<'_>| {
            known.kind == pair.kind
                && known.chosen.trim() == pair.chosen.trim()
                && known.rejected.trim() == pair.rejected.trim()
        };
        let repeated = if pairs.iter().any(same) { Err(SkipReason::Repeated) } else { Ok(()) };
        let passes = filter.check_answers(pair.chosen, pair.rejected).and(repeated).map_err(SkipCause::from);
        match passes.and_then(|()| check_answers(pair.chosen, pair.rejected)) {
            Ok(()) => pairs.push(pair),
            Err(cause) => skipped.push(cause.of(pair.id)),
        }
    }
    if pairs.is_empty() && skipped.is_empty() {
        let is_alone = record.completions.len() < 2;
        let reason = if is_alone { SkipReason::NoRejected } else { SkipReason::NoPreference };
        skipped.push(Skipped::new(&record.id, reason));
    }
    (pairs, skipped)
}

/// Makes the pairs of all records; see [`make_pairs`].
pub fn make_all_pairs<'a>(records: impl IntoIterator<Item = &'a Record>, filter: &PairFilter) -> PairSet {
    let mut set = PairSet::default();
    records.into_iter().for_each(|record| set.extend(make_pairs(record, filter)));
    set
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Completion, CompletionKind};

    fn record(scores: &[f64]) -> Record {
        let completion = |(i, &score): (usize, &f64)| Completion {
            response: format!("answer {i}"),
            score,
            kind: CompletionKind::Other(format!("kind-{i}")),
            provenance: None,
        };
        Record {
            id: "r".into(),
            images: vec!["a.jpg".into()],
            system: None,
            history: Default::default(),
            prompt: "<image>\nWhat?".into(),
            completions: scores.iter().enumerate().map(completion).collect(),
        }
    }

    #[test]
    fn pair_names_its_completions() {
        let pairs: Vec<_> = all_pairs(&record(&[0.0, 1.0, 0.0])).collect();
        let ids: Vec<_> = pairs.iter().map(|pair| pair.id.as_str()).collect();
        assert_eq!(ids, ["r:1>0", "r:1>2"]);
        assert_eq!((pairs[1].chosen.as_str(), pairs[1].rejected.as_str()), ("answer 1", "answer 2"));
        assert_eq!(pairs[1].kind.as_str(), "kind-2");
    }

    #[test]
    fn record_without_a_pair_is_counted() {
        for (scores, reason) in [
            (&[1.0, 1.0][..], SkipReason::NoPreference),
            (&[f64::NAN, 1.0], SkipReason::NoPreference),
            (&[1.0], SkipReason::NoRejected),
            (&[], SkipReason::NoRejected),
        ] {
            let set = make_pairs(&record(scores), &PairFilter::default());
            assert_eq!(set.skipped, [Skipped::new("r", reason)], "{scores:?}");
        }
    }

    #[test]
    fn long_answer_removes_its_pairs_or_its_sample() {
        for long in 0..3 {
            let mut record = record(&[1.0, 0.0, 0.0]);
            record.completions[long].response = "word ".repeat(4);
            let filter = PairFilter::default().with_max_words(3);
            let left = if long == 0 { 0 } else { 1 };
            assert_eq!(make_pairs(&record, &filter).pairs.len(), left, "{long}");
            let set = make_pairs(&record, &filter.with_whole_sample(true));
            assert_eq!(
                (set.pairs.len(), set.skipped),
                (0, vec![Skipped::new("r", SkipReason::TooLong)]),
                "{long}"
            );
        }
        let filter = PairFilter::default().with_max_words(3).with_whole_sample(true);
        assert_eq!(make_pairs(&record(&[1.0, 0.0, 0.0]), &filter).pairs.len(), 2);
    }

    #[test]
    fn answer_with_a_placeholder_makes_no_pair() {
        let mut record = record(&[1.0, 0.0, 0.0]);
        record.completions[1].response = "<|image_pad|>A cat.".into();
        let set = make_pairs(&record, &PairFilter::default());
        assert_eq!(set.pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["r:0>2"]);
        assert_eq!(
            (set.skipped[0].id.as_str(), set.skipped[0].reason),
            ("r:0>1", SkipReason::OtherPlaceholder)
        );
        assert!(set.skipped[0].detail.contains("`rejected`"), "{}", set.skipped[0].detail);
    }

    #[test]
    fn repeated_answers_make_one_pair() {
        let mut record = record(&[1.0, 0.0, 0.0, 0.0]);
        for again in [2, 3] {
            record.completions[again].response = " answer 1\n".into();
        }
        record.completions[3].kind = record.completions[1].kind.clone();
        let set = make_pairs(&record, &PairFilter::default());
        let ids: Vec<_> = set.pairs.iter().map(|pair| pair.id.as_str()).collect();
        assert_eq!(ids, ["r:0>1", "r:0>2"]);
        assert_eq!(set.skipped, [Skipped::new("r:0>3", SkipReason::Repeated)]);
    }

    proptest! {
        #[test]
        fn every_strictly_higher_score_makes_a_pair(scores in prop::collection::vec(0_u8..4, 0..8)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let found: Vec<_> = all_pairs(&record(&scores)).map(|pair| pair.id).collect();
            let mut expected = Vec::new();
            for (i, higher) in scores.iter().enumerate() {
                for (j, lower) in scores.iter().enumerate() {
                    if higher > lower {
                        expected.push(format!("r:{i}>{j}"));
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
