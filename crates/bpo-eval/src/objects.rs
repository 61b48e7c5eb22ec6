//! Names of objects, and where a text mentions them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::error::EvalError;
use crate::singular::singular;

/// Objects with all the words for them.
///
/// Texts are read as the scorer of CHAIR does (Rohrbach et al. 2018, [arXiv 1809.02156](https://arxiv.org/abs/1809.02156),
/// `utils/chair.py` of its repository): in lower case, cut into words and signs, each word in its singular; two words that
/// are one name are joined, from left to right; what is a word for an object is a mention of it. Names may have more than
/// two words here. Its further rules apply where the table has the objects they are about: a baby or adult animal is that
/// animal (and no person), a passenger train is a train, a home plate, a train track and a bow tie are themselves (and a bow tie
/// is a tie), and a toilet's seat is no chair.
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
    /// Words in their singular, joined by one space, and the object they stand for.
    words: BTreeMap<String, String>,
    /// Words of the longest name.
    longest: usize,
}

/// Animals and vehicles that the rules of compounds are about (categories of COCO and words for them).
const ANIMALS: [&str; 12] =
    ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub"];
const VEHICLES: [&str; 2] = ["jet", "train"];

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

    /// Reads a table as CHAIR keeps it: an object a line, its name first and then its synonyms, with commas between.
    ///
    /// # Errors
    /// [`EvalError::Read`], and those of [`new`](Self::new).
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let text =
            fs::read_to_string(path).map_err(|source| EvalError::Read { path: path.into(), source })?;
        let lines = text.lines().map(|line| line.split(',').map(str::trim).filter(|word| !word.is_empty()));
        let objects = lines.filter_map(|mut words| Some((words.next()?, words.collect::<Vec<_>>())));
        Self::new(objects)
    }

    /// The name of the object that a word or words stand for.
    pub fn find(&self, words: &str) -> Option<&str> {
        self.words.get(&canonical(words)).map(String::as_str)
    }

    /// All names.
    pub fn names(&self) -> BTreeSet<&str> {
        self.words.values().map(String::as_str).collect()
    }

    /// Where the text names objects, in order.
    pub fn mentions(&self, text: &str) -> Vec<Mention> {
        let words: Vec<(String, usize, usize)> = words(text)
            .map(|(start, word)| (singular(&word.to_lowercase()), start, start + word.len()))
            .collect();
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            if let [(first, start, _), (second, _, end), ..] = &words[at..]
                && let Some(object) = self.compound(first, second)
            {
                if let Some(object) = object {
                    found.push((Mention { object: object.to_owned(), start: *start, end: *end }, first));
                }
                at += 2;
                continue;
            }
            let fits = (1..=self.longest.min(words.len() - at)).rev().find_map(|count| {
                let name: Vec<&str> = words[at..at + count].iter().map(|(word, ..)| word.as_str()).collect();
                Some((count, self.words.get(&name.join(" "))?))
            });
            match fits {
                Some((count, object)) => {
                    let (start, end) = (words[at].1, words[at + count - 1].2);
                    found.push((Mention { object: object.clone(), start, end }, &words[at].0));
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

/// Runs of letters, digits and hyphens within, with where they begin: as the scorer's tokenizer (NLTK's) has it,
/// `car-free` is one word, and no car. An apostrophe ends a word, as names of objects have none.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|c: char| !c.is_alphanumeric() && c != '-')
        .flat_map(|word| word.split("--"))
        .map(|word| word.trim_matches('-'))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Number of words of a text.
pub(crate) fn count_words(text: &str) -> usize {
    words(text).count()
}
