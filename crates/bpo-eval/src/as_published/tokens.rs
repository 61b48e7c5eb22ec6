//! Tokens of a sentence, as split by NLTK's `word_tokenize` (the `NLTKWordTokenizer` of NLTK 3.10).

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::pattern;

/// Patterns with replacements, in order. The last adds a space at both ends, before
/// [`ENDING_QUOTES`].
#[rustfmt::skip]
const SIGNS: [(&str, &str); 18] = [
    // Opening quotes.
    ("([«“‘„]|`+)", " ${1} "),
    (r#"^""#, "``"),
    ("(``)", " ${1} "),
    (r#"([ (\[{<])("|'{2})"#, "${1} `` "),
    (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "${1} "),
    // Punctuation between words, and the final full stop.
    (r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "${1} ${2} ${3} "),
    (r"([:,])([^\d])", " ${1} ${2}"),
    (r"([:,])$", " ${1} "),
    (r"\.{2,}", " ${0} "),
    (r"[;@#$%&]", " ${0} "),
    (r"[\u{2012}-\u{2015}]", " ${0} "),
    (r#"([^.])(\.)([\])}>"']*)\s*$"#, "${1} ${2}${3} "),
    (r"[?!]", " ${0} "),
    (r"([^'])' ", "${1} ' "),
    (r"\*", " ${0} "),
    (r"[\]\[(){}<>]", " ${0} "),
    (r"--", " -- "),
    (r"\A|\z", " "),
];

/// Closing quotes, and endings after an apostrophe.
const ENDING_QUOTES: [(&str, &str); 6] = [
    ("([»”’])", " ${1} "),
    ("''", " '' "),
    ("\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "${1} ${2} "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "${1} ${2} "),
];

/// Contractions without an apostrophe or with a leading one.
const CONTRACTIONS: [(&str, &str); 10] = [
    (r"(?i)\b(can)(not)\b", " ${1} ${2} "),
    (r"(?i)\b(d)('ye)\b", " ${1} ${2} "),
    (r"(?i)\b(gim)(me)\b", " ${1} ${2} "),
    (r"(?i)\b(gon)(na)\b", " ${1} ${2} "),
    (r"(?i)\b(got)(ta)\b", " ${1} ${2} "),
    (r"(?i)\b(lem)(me)\b", " ${1} ${2} "),
    (r"(?i)\b(more)('n)\b", " ${1} ${2} "),
    (r"(?i)\b(wan)(na)(?=\s)", " ${1} ${2} "),
    (r"(?i) ('t)(is)\b", " ${1} ${2} "),
    (r"(?i) ('t)(was)\b", " ${1} ${2} "),
];

static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rules = SIGNS.iter().chain(&ENDING_QUOTES).chain(&CONTRACTIONS);
    rules.map(|(found, replacement)| (pattern(found), *replacement)).collect()
});

/// The tokens of one sentence.
pub(super) fn tokens(sentence: &str) -> Vec<String> {
    let mut text = sentence.to_owned();
    for (found, replacement) in RULES.iter() {
        text = found.replace_all(&text, *replacement).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}
