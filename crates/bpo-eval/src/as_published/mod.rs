//! Objects in a caption by the rules of the published scorer of CHAIR, including their errors.
//!
//! Rohrbach et al. 2018, [arXiv 1809.02156](https://arxiv.org/abs/1809.02156): `caption_to_words`
//! in `utils/chair.py` of <https://github.com/LisaAnne/Hallucination>. The scorer lower-cases the
//! text, splits it into tokens with NLTK, puts each token in the singular with pattern.en, joins
//! some pairs of tokens, and looks them up in the list of synonyms.

pub(crate) mod sentences;
mod singular;
mod tokens;

use std::collections::BTreeMap;

use fancy_regex::Regex;

use crate::objects::Mention;

/// Pairs of tokens that are joined.
const PAIRS: [&str; 26] = [
    "motor bike",
    "motor cycle",
    "air plane",
    "traffic light",
    "street light",
    "traffic signal",
    "stop light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "suit case",
    "sports ball",
    "baseball bat",
    "baseball glove",
    "tennis racket",
    "wine glass",
    "hot dog",
    "cell phone",
    "mobile phone",
    "teddy bear",
    "hair drier",
    "potted plant",
    "laptop computer",
    "stove top oven",
    "home plate",
    "train track",
];

/// Pairs of tokens with their replacements. Pattern's singular of `glass` is `glas`.
const RENAMED: [(&str, &str); 3] =
    [("bow tie", "tie"), ("toilet seat", "toilet"), ("wine glas", "wine glass")];

/// Words that are no person after `baby` or `adult`.
pub(crate) const ANIMALS: [&str; 12] =
    ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub"];

/// Words that are no person after `passenger`.
pub(crate) const VEHICLES: [&str; 2] = ["jet", "train"];

/// The synonyms of a list with their objects. Synonyms are separated by `, ` and kept as written.
/// If a synonym repeats, its last line is used.
pub(crate) fn synonyms<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    for line in lines {
        let mut synonyms = line.trim().split(", ").peekable();
        let Some(object) = synonyms.peek().copied().filter(|object| !object.is_empty()) else { continue };
        words.extend(synonyms.map(|word| (word.to_owned(), object.to_owned())));
    }
    words
}

/// The mentions of objects of the list in a text, in order.
pub(crate) fn mentions(words: &BTreeMap<String, String>, text: &str) -> Vec<Mention> {
    let tokens = placed(text);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((first, start, end)) = tokens.get(at) {
        let pair = tokens.get(at + 1).and_then(|(second, _, end)| Some((joined(first, second)?, *end)));
        let (word, end, count) = match pair {
            Some((word, end)) => (word, end, 2),
            None => (first.clone(), *end, 1),
        };
        found.push((word, *start, end));
        at += count;
    }
    // A toilet seat is no chair.
    let has = |name: &str| found.iter().any(|(word, ..)| word == name);
    let without_seats = has("toilet") && has("seat");
    let counted = found.into_iter().filter(|(word, ..)| !(without_seats && word == "seat"));
    counted
        .filter_map(|(word, start, end)| Some(Mention { object: words.get(&word)?.clone(), start, end }))
        .collect()
}

/// The word into which two tokens are joined.
fn joined(first: &str, second: &str) -> Option<String> {
    let pair = format!("{first} {second}");
    if let Some((_, word)) = RENAMED.iter().find(|(known, _)| *known == pair) {
        return Some((*word).to_owned());
    }
    if PAIRS.contains(&pair.as_str()) {
        return Some(pair);
    }
    let known = match first {
        "baby" | "adult" => ANIMALS.contains(&second),
        "passenger" => VEHICLES.contains(&second),
        _ => false,
    };
    known.then(|| second.to_owned())
}

/// The tokens of a text in the singular, with their byte ranges.
fn placed(text: &str) -> Vec<(String, usize, usize)> {
    // Characters may change their length in lower case.
    let (mut lower, mut places) = (String::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    for (place, letter) in text.char_indices() {
        for small in letter.to_lowercase() {
            lower.push(small);
            places.resize(lower.len(), place);
        }
    }
    places.push(text.len());
    let mut from = 0;
    let mut all = Vec::new();
    for token in sentences::sentences(&lower).into_iter().flat_map(tokens::tokens) {
        // The tokenizer rewrites quotes. All other tokens are substrings of the text.
        let start = match token.as_str() {
            "``" | "''" => from,
            token => lower[from..].find(token).map_or(from, |place| from + place),
        };
        if lower[start..].starts_with(&token) {
            from = start + token.len();
        }
        all.push((singular::singular(&token), places[start], places[from]));
    }
    all
}

/// Compiles a constant pattern.
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("patterns of this module are constant, and tests use all of them")
}
