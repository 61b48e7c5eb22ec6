//! The words of AMBER's generative task: related words, safe words and word vectors.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use bpo_pairs::Limits;
use bpo_pairs::files::read_text;

use crate::error::EvalError;
use crate::named;
use crate::vectors::Vectors;
use crate::words_error::WordsError;

/// Two words with a higher similarity are the same: the default of the published script.
const SAME: f64 = 0.8;

/// AMBER's files of words for its generative task, and word vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmberWordFiles {
    /// `relation.json`: words with their related words.
    pub relation: PathBuf,
    /// `safe_words.txt`: words that are no hallucination in any image, one per line.
    pub safe_words: PathBuf,
    /// Word vectors as text: a word and its numbers in each line, separated by spaces. The published script
    /// takes those of spaCy's `en_core_web_lg`.
    pub vectors: PathBuf,
}

/// The words of AMBER's generative task.
#[derive(Clone, Debug)]
pub struct AmberWords {
    relation: PathBuf,
    related: HashMap<String, Vec<String>>,
    known: HashSet<String>,
    safe: HashSet<String>,
    vectors: Vectors,
    without_vector: Vec<String>,
}

impl AmberWordFiles {
    /// Reads the files. Only the vectors of words in `relation.json` are kept.
    ///
    /// # Errors
    /// - [`EvalError::Read`], [`EvalError::File`] for files that cannot be read.
    /// - [`EvalError::Words`] for related words or vectors that cannot be used, and if no word has a vector.
    pub fn read(&self) -> Result<AmberWords, EvalError> {
        let malformed = |source| WordsError::Relation { path: self.relation.clone(), source }.into();
        let related: Vec<(String, Vec<String>)> = named::read(&self.relation, malformed)?;
        let safe = read_text(&self.safe_words, Limits::DEFAULT.settings_bytes)?;
        let all = related.iter().flat_map(|(word, others)| std::iter::once(word).chain(others));
        let known: HashSet<String> = all.cloned().collect();
        let vectors = Vectors::read(&self.vectors, &known.iter().map(String::as_str).collect())?;
        let mut without_vector: Vec<String> =
            known.iter().filter(|word| !vectors.has(word)).cloned().collect();
        without_vector.sort_unstable();
        if without_vector.len() == known.len() {
            let (path, relation) = (self.vectors.clone(), self.relation.clone());
            return Err(WordsError::NoVectors { path, relation }.into());
        }
        Ok(AmberWords {
            relation: self.relation.clone(),
            related: related.into_iter().collect(),
            known,
            safe: safe.lines().map(str::to_owned).collect(),
            vectors,
            without_vector,
        })
    }
}

impl AmberWords {
    /// The words of `relation.json` without a vector, sorted. They are similar to no other word.
    pub fn without_vector(&self) -> &[String] {
        &self.without_vector
    }

    /// The words of an annotation with their related words.
    ///
    /// # Errors
    /// Returns [`WordsError::NotRelated`] for a word that `relation.json` does not have.
    pub(crate) fn objects(
        &self,
        path: &Path,
        record: usize,
        names: Vec<String>,
    ) -> Result<Objects, EvalError> {
        let mut words = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let related = self.related.get(name).ok_or_else(|| WordsError::NotRelated {
                path: path.into(),
                record,
                word: name.clone(),
                relation: self.relation.clone(),
            })?;
            words.extend(related.iter().map(|word| (word.clone(), place)));
        }
        let number = names.len();
        words.extend(names.into_iter().enumerate().map(|(place, name)| (name, place)));
        Ok(Objects { words, number })
    }

    /// Whether a noun is a word of `relation.json`; other nouns do not count.
    pub(crate) fn is_known(&self, noun: &str) -> bool {
        self.known.contains(noun)
    }

    pub(crate) fn is_safe(&self, noun: &str) -> bool {
        self.safe.contains(noun)
    }

    /// The first object that has a word similar to the noun.
    pub(crate) fn find_similar(&self, objects: &Objects, noun: &str) -> Option<usize> {
        objects.find(|word| self.vectors.similarity(noun, word) > SAME)
    }
}

/// Objects of an annotation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    /// The related words of all objects, then their names, each with the place of its object.
    words: Vec<(String, usize)>,
    /// Number of objects.
    pub number: usize,
}

impl Objects {
    /// The object of the first word for which `fits` returns true.
    pub(crate) fn find(&self, fits: impl Fn(&str) -> bool) -> Option<usize> {
        self.words.iter().find(|(word, _)| fits(word)).map(|(_, place)| *place)
    }
}
