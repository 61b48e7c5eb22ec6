//! Removal of the API key and the secrets of addresses from texts that a server sends.
//!
//! Gateways show the headers of a request in their error messages, in any encoding.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bpo_inject::REMOVED_KEY;

use crate::address::secrets_in;

/// Number of bytes below which a key is searched only as a whole word, because `none` and `EMPTY`
/// mean "no key".
const SHORT: usize = 8;

/// Maximum number of backslashes before an escaped character, for nested escapes.
const MOST_SLASHES: usize = 8;

/// Removes secrets from texts: plain, in base64, in hexadecimal, percent-encoded and escaped.
pub(crate) struct Redactor {
    patterns: Vec<Pattern>,
}

/// One encoding of a secret.
struct Pattern {
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The secret or its first half, in upper or lower case.
    Plain,
    /// The secret as a whole word.
    Word,
    /// Two hexadecimal digits for each byte.
    Hexadecimal,
    /// The base64 characters that do not depend on what is encoded before and after the secret.
    Base64,
}

impl Redactor {
    /// Creates a redactor for a key and for the secrets of the addresses of a server and a proxy.
    pub(crate) fn new(api_key: Option<&str>, addresses: &[&str]) -> Self {
        let in_addresses = addresses.iter().flat_map(|address| secrets_in(address));
        let secrets = api_key.map(str::to_owned).into_iter().chain(in_addresses);
        Self { patterns: secrets.flat_map(|secret| patterns(secret.as_bytes())).collect() }
    }

    /// Returns whether a text contains a secret.
    pub(crate) fn finds(&self, text: &str) -> bool {
        self.find(text, 0, Kind::Plain).is_some() || self.find(text, 0, Kind::Word).is_some()
    }

    /// Removes all secrets from the text of an error.
    pub(crate) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.remove(text, Kind::Word)
    }

    /// Removes the secrets of at least [`SHORT`] bytes from an answer, where shorter ones occur by
    /// chance.
    pub(crate) fn clean_answer<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.remove(text, Kind::Plain)
    }

    fn remove<'a>(&self, text: &'a str, least: Kind) -> Cow<'a, str> {
        let mut cleaned = String::new();
        let mut rest = 0;
        while let Some(found) = self.find(text, rest, least) {
            cleaned.push_str(&text[rest..found.start]);
            cleaned.push_str(REMOVED_KEY);
            rest = found.end;
        }
        if rest == 0 && cleaned.is_empty() {
            return Cow::Borrowed(text);
        }
        cleaned.push_str(&text[rest..]);
        Cow::Owned(cleaned)
    }

    /// Finds the first secret at or after `from`. Short secrets are only found if `least` is
    /// [`Kind::Word`].
    fn find(&self, text: &str, from: usize, least: Kind) -> Option<Range<usize>> {
        let patterns = || self.patterns.iter().filter(|p| p.kind != Kind::Word || least == Kind::Word);
        (from..text.len()).find_map(|at| {
            let end = patterns().filter_map(|pattern| pattern.matches(text.as_bytes(), at)).max()?;
            let start = floor_boundary(text, at);
            let end = (end..=text.len()).find(|&end| text.is_char_boundary(end))?;
            Some(start.max(from)..end)
        })
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Returns all encodings of a secret.
fn patterns(secret: &[u8]) -> Vec<Pattern> {
    let kind = if secret.len() < SHORT { Kind::Word } else { Kind::Plain };
    let mut patterns = vec![Pattern { bytes: secret.to_owned(), kind }];
    if secret.len() < SHORT {
        return patterns;
    }
    let hexadecimal = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    patterns.push(Pattern { bytes: hexadecimal.into_bytes(), kind: Kind::Hexadecimal });
    // The position of a byte among three decides its base64 characters, and the encoded text may
    // begin before the secret.
    for before in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; before], secret].concat());
        let own = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
        patterns.push(Pattern { bytes: encoded.as_bytes()[own].to_owned(), kind: Kind::Base64 });
    }
    patterns
}

impl Pattern {
    /// Returns the end of a match that begins at `start`.
    fn matches(&self, text: &[u8], start: usize) -> Option<usize> {
        let mut at = start;
        let mut matched = 0;
        for &byte in &self.bytes {
            match self.spelled(&text[at..], byte) {
                Some(length) => at += length,
                None => break,
            }
            matched += 1;
        }
        let is_whole = matched == self.bytes.len();
        match self.kind {
            Kind::Plain | Kind::Hexadecimal => {
                let enough = self.bytes.len().div_ceil(2).max(SHORT);
                (matched > 0 && (is_whole || matched >= enough)).then_some(at)
            }
            Kind::Word => {
                let word =
                    |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphanumeric);
                (is_whole && !word(start.checked_sub(1)) && !word(Some(at))).then_some(at)
            }
            Kind::Base64 => {
                let more = text[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte));
                is_whole.then(|| at + more.count())
            }
        }
    }

    /// Returns the length of an encoded `byte` at the start of a text: itself, `%2B`, `\u002b`,
    /// `\/`, `&#43;` or `&amp;`.
    fn spelled(&self, text: &[u8], byte: u8) -> Option<usize> {
        let same = |found: u8| match self.kind {
            Kind::Plain | Kind::Hexadecimal => found.eq_ignore_ascii_case(&byte),
            Kind::Word => found == byte,
            Kind::Base64 => match found {
                b'-' => byte == b'+',
                b'_' => byte == b'/',
                found => found == byte,
            },
        };
        let coded = |prefix: &[u8], digits: usize| {
            let rest = text.strip_prefix(prefix)?;
            let digits = std::str::from_utf8(rest.get(..digits)?).ok()?;
            let found = u8::from_str_radix(digits, 16).ok()?;
            same(found).then_some(prefix.len() + digits.len())
        };
        let first = *text.first()?;
        let encoded = match first {
            b'%' => coded(b"%", 2).or_else(|| coded(b"%25", 2)),
            b'&' => entity(text).and_then(|(found, length)| same(found).then_some(length)),
            b'\\' => {
                let slashes = text.iter().take(MOST_SLASHES).take_while(|byte| **byte == b'\\').count();
                let escaped = *text.get(slashes)?;
                let escapes = &text[..slashes];
                coded(&[escapes, b"u00"].concat(), 2)
                    .or_else(|| coded(&[escapes, b"x"].concat(), 2))
                    .or_else(|| same(escaped).then_some(slashes + 1))
            }
            _ => None,
        };
        encoded.or_else(|| same(first).then_some(1))
    }
}

/// Decodes an HTML entity of one byte at the start of a text; returns the byte and the length.
fn entity(text: &[u8]) -> Option<(u8, usize)> {
    const LONGEST: usize = 8;
    let end = text.iter().take(LONGEST).position(|byte| *byte == b';')?;
    let name = std::str::from_utf8(&text[1..end]).ok()?;
    let byte = match name {
        "amp" => b'&',
        "lt" => b'<',
        "gt" => b'>',
        "quot" => b'"',
        "apos" => b'\'',
        _ => match name.strip_prefix('#')? {
            number if number.starts_with(['x', 'X']) => u8::from_str_radix(&number[1..], 16).ok()?,
            number => number.parse().ok()?,
        },
    };
    Some((byte, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    const KEY: &str = "sk-Ab3+dE/f9=gh?1>2";

    fn redactor() -> Redactor {
        Redactor::new(Some(KEY), &[])
    }

    #[test]
    fn every_spelling_of_a_key_is_removed() {
        let percent: String = KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let partly = "sk-Ab3%2BdE%2ff9%3Dgh%3F1%3E2".to_owned();
        let twice = "sk-Ab3%252BdE%252Ff9%253Dgh%253F1%253E2".to_owned();
        let json = r"sk-Ab3\u002bdE\/f9\u003Dgh?1\u003e2".to_owned();
        let html = "sk-Ab3&#43;dE&#x2F;f9=gh?1&gt;2".to_owned();
        let hexadecimal: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        for spelled in [KEY.to_owned(), KEY.to_lowercase(), percent, partly, twice, json, html, hexadecimal] {
            let text = format!("{{\"authorization\": \"Bearer {spelled}\"}}");
            assert_eq!(
                redactor().clean(&text),
                "{\"authorization\": \"Bearer [API key removed]\"}",
                "{spelled}"
            );
        }
    }

    #[test]
    fn base64_of_any_text_with_the_key_is_removed() {
        for around in ["", "a", "ab", "Bearer ", "user:"] {
            for encoded in
                [STANDARD.encode(format!("{around}{KEY}x")), URL_SAFE_NO_PAD.encode(format!("{around}{KEY}"))]
            {
                let cleaned = redactor().clean(&encoded).into_owned();
                assert!(cleaned.ends_with("[API key removed]"), "{around:?}: {cleaned}");
                assert!(cleaned.len() <= REMOVED_KEY.len() + (around.len() * 8).div_ceil(6), "{cleaned}");
            }
        }
    }

    #[test]
    fn first_half_of_a_key_is_removed_and_other_text_kept() {
        assert_eq!(redactor().clean("got sk-Ab3+dE/f9..."), "got [API key removed]...");
        for text in ["sk-Ab3", "100 % of sk-\u{e9}", "", "%", "\\", "&#", "%s \\u00 \u{1f600}"] {
            assert_eq!(redactor().clean(text), text);
        }
        let twice = format!("{KEY}, {KEY}\u{e9}");
        assert_eq!(redactor().clean(&twice), "[API key removed], [API key removed]\u{e9}");
    }

    #[test]
    fn short_key_is_removed_only_from_errors_and_as_a_word() {
        let redactor = Redactor::new(Some("none"), &[]);
        assert_eq!(redactor.clean("key none, nonesuch"), "key [API key removed], nonesuch");
        assert_eq!(redactor.clean_answer("There are none."), "There are none.");
    }

    #[test]
    fn secrets_of_addresses_are_removed() {
        let address = "http://me:p%40ssword1@host:80/v1?api=abcdef123456&x=1";
        let redactor = Redactor::new(None, &[address]);
        assert_eq!(redactor.clean("p@ssword1 ABCDEF123456"), "[API key removed] [API key removed]");
        assert!(redactor.finds(&STANDARD.encode("me:p@ssword1")));
    }
}
