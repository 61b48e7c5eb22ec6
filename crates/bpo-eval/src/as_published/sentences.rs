//! Sentences of an English text. A text in lower case is split as NLTK's `sent_tokenize` splits it.
//!
//! The algorithm is Punkt (Kiss and Strunk 2006) with the parameters of NLTK's English model
//! (`punkt_tab`). Most of the model concerns capital letters, which a lower-case text does not
//! have; only the list of abbreviations remains. Four rare sentence starters after a number or an
//! initial are omitted, because they do not change the tokens. Of capital letters, only the first one
//! of the next word counts, after a number or an initial; this is ours.

use std::ops::Range;
use std::sync::LazyLock;

use fancy_regex::Regex;

use super::pattern;

/// Words after which a full stop does not end a sentence.
#[rustfmt::skip]
const ABBREVIATIONS: [&str; 156] = [
    ". . ", "a.a", "a.c", "a.d", "a.g", "a.h", "a.m", "a.m.e", "a.s", "a.t", "adm", "ala", "ariz", "aug",
    "ave", "b.f", "b.v", "bros", "c", "c.i.t", "c.o.m.b", "c.v", "calif", "chg", "cie", "co", "col", "colo",
    "conn", "corp", "cos", "ct", "d", "d.c", "d.h", "d.w", "dec", "dr", "e", "e.f", "e.h", "e.l", "e.m", "f",
    "f.g", "f.j", "feb", "fla", "fri", "ft", "g", "g.d", "g.f", "g.k", "ga", "gen", "h", "h.c", "h.f", "h.m",
    "i.m.s", "ill", "inc", "j.b", "j.c", "j.j", "j.k", "j.p", "j.r", "jan", "jr", "k", "kan", "ky", "l",
    "l.a", "l.f", "l.p", "lt", "ltd", "m", "m.b.a", "m.d.c", "m.j", "maj", "messrs", "mg", "mich", "minn",
    "mr", "mrs", "ms", "n", "n.c", "n.d", "n.h", "n.j", "n.m", "n.v", "n.y", "nev", "nov", "oct", "ok",
    "okla", "ore", "p", "p.a.m", "p.m", "pa", "ph.d", "prof", "r", "r.a", "r.h", "r.i", "r.j", "r.k", "r.t",
    "rep", "reps", "s", "s.a", "s.a.y", "s.c", "s.g", "s.p.a", "s.s", "sen", "sep", "sept", "sr", "st", "sw",
    "t", "t.j", "tenn", "tues", "u.k", "u.n", "u.s", "u.s.a", "u.s.s.r", "v", "va", "vs", "vt", "w", "w.c",
    "w.r", "w.va", "w.w", "wash", "wed", "wis", "yr",
];

const NO_WORD: &str = r#"[)";}\]*:@'({\[‘’“”«»?!]"#;
const SIGNS: &str = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)";

/// Punctuation that may end a sentence, with the text after it.
static ENDING: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"[.?!](?=(?<after>{NO_WORD}|\s+(?<next>\S+)))")));

/// Words with their full stops, and other punctuation.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"{SIGNS}|(?=[^("`{{\[:;&#*@)}}\]\-,])\S+?(?=\s|$|{NO_WORD}|{SIGNS}|,(?=$|\s|{NO_WORD}|{SIGNS}))|\S"#
    ))
});

/// Closing quotes and brackets at the start of a sentence, which belong to the previous sentence.
static CLOSING: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?m)\A["')\]}‘’“”«»]+?(?:\s+|(?=--)|$)"#));

static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[.,]?\d[\d,.-]*\.?$"));

/// The sentences of an English text, in order, without the white space around them.
///
/// The rules are those of NLTK's `sent_tokenize` for a text in lower case: Punkt (Kiss and Strunk 2006)
/// with the abbreviations of its English model. An abbreviation never ends a sentence, and a line break
/// alone does not. In a text with capital letters, a number before one ends a sentence ("in 1990. The"),
/// and an initial before one does not ("J. Smith"). Punctuation of other scripts ends no sentence.
///
/// ```
/// let text = "Dr. Lee has 3. The dog sleeps! “It is late.” Is it?";
/// let found = ["Dr. Lee has 3.", "The dog sleeps!", "“It is late.”", "Is it?"];
/// assert_eq!(bpo_eval::sentences(text), found);
/// ```
pub fn sentences(text: &str) -> Vec<&str> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for Ending { end, next, context } in endings(text) {
        if is_broken(&context) {
            ranges.push(start..end);
            start = next;
        }
    }
    ranges.push(start..text.trim_end().len().max(start));
    closed(text, &ranges)
}

struct Ending {
    /// Byte offset after the punctuation.
    end: usize,
    /// Byte offset of the possible next sentence.
    next: usize,
    /// The word before the punctuation, the punctuation, and the text after it.
    context: String,
}

/// Possible sentence ends. Only the last one within a word is used.
fn endings(text: &str) -> Vec<Ending> {
    let mut all = Vec::new();
    let mut word = 0..0;
    let mut last: Option<Ending> = None;
    for found in ENDING.captures_iter(text).filter_map(Result::ok) {
        let (Some(sign), Some(after)) = (found.get(0), found.name("after")) else { continue };
        let space = text[word.end..sign.start()].rfind(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        // A space at the first position does not count.
        let start = match space {
            Some(place) if place > 0 => word.end + place + 1,
            _ => word.start,
        };
        if let Some(ending) = last.take().filter(|_| word.end <= start) {
            all.push(ending);
        }
        word = start..sign.start();
        last = Some(Ending {
            end: sign.end(),
            next: found.name("next").map_or(sign.end(), |next| next.start()),
            context: [&text[word.clone()], sign.as_str(), after.as_str()].concat(),
        });
    }
    all.extend(last);
    all
}

/// Whether a sentence ends within a context.
fn is_broken(context: &str) -> bool {
    let words: Vec<&str> = context
        .split('\n')
        .flat_map(|line| WORD.find_iter(line).filter_map(Result::ok).map(|found| found.as_str()))
        .collect();
    words.windows(2).any(|pair| ends_sentence(pair[0], pair[1]))
}

fn ends_sentence(word: &str, next: &str) -> bool {
    if ["?", "!"].contains(&word) {
        return true;
    }
    let Some(stem) = word.strip_suffix('.').filter(|stem| !stem.ends_with('.')) else { return false };
    let last_part = stem.rsplit('-').next().unwrap_or(stem);
    let is_abbreviation = |part: &str| ABBREVIATIONS.contains(&part.to_lowercase().as_str());
    if is_abbreviation(stem) || is_abbreviation(last_part) {
        return false;
    }
    let mut letters = stem.chars();
    let is_initial = letters.next().is_some_and(|letter| letter.is_alphabetic() || letter == '_')
        && letters.next().is_none();
    if is_initial || NUMBER.is_match(word).unwrap_or(false) {
        let is_sign = [";", ":", ",", ".", "!", "?"].contains(&next);
        let goes_on =
            next.starts_with(char::is_lowercase) || is_initial && next.starts_with(char::is_uppercase);
        return !is_sign && !goes_on;
    }
    true
}

/// Moves closing quotes and brackets to the sentence before them.
fn closed<'a>(text: &'a str, ranges: &[Range<usize>]) -> Vec<&'a str> {
    let mut all = Vec::new();
    let mut taken = 0;
    for (place, range) in ranges.iter().enumerate() {
        let start = range.start + taken;
        taken = 0;
        let mut end = range.end;
        if let Some(next) = ranges.get(place + 1)
            && let Ok(Some(signs)) = CLOSING.find(&text[next.clone()])
        {
            end = next.start + signs.as_str().trim_end().len();
            taken = signs.end();
        }
        all.extend(text.get(start..end).filter(|sentence| !sentence.is_empty()));
    }
    all
}
