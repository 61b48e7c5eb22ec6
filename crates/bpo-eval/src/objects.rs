//! Names of objects, and where a text mentions them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::as_published;
use crate::as_published::{ANIMALS, VEHICLES};
use crate::error::EvalError;
use crate::singular::singular;

/// Objects with all the words for them.
///
/// Texts are read much as the scorer of CHAIR does (Rohrbach et al. 2018, [arXiv 1809.02156](https://arxiv.org/abs/1809.02156),
/// `utils/chair.py` of its repository): in lower case, cut into words and signs, each word in its singular; words that
/// are one name are joined, from left to right; what is a word for an object is a mention of it. Its further rules apply
/// where the table has the objects they are about: a baby or adult animal is that animal (and no person), a passenger train
/// is a train, a home plate, a train track and a bow tie are themselves (and a bow tie is a tie), and a toilet's seat is no
/// chair.
///
/// Some words are read otherwise than by that scorer, so figures differ a little:
///
/// - Its rules for the singular lose a `bus` (they make `bu` of it) and do not know `ties`, `canoes`, `cookies` or `thieves`.
/// - It misses `iPhone`, `cheesecake` and `motor bike`, which its list has with a capital or a space too many.
/// - It joins only certain pairs of words; here names of any number of words are joined, if nothing but space is between them.
/// - It joins words over the end of a line or paragraph; here not over an empty line.
///
/// [`as_published`](Self::as_published) makes a table that is read as that scorer reads it.
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
    /// Words and the object they stand for: in their singular and joined by one space, or as the published list has them.
    words: BTreeMap<String, String>,
    /// Words of the longest name.
    longest: usize,
    rules: Rules,
}

/// By which rules texts are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rules {
    #[default]
    Ours,
    AsPublished,
}

/// A place in a text that names an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mention {
    /// The object's name in the table.
    pub object: String,
    /// First byte of the words in the text.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

impl ObjectTable {
    /// A table of names and their synonyms. A name is a word for itself, and plurals are understood.
    ///
    /// # Errors
    /// [`EvalError::Ambiguous`] if a word stands for two objects.
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
    /// Those of [`new`](Self::new).
    pub fn of_names<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, EvalError> {
        Self::new(names.into_iter().map(|name| (name, [""; 0])))
    }

    /// A table whose texts are read exactly as the published scorer of CHAIR reads them, with what is wrong in its rules. `lines`
    /// are those of its `synonyms.txt`: an object a line, its name first and then its synonyms, with a comma and one space
    /// between.
    ///
    /// The scorer (Rohrbach et al. 2018) is taken with pattern 3.6, as it asks for, and the word and sentence tokenizers of
    /// NLTK 3.10. Objects of the truth count where they are spelled as in the list.
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

    /// Reads a table as CHAIR keeps it: an object a line, its name first and then its synonyms, with commas between.
    ///
    /// # Errors
    /// [`EvalError::Read`], [`EvalError::NoObjects`] for a file without words, and those of [`new`](Self::new).
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let text = read(path)?;
        let lines = text.lines().map(|line| line.split(',').map(str::trim).filter(|word| !word.is_empty()));
        let objects = lines.filter_map(|mut words| Some((words.next()?, words.collect::<Vec<_>>())));
        Self::new(objects)?.not_empty(path)
    }

    /// Reads a table for [`as_published`](Self::as_published).
    ///
    /// # Errors
    /// [`EvalError::Read`], and [`EvalError::NoObjects`] for a file without words.
    pub fn as_published_from_file(path: &Path) -> Result<Self, EvalError> {
        Self::as_published(read(path)?.lines()).not_empty(path)
    }

    fn not_empty(self, path: &Path) -> Result<Self, EvalError> {
        match self.words.keys().all(String::is_empty) {
            true => Err(EvalError::NoObjects { path: path.into() }),
            false => Ok(self),
        }
    }

    /// The name of the object that a word or words stand for.
    pub fn find(&self, words: &str) -> Option<&str> {
        let name = match self.rules {
            Rules::Ours => self.words.get(&canonical(words)),
            Rules::AsPublished => self.words.get(words),
        };
        name.map(String::as_str)
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// All names.
    pub fn names(&self) -> BTreeSet<&str> {
        self.words.values().map(String::as_str).collect()
    }

    /// Where the text names objects, in order.
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
            // the words from here on that may be one name
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
        // the seat of a toilet is no chair
        let has = |word: &str| words.iter().any(|(other, ..)| other == word);
        if has("toilet") && has("seat") && self.words.contains_key("toilet") {
            found.retain(|(_, word)| *word != "seat");
        }
        found.into_iter().map(|(mention, _)| mention).collect()
    }

    /// The object of two words that the published scorer joins by rule; the inner `None` is what stands for no object.
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

/// Lower case, every word in its singular, one space between.
fn canonical(name: &str) -> String {
    let words: Vec<String> = words(name).map(|(_, word)| singular(&word.to_lowercase())).collect();
    words.join(" ")
}

/// Whether two words with this text between them are not one name: a sign or an empty line is between them.
fn is_apart(between: &str) -> bool {
    between.chars().any(|c| !c.is_whitespace() && c != '_') || between.matches('\n').count() > 1
}

/// Ends of words that are words of their own: `man's`, `isn't`.
const ENDS: [&str; 7] = ["'s", "'m", "'d", "'ll", "'re", "'ve", "n't"];

/// Runs of letters, digits, and hyphens and apostrophes within, with where they begin: as the scorer's tokenizer (NLTK's)
/// has it, `car-free` is one word, and no car, and `o'clock` is no clock. [`ENDS`] are apart.
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

/// Bytes of the end of a word that is a word of its own.
fn length_of_end(word: &str) -> usize {
    let ends = ENDS.iter().flat_map(|end| [(*end).to_owned(), end.replace('\'', "\u{2019}")]);
    ends.filter(|end| word.len() > end.len())
        .filter(|end| word.get(word.len() - end.len()..).is_some_and(|last| last.eq_ignore_ascii_case(end)))
        .map(|end| end.len())
        .next()
        .unwrap_or(0)
}

fn read(path: &Path) -> Result<String, EvalError> {
    let text = fs::read_to_string(path).map_err(|source| EvalError::Read { path: path.into(), source })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Number of words of a text.
pub(crate) fn count_words(text: &str) -> usize {
    words(text).count()
}
