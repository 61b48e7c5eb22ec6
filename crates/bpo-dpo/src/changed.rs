//! The tokens in which the two completions of a pair differ.

use std::collections::HashMap;
use std::ops::Range;

use crate::loss::{ChangedTokens, PairRows};

/// Number of equal tokens in a row from which they count as unchanged.
const LEAST_EQUAL: usize = 3;

/// Returns the changed tokens of both completions of each pair, given the tokens of all rows.
pub(crate) fn changed_in_pairs(completions: &[Vec<u32>], rows: &PairRows) -> ChangedTokens {
    let mut changed = ChangedTokens::default();
    for (chosen, rejected) in rows.chosen.iter().zip(&rows.rejected) {
        let [of_rejected, of_chosen] = changed_tokens(&completions[*rejected], &completions[*chosen]);
        changed.chosen.push(of_chosen);
        changed.rejected.push(of_rejected);
    }
    changed
}

/// Returns which tokens of two completions were changed into each other: the ranges between their
/// matching parts where both have tokens. Matching parts are those that Python's
/// `difflib.SequenceMatcher` finds without its shortcut for long sequences (`autojunk`). A common
/// beginning of any length matches; other parts have at least [`LEAST_EQUAL`] tokens.
///
/// This is `get_diff_ids` of the code of RLHF-V and CHiP (`diff_lib.py`), where the prompt is part of
/// both sequences. There the first sequence is the rejected completion.
fn changed_tokens(one: &[u32], other: &[u32]) -> [Vec<Range<usize>>; 2] {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let matches = matching_parts(&one[same..], &other[same..]);
    let matches = matches.into_iter().filter(|part| part.length >= LEAST_EQUAL);
    // the end, as an empty part
    let end = Part { one: one.len() - same, other: other.len() - same, length: 0 };
    let mut changed = [Vec::new(), Vec::new()];
    let (mut from, mut from_other) = (same, same);
    for Part { one, other, length } in matches.chain([end]) {
        let (one, other) = (one + same, other + same);
        if from < one && from_other < other {
            changed[0].push(from..one);
            changed[1].push(from_other..other);
        }
        (from, from_other) = (one + length, other + length);
    }
    changed
}

/// Equal tokens of two sequences: where they start in each, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    one: usize,
    other: usize,
    length: usize,
}

/// Returns the matching parts in order: the longest one, and those before and behind it (Ratcliff
/// and Obershelp). Adjacent parts are joined.
fn matching_parts(one: &[u32], other: &[u32]) -> Vec<Part> {
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (place, token) in other.iter().enumerate() {
        places.entry(*token).or_default().push(place);
    }
    let mut found = Vec::new();
    let mut open = vec![(0..one.len(), 0..other.len())];
    while let Some((of_one, of_other)) = open.pop() {
        let Some(part) = longest_part(one, &places, of_one.clone(), of_other.clone()) else { continue };
        open.push((of_one.start..part.one, of_other.start..part.other));
        open.push((part.one + part.length..of_one.end, part.other + part.length..of_other.end));
        found.push(part);
    }
    found.sort_unstable();
    let mut joined: Vec<Part> = Vec::new();
    for part in found {
        match joined.last_mut() {
            Some(last) if last.one + last.length == part.one && last.other + last.length == part.other => {
                last.length += part.length;
            }
            _ => joined.push(part),
        }
    }
    joined
}

/// Returns the longest part that matches in both ranges, the first one if there are several.
/// `places` has the places of each token in the other sequence, ascending.
fn longest_part(
    one: &[u32],
    places: &HashMap<u32, Vec<usize>>,
    of_one: Range<usize>,
    of_other: Range<usize>,
) -> Option<Part> {
    let mut best: Option<Part> = None;
    // length of the match that ends at each place of the other sequence
    let mut before: HashMap<usize, usize> = HashMap::new();
    for at in of_one {
        let mut lengths = HashMap::new();
        for &place in places.get(&one[at]).into_iter().flatten().filter(|place| of_other.contains(place)) {
            let length = 1 + place.checked_sub(1).and_then(|place| before.get(&place)).copied().unwrap_or(0);
            lengths.insert(place, length);
            if best.is_none_or(|best| length > best.length) {
                best = Some(Part { one: at + 1 - length, other: place + 1 - length, length });
            }
        }
        before = lengths;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tools/golden/changed_tokens.py` recorded.
    #[derive(serde::Deserialize)]
    struct Case {
        one: Vec<u32>,
        other: Vec<u32>,
        changed: [Vec<(usize, usize)>; 2],
    }

    #[test]
    fn changed_tokens_are_those_of_difflib() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/changed_tokens.json");
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for Case { one, other, changed } in &cases {
            let found = changed_tokens(one, other);
            let found = found.map(|ranges| ranges.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>());
            assert_eq!(found, *changed, "{one:?} and {other:?}");
        }
        assert_eq!(cases.len(), 60);
    }

    #[test]
    fn equal_completions_and_pure_insertions_have_no_changed_token() {
        let none: [Vec<Range<usize>>; 2] = Default::default();
        for (one, other) in [
            (vec![], vec![]),
            (vec![1, 2, 3], vec![1, 2, 3]),
            (vec![1, 2], vec![]),
            // nothing was put in the place of what is new
            (vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 9, 9, 4, 5, 6]),
        ] {
            assert_eq!(changed_tokens(&one, &other), none);
        }
    }

    #[test]
    fn short_matches_are_changed_except_at_the_beginning() {
        // 7 matches at the beginning; 5 6 alone is too short
        let [one, other] = changed_tokens(&[7, 1, 5, 6, 2, 3, 4, 5], &[7, 8, 5, 6, 9, 9, 3, 4, 5]);
        assert_eq!((one.len(), other.len()), (1, 1));
        assert_eq!((one[0].clone(), other[0].clone()), (1..5, 1..6));
        let [one, other] = changed_tokens(&[1, 2, 3, 4, 5, 6, 7], &[1, 9, 3, 4, 5, 8, 8]);
        assert_eq!((one, other), (vec![1..2, 5..7], vec![1..2, 5..7]));
    }
}
