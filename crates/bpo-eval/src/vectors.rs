//! Word vectors in the text formats of GloVe and word2vec.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Read};
use std::path::Path;

use crate::error::EvalError;
use crate::truth::open;
use crate::words_error::WordsError;

/// Maximum number of bytes of a line.
const LINE_BYTES: u64 = 1 << 20;
/// Maximum number of numbers of a vector.
const DIMENSIONS: usize = 1 << 14;

/// The vectors of some words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vectors(HashMap<String, Vector>);

#[derive(Clone, Debug)]
struct Vector {
    values: Vec<f64>,
    norm: f64,
}

impl Vectors {
    /// Reads the vectors of `words` from a file with a word and its numbers in each line, separated by
    /// spaces. A first line of two whole numbers is that of word2vec: the numbers of lines and of numbers.
    /// Without it, the first word has no space; later ones may have spaces.
    ///
    /// # Errors
    /// Returns [`EvalError::Read`], [`EvalError::File`] for a file that cannot be read, and
    /// [`EvalError::Words`] for a line that is no vector, and for a word of `words` with two vectors.
    pub(crate) fn read(path: &Path, words: &HashSet<&str>) -> Result<Self, EvalError> {
        let mut reader = open(path)?;
        let (mut vectors, mut dimensions, mut line) = (HashMap::new(), None, 0);
        // the number of vectors that a header announces, and the number that was read
        let (mut announced, mut count): (Option<usize>, usize) = (None, 0);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = reader.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut bytes);
            let read = read.map_err(|source| EvalError::Read { path: path.into(), source })?;
            let bad = |line: usize, found: &str| {
                EvalError::from(WordsError::Vector { path: path.into(), line, found: found.into() })
            };
            if read == 0 {
                return match announced {
                    Some(expected) if expected != count => {
                        Err(bad(1, &format!("{expected} as the number of vectors, and {count} vectors")))
                    }
                    _ => Ok(Self(vectors)),
                };
            }
            line += 1;
            let bad = |found: &str| bad(line, found);
            if read as u64 > LINE_BYTES {
                return Err(bad("more than 1 MiB"));
            }
            let text = std::str::from_utf8(&bytes).map_err(|_| bad("text that is not UTF-8"))?;
            let text = text.strip_prefix('\u{feff}').filter(|_| line == 1).unwrap_or(text).trim_end();
            if text.is_empty() {
                continue;
            }
            let fields = text.split(' ').count();
            if line == 1 && fields == 2 && text.split(' ').all(|field| field.parse::<usize>().is_ok()) {
                let mut numbers = text.split(' ').map(|field| field.parse().ok());
                (announced, dimensions) = (numbers.next().flatten(), numbers.next().flatten());
                continue;
            }
            let most = *dimensions.get_or_insert(fields - 1);
            if most == 0 || most > DIMENSIONS {
                return Err(bad(&format!("{most} numbers, and not 1 to {DIMENSIONS}")));
            }
            if fields <= most {
                return Err(bad(&format!("{} numbers after the word, and not {most}", fields - 1)));
            }
            let mut parts = text.rsplitn(most + 1, ' ');
            let mut values = Vec::with_capacity(most);
            for number in parts.by_ref().take(most) {
                let value: Option<f64> = number.parse().ok().filter(|value: &f64| value.is_finite());
                values.push(value.ok_or_else(|| bad("a word followed by something that is no number"))?);
            }
            count += 1;
            let word = parts.next().unwrap_or_default();
            if !words.contains(word) {
                continue;
            }
            values.reverse();
            let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
            if vectors.insert(word.to_owned(), Vector { values, norm }).is_some() {
                return Err(WordsError::TwoVectors { path: path.into(), line, word: word.into() }.into());
            }
        }
    }

    /// Whether a word has a vector that is not zero.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.0.get(word).is_some_and(|vector| vector.norm > 0.0)
    }

    /// The cosine of the angle between two words as spaCy computes it: 1 for equal words, and 0 for a word
    /// without a vector.
    pub(crate) fn similarity(&self, one: &str, other: &str) -> f64 {
        if one == other {
            return 1.0;
        }
        match (self.0.get(one), self.0.get(other)) {
            (Some(one), Some(other)) if one.norm > 0.0 && other.norm > 0.0 => {
                let dot: f64 = one.values.iter().zip(&other.values).map(|(one, other)| one * other).sum();
                dot / (one.norm * other.norm)
            }
            _ => 0.0,
        }
    }
}
