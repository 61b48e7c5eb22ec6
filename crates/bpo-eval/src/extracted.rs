//! Objects that a language model extracted from an answer, as in Object HalBench.
//!
//! Yu et al. 2023, [arXiv 2312.00849](https://arxiv.org/abs/2312.00849):
//! `eval/eval_gpt_obj_halbench.py` of <https://github.com/RLHF-V/RLHF-V>. There a model lists the
//! objects of an answer, spaCy puts the names in the singular, and the words are looked up in a list of
//! synonyms. Each word counts once in an answer.

use std::collections::BTreeSet;
use std::path::Path;

use crate::answers::Scored;
use crate::chair::ChairItem;
use crate::error::EvalError;
use crate::objects::ObjectTable;
use crate::records::{self, Answer};
use crate::truth::Truth;

/// The key of the names.
const NAMES: &[&str] = &["objects"];

impl ObjectTable {
    /// The words of extracted names, each once, with the object of each word in the table.
    ///
    /// A name is a word, or several with words such as `of` between them, or the word that the rules for
    /// two words make of a part of it: `baby bear` is a bear. In a table of the published rules a name is a word as it stands.
    pub(crate) fn words_of_names<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Vec<(String, Option<&str>)> {
        let mut words: Vec<(String, Option<&str>)> = Vec::new();
        for found in names.into_iter().flat_map(|name| self.words_of_name(name)) {
            if words.iter().all(|(word, _)| *word != found.0) {
                words.push(found);
            }
        }
        // A toilet seat is no chair.
        if words.iter().any(|(word, _)| word == "toilet") {
            words.retain(|(word, _)| word != "seat");
        }
        words
    }
}

impl ChairItem {
    /// Compares extracted names of objects with the objects of the image. Objects of `truth` that are not
    /// in the table do not count.
    ///
    /// Every word counts once, so `man` and `woman` are two mentions of a person, and repeated names one.
    /// An answer of up to three words has no object, and the length of an answer is the number of its
    /// parts between spaces, as in the published script.
    ///
    /// ```
    /// use bpo_eval::{ChairItem, ObjectTable};
    ///
    /// let table = ObjectTable::new([("person", &["man"][..]), ("dog", &[])])?;
    /// let shown = ["person".to_owned()].into();
    /// let text = "Two men walk their dogs.";
    /// let item = ChairItem::from_names(&table, "a.jpg", text, ["men", "dogs", "leash"], &shown);
    /// let named: Vec<_> = item.mentions.iter().map(|(mention, shown)| (mention.object.as_str(), *shown)).collect();
    /// assert_eq!(named, [("person", true), ("dog", false)]);
    /// assert_eq!(item.unknown, ["leash"]);
    /// # Ok::<(), bpo_eval::EvalError>(())
    /// ```
    pub fn from_names<'a>(
        table: &ObjectTable,
        image: impl Into<String>,
        text: impl Into<String>,
        names: impl IntoIterator<Item = &'a str>,
        truth: &BTreeSet<String>,
    ) -> Self {
        let text = text.into();
        let answer = text.replace("Assistant:", "");
        let is_short = answer.split_whitespace().count() <= 3;
        let words = table.words_of_names(names.into_iter().filter(|_| !is_short));
        let (mut objects, mut unknown) = (Vec::new(), Vec::new());
        for (word, object) in words {
            match object {
                Some(object) => objects.push(object),
                None => unknown.push(word),
            }
        }
        let length = answer.trim().split(' ').count();
        Self::of_objects(table, image.into(), text, &objects, unknown, length, truth)
    }
}

/// Reads answers with the names of the objects that a language model extracted from them:
/// `{"image", "text", "objects": ["dog", ...]}`, as a JSON array or JSON lines.
///
/// Keys of images and answers, and [`Scored::unmatched`], are those of
/// [`read_chair_answers`](crate::read_chair_answers).
///
/// # Errors
/// - [`EvalError::NoKey`], [`EvalError::NoNames`] for an answer without a list of names.
/// - The errors of [`read_chair_answers`](crate::read_chair_answers).
pub fn read_extracted_answers(
    path: &Path,
    table: &ObjectTable,
    truth: &Truth,
) -> Result<Scored<ChairItem>, EvalError> {
    truth.check(table)?;
    let answers = records::read_with(path, |one, other| one.trim() == other.trim(), NAMES[0])?;
    let mut scored = Scored { items: Vec::new(), unmatched: Vec::new() };
    for (Answer { record, image, text, .. }, names) in answers {
        let names = records::names(path, record, NAMES, names)?;
        let image = image.ok_or_else(|| records::no_image(path, record))?;
        match truth.of(&image) {
            Some(shown) => {
                let names = names.iter().map(String::as_str);
                scored.items.push(ChairItem::from_names(table, image, text, names, shown));
            }
            None => scored.unmatched.push(image),
        }
    }
    Ok(scored)
}
