//! Words of a text and their positions.

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// The word in the text.
    pub text: &'a str,
    /// The word in lower case.
    pub lower: String,
    /// Byte offset of the start.
    pub start: usize,
    /// Whether only white space separates it from the previous word.
    pub joined: bool,
    /// Whether it is the first word of the text or of a sentence.
    pub begins_sentence: bool,
    /// Whether a hyphen joins it to another word.
    pub hyphenated: bool,
}

impl Word<'_> {
    /// Returns the byte offset of the end.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub fn is_capitalized(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }
}

/// Splits a text into words: runs of letters and digits, with the apostrophe of "don't" (but not
/// `'s`) and the point of
/// "3.5" inside.
pub(super) fn split(text: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find(char::is_alphanumeric).map(|offset| from + offset) {
        let end = start + word_len(&text[start..]);
        let gap = &text[words.last().map_or(0, Word::end)..start];
        let hyphen = gap == "-";
        if hyphen && let Some(before) = words.last_mut() {
            before.hyphenated = true;
        }
        words.push(Word {
            text: &text[start..end],
            lower: text[start..end].to_lowercase(),
            start,
            joined: !words.is_empty() && !gap.is_empty() && gap.chars().all(char::is_whitespace),
            begins_sentence: words.is_empty() || gap.contains(['.', '!', '?', ':', '\n', '"', '\u{201c}']),
            hyphenated: hyphen && !words.is_empty(),
        });
        from = end;
    }
    words
}

fn word_len(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    let mut last = ' ';
    while let Some((at, c)) = chars.next() {
        if !c.is_alphanumeric() {
            let next = chars.peek().map_or(' ', |&(_, next)| next);
            let number = matches!(c, '.' | ',' | ':') && last.is_ascii_digit() && next.is_ascii_digit();
            let contraction =
                matches!(c, '\'' | '\u{2019}') && next.is_alphabetic() && !is_possessive(&text[at..]);
            if !number && !contraction {
                return at;
            }
        }
        last = c;
    }
    text.len()
}

/// Returns whether a text begins with `'s` and no letter after it.
fn is_possessive(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!(chars.next(), Some('s' | 'S')) && !chars.next().is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_contractions_are_split() {
        let text = "The cat's eyes don't cost $3.50, or 1,000. Ça va?";
        let words: Vec<&str> = split(text).iter().map(|word| word.text).collect();
        assert_eq!(words, ["The", "cat", "s", "eyes", "don't", "cost", "3.50", "or", "1,000", "Ça", "va"]);
    }

    #[test]
    fn text_between_words_is_classified() {
        let words = split("A close-up, then. The end");
        let flags: Vec<_> = words.iter().map(|w| (w.joined, w.begins_sentence, w.hyphenated)).collect();
        let expected = [
            (false, true, false),
            (true, false, true),
            (false, false, true),
            (false, false, false),
            (false, true, false),
            (true, false, false),
        ];
        assert_eq!(flags, expected);
    }
}
