//! Tables of objects and synonyms, and the mentions of objects in a text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::read_text;

use crate::as_published;
use crate::as_published::{ANIMALS, VEHICLES};
use crate::error::EvalError;
use crate::singular::singular;

/// Objects with their synonyms.
///
/// Texts are read like by the published scorer of CHAIR (Rohrbach et al. 2018, [arXiv
/// 1809.02156](https://arxiv.org/abs/1809.02156), `utils/chair.py` of its repository): the text is
/// lower-cased and split into tokens, each word is put in the singular, multi-word names are joined
/// from left to right, and every synonym of an object is a mention of it. The further rules of the
/// scorer apply if the table has the objects concerned: a baby or adult animal is that animal (not
/// a person), a passenger train is a train, a home plate is no plate, a train track no train, a bow
/// tie is a tie, and a toilet seat is no chair.
///
/// Some words are read differently, so metrics differ a little from those of the published scorer:
///
/// - The published scorer misses `bus` (its singular is `bu`) and the singulars of `ties`,
///   `canoes`, `cookies` and `thieves`.
/// - It misses `iPhone`, `cheesecake` and `motor bike`, which its list has with a capital letter or
///   an extra space.
/// - It joins only fixed pairs of words. This table joins names of any number of words that are
///   separated by white space only.
/// - It joins words across line and paragraph ends. This table does not join words across an empty
///   line.
///
/// [`as_published`](Self::as_published) makes a table with exactly the rules of the published
/// scorer.
///
/// ```
/// use bpo_eval::ObjectTable;
///
/// let table = ObjectTable::new([("traffic light", &["stoplight"][..]), ("dog", &["puppy"])])?;
/// let mentions = table.mentions("Two puppies under the traffic lights.");
/// let objects: Vec<_> = mentions.iter().map(|mention| mention.object.as_str()).collect();
/// assert_eq!(objects, ["dog", "traffic light"]);
/// # Ok::<(), bpo_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectTable {
    /// Synonyms and their objects: in the singular, joined by one space; or unchanged, for the
    /// published rules.
    words: BTreeMap<String, String>,
    /// Number of words of the longest synonym.
    longest: usize,
    rules: Rules,
}

/// The rules by which texts are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rules {
    #[default]
    Ours,
    AsPublished,
}

/// A mention of an object in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mention {
    /// Name of the object in the table.
    pub object: String,
    /// Byte offset of the first word in the text.
    pub start: usize,
    /// Byte offset after the last word.
    pub end: usize,
}

impl ObjectTable {
    /// A table of names and their synonyms. A name is its own synonym. Plurals are recognized.
    ///
    /// # Errors
    /// Returns [`EvalError::Ambiguous`] if a word is a synonym of two objects.
    pub fn new<N, S>(objects: impl IntoIterator<Item = (N, S)>) -> Result<Self, EvalError>
    where
        N: AsRef<str>,
        S: IntoIterator,
        S::Item: AsRef<str>,
    {
        let mut table = Self::default();
        for (name, synonyms) in objects {
            let name = canonical(name.as_ref());
            table.add(&name, &name)?;
            for synonym in synonyms {
                table.add(&canonical(synonym.as_ref()), &name)?;
            }
        }
        Ok(table)
    }

    /// A table of names without synonyms.
    ///
    /// # Errors
    /// Returns the errors of [`new`](Self::new).
    pub fn of_names<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, EvalError> {
        Self::new(names.into_iter().map(|name| (name, [""; 0])))
    }

    /// A table that reads texts exactly like the published scorer of CHAIR, including the errors of
    /// its rules.
    ///
    /// `lines` are the lines of the scorer's `synonyms.txt`: an object per line, its name followed
    /// by its synonyms, separated by a comma and one space.
    ///
    /// The reference is the scorer (Rohrbach et al. 2018) with pattern 3.6, which it requires, and
    /// the word and sentence tokenizers of NLTK 3.10. Objects of the ground truth must be spelled
    /// as in the list.
    ///
    /// ```
    /// use bpo_eval::ObjectTable;
    ///
    /// let table = ObjectTable::as_published(["bus, minibus", "tie, bow tie"]);
    /// assert_eq!(table.mentions("A bus.").len(), 0);
    /// assert_eq!(table.mentions("Two buses.").len(), 1);
    /// ```
    pub fn as_published<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self { words: as_published::synonyms(lines), longest: 2, rules: Rules::AsPublished }
    }

    /// Reads a table in CHAIR's format: an object per line, its name followed by its synonyms,
    /// separated by commas.
    ///
    /// # Errors
    /// Returns [`EvalError::Read`], [`EvalError::NoObjects`] for a file without objects, and the
    /// errors of [`new`](Self::new).
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let text = read(path)?;
        let lines = text.lines().map(|line| line.split(',').map(str::trim).filter(|word| !word.is_empty()));
        let objects = lines.filter_map(|mut words| Some((words.next()?, words.collect::<Vec<_>>())));
        Self::new(objects)?.not_empty(path)
    }

    /// Reads a file for [`as_published`](Self::as_published).
    ///
    /// # Errors
    /// Returns [`EvalError::Read`], and [`EvalError::NoObjects`] for a file without objects.
    pub fn as_published_from_file(path: &Path) -> Result<Self, EvalError> {
        Self::as_published(read(path)?.lines()).not_empty(path)
    }

    fn not_empty(self, path: &Path) -> Result<Self, EvalError> {
        if self.words.keys().all(String::is_empty) {
            return Err(EvalError::NoObjects { path: path.into() });
        }
        Ok(self)
    }

    /// The object of a synonym of one or more words.
    pub fn find(&self, words: &str) -> Option<&str> {
        let name = match self.rules {
            Rules::Ours => self.words.get(&canonical(words)),
            Rules::AsPublished => self.words.get(words),
        };
        name.map(String::as_str)
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The names of all objects.
    pub fn names(&self) -> BTreeSet<&str> {
        self.words.values().map(String::as_str).collect()
    }

    /// The mentions of objects in a text, in order.
    pub fn mentions(&self, text: &str) -> Vec<Mention> {
        if self.rules == Rules::AsPublished {
            return as_published::mentions(&self.words, text);
        }
        let words: Vec<(String, usize, usize)> = words(text)
            .map(|(start, word)| (singular(&word.to_lowercase()), start, start + word.len()))
            .collect();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((first, start, _)) = words.get(at) {
            // The following words that may form one name.
            let apart = words[at..].windows(2).position(|pair| is_apart(&text[pair[0].2..pair[1].1]));
            let near = &words[at..apart.map_or(words.len(), |count| at + count + 1)];
            if let [_, (second, _, end), ..] = near
                && let Some(object) = self.compound(first, second)
            {
                if let Some(object) = object {
                    found.push((Mention { object: object.to_owned(), start: *start, end: *end }, first));
                }
                at += 2;
                continue;
            }
            let fits = (1..=self.longest.min(near.len())).rev().find_map(|count| {
                let name: Vec<&str> = near[..count].iter().map(|(word, ..)| word.as_str()).collect();
                Some((count, self.words.get(&name.join(" "))?))
            });
            match fits {
                Some((count, object)) => {
                    let end = near[count - 1].2;
                    found.push((Mention { object: object.clone(), start: *start, end }, first));
                    at += count;
                }
                None => at += 1,
            }
        }
        // A toilet seat is no chair.
        let has = |word: &str| words.iter().any(|(other, ..)| other == word);
        if has("toilet") && has("seat") && self.words.contains_key("toilet") {
            found.retain(|(_, word)| *word != "seat");
        }
        found.into_iter().map(|(mention, _)| mention).collect()
    }

    /// The words of an extracted name, with the object of each in the table.
    pub(crate) fn words_of_name(&self, name: &str) -> Vec<(String, Option<&str>)> {
        let find = |word: String| {
            let object = self.find(&word);
            (word, object)
        };
        if self.rules == Rules::AsPublished {
            return vec![find(name.to_owned())];
        }
        // `people` is no form of another word: the published script counts people and a person as two
        let one = |word: &str| match word.to_lowercase() {
            word if word == "people" || APART.contains(&word.as_str()) => word,
            word => singular(&word),
        };
        let words: Vec<String> = words(name).map(|(_, word)| one(word)).collect();
        let (mut pairs, mut at) = (Vec::new(), 0);
        while let [first, second, ..] = &words[at..] {
            let pair = format!("{first} {second}");
            let word = match (first.as_str(), second.as_str()) {
                ("baby" | "adult", animal) if ANIMALS.contains(&animal) => Some(second.clone()),
                ("passenger", vehicle) if VEHICLES.contains(&vehicle) => Some(second.clone()),
                ("bow", "tie") => Some(second.clone()),
                ("toilet", "seat") => Some(first.clone()),
                ("home", "plate") | ("train", "track") => Some(pair),
                _ => Some(pair).filter(|pair| self.words.contains_key(pair)),
            };
            at += if word.is_some() { 2 } else { 1 };
            pairs.extend(word.map(find));
        }
        if !pairs.is_empty() {
            return pairs;
        }
        let nouns = words.split(|word| APART.contains(&word.as_str()));
        nouns.filter(|noun| !noun.is_empty()).map(|noun| find(noun.join(" "))).collect()
    }

    /// The object of two words that the published scorer joins by rule. The inner `None` means no
    /// object.
    fn compound(&self, first: &str, second: &str) -> Option<Option<&str>> {
        if self.words.contains_key(&format!("{first} {second}")) {
            return None;
        }
        let object = |word: &str| self.words.get(word).map(String::as_str);
        match (first, second) {
            ("baby" | "adult", animal) if ANIMALS.contains(&animal) => Some(object(animal)),
            ("passenger", vehicle) if VEHICLES.contains(&vehicle) => Some(object(vehicle)),
            ("bow", "tie") => Some(object("tie")),
            ("home", "plate") | ("train", "track") => Some(None),
            _ => None,
        }
    }

    fn add(&mut self, words: &str, object: &str) -> Result<(), EvalError> {
        match self.words.get(words) {
            Some(first) if first != object => Err(EvalError::Ambiguous {
                word: words.to_owned(),
                first: first.clone(),
                second: object.to_owned(),
            }),
            Some(_) => Ok(()),
            None => {
                self.longest = self.longest.max(words.split(' ').count());
                self.words.insert(words.to_owned(), object.to_owned());
                Ok(())
            }
        }
    }
}

/// Words in an extracted name that are no part of a noun, and end one: a bowl of soup, two dogs, a
/// man's hat.
const APART: [&str; 24] = [
    "a",
    "an",
    "the",
    "of",
    "with",
    "and",
    "or",
    "in",
    "on",
    "at",
    "by",
    "for",
    "from",
    "to",
    "'s",
    "\u{2019}s",
    "some",
    "several",
    "two",
    "three",
    "four",
    "five",
    "six",
    "ten",
];

/// A name in lower case, each word in the singular, joined by one space.
fn canonical(name: &str) -> String {
    let words: Vec<String> = words(name).map(|(_, word)| singular(&word.to_lowercase())).collect();
    words.join(" ")
}

/// Whether the text between two words prevents them from forming a name: punctuation or an empty
/// line.
fn is_apart(between: &str) -> bool {
    between.chars().any(|c| !c.is_whitespace() && c != '_') || between.matches('\n').count() > 1
}

/// Endings that are tokens of their own: `man's`, `isn't`.
const ENDS: [&str; 7] = ["'s", "'m", "'d", "'ll", "'re", "'ve", "n't"];

/// The words of a text with their byte offsets: runs of letters, digits, inner hyphens and inner
/// apostrophes.
///
/// As in NLTK's tokenizer, `car-free` is one word (not a car) and `o'clock` is not a clock.
/// [`ENDS`] are separate words.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_apostrophe = |c: char| c == '\'' || c == '\u{2019}';
    text.split(move |c: char| !c.is_alphanumeric() && c != '-' && !is_apostrophe(c))
        .flat_map(|word| word.split("--"))
        .map(move |word| word.trim_matches(|c: char| c == '-' || is_apostrophe(c)))
        .flat_map(|word| {
            let (word, end) = word.split_at(word.len() - length_of_end(word));
            [word, end]
        })
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Length in bytes of the ending that is a token of its own.
fn length_of_end(word: &str) -> usize {
    let ends = ENDS.iter().flat_map(|end| [(*end).to_owned(), end.replace('\'', "\u{2019}")]);
    ends.filter(|end| word.len() > end.len())
        .filter(|end| word.get(word.len() - end.len()..).is_some_and(|last| last.eq_ignore_ascii_case(end)))
        .map(|end| end.len())
        .next()
        .unwrap_or(0)
}

fn read(path: &Path) -> Result<String, EvalError> {
    let text = read_text(path, Limits::DEFAULT.settings_bytes)?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// The number of words of a text.
pub(crate) fn count_words(text: &str) -> usize {
    words(text).count()
}
