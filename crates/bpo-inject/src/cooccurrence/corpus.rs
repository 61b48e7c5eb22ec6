//! Counts over the answers of a data set.

use std::collections::HashMap;

use super::lexicon::{self, Lexicon};
use super::token::{self, Word};

/// The role of a word in its sentence, estimated from its neighbors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Before another content word: "*launch* pad".
    Modifier,
    /// After a form of "to be": "is *tall*".
    Predicate,
    /// A noun in the singular.
    Singular,
    /// A noun in the plural.
    Plural,
    /// A name.
    Proper,
}

const ROLES: usize = 5;
/// Number of the most common words with a role that are considered for a place.
const POOL: usize = 1024;
/// Maximum number of answers with one word in which its companions are counted.
const SAMPLE: usize = 128;
/// The neighbor at the start or end of a clause.
const BOUNDARY: u32 = 0;
/// The neighbor for all words that the data does not have.
const UNSEEN: u32 = u32::MAX;

/// One word of the data.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// The word in lower case; a name as in its first occurrence.
    pub text: String,
    roles: [u32; ROLES],
    total: u32,
}

/// Counts of words, of neighbors and of words in the same answer.
#[derive(Clone, Debug)]
pub(super) struct Corpus {
    lexicon: Lexicon,
    ids: HashMap<String, u32>,
    entries: Vec<Entry>,
    neighbours: HashMap<(u32, u32), u32>,
    /// The content words of each answer.
    answers: Vec<Box<[u32]>>,
    /// The answers of each content word.
    places: Vec<Vec<u32>>,
    pools: [Vec<u32>; ROLES],
}

impl Corpus {
    pub fn new<S: AsRef<str>>(answers: impl IntoIterator<Item = S>) -> Self {
        let mut corpus = Self {
            lexicon: Lexicon::new(),
            ids: HashMap::new(),
            entries: vec![Entry::default()],
            neighbours: HashMap::new(),
            answers: Vec::new(),
            places: vec![Vec::new()],
            pools: Default::default(),
        };
        for answer in answers {
            corpus.count(answer.as_ref());
        }
        corpus.fill_pools();
        corpus
    }

    fn count(&mut self, answer: &str) {
        let words = token::split(answer);
        let ids: Vec<u32> = words.iter().map(|word| self.intern(&word.lower)).collect();
        let mut content = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            self.entries[id as usize].total += 1;
            let before = if words[i].joined { ids[i - 1] } else { BOUNDARY };
            *self.neighbours.entry((before, id)).or_default() += 1;
            if words.get(i + 1).is_none_or(|next| !next.joined) {
                *self.neighbours.entry((id, BOUNDARY)).or_default() += 1;
            }
            if let Some(role) = self.role(&words, i) {
                let entry = &mut self.entries[id as usize];
                entry.roles[role as usize] += 1;
                if role == Role::Proper && entry.roles[role as usize] == 1 {
                    entry.text = words[i].text.to_owned();
                }
                content.push(id);
            }
        }
        content.sort_unstable();
        content.dedup();
        let number = self.answers.len() as u32;
        for &id in &content {
            self.places[id as usize].push(number);
        }
        self.answers.push(content.into());
    }

    fn intern(&mut self, lower: &str) -> u32 {
        // One article, so that "an apple" and "a plum" have the same neighbor.
        let lower = if lower == "an" { "a" } else { lower };
        if let Some(&id) = self.ids.get(lower) {
            return id;
        }
        let id = self.entries.len() as u32;
        self.ids.insert(lower.to_owned(), id);
        self.entries.push(Entry { text: lower.to_owned(), ..Entry::default() });
        self.places.push(Vec::new());
        id
    }

    fn fill_pools(&mut self) {
        for role in [Role::Modifier, Role::Predicate, Role::Singular, Role::Plural, Role::Proper] {
            let part = role as usize;
            let count = |id: &u32| self.entries[*id as usize].roles[part];
            let mut pool: Vec<u32> = (1..self.entries.len() as u32)
                // A rare role of a word is probably an error of the estimate.
                .filter(|id| count(id) > 0 && count(id) * 3 >= self.entries[*id as usize].total)
                .collect();
            pool.sort_unstable_by(|a, b| {
                let text = |id: &u32| &self.entries[*id as usize].text;
                count(b).cmp(&count(a)).then_with(|| text(a).cmp(text(b)))
            });
            pool.truncate(POOL);
            self.pools[part] = pool;
        }
    }

    /// Returns the role of the i-th word if statistics may replace it.
    pub fn role(&self, words: &[Word<'_>], i: usize) -> Option<Role> {
        let word = &words[i];
        let before = (word.joined && i > 0).then(|| words[i - 1].lower.as_str());
        if word.hyphenated || !self.lexicon.is_content(&word.lower, before) {
            return None;
        }
        if word.is_capitalized() && !word.begins_sentence {
            return Some(Role::Proper);
        }
        let leads =
            words.get(i + 1).is_some_and(|next| next.joined && self.lexicon.is_content(&next.lower, None));
        Some(if leads {
            Role::Modifier
        } else if before.is_some_and(lexicon::is_be) {
            Role::Predicate
        } else if lexicon::is_plural(&word.lower) {
            Role::Plural
        } else {
            Role::Singular
        })
    }

    /// Counts for each word of the data the answers that it shares with the content words of an
    /// answer.
    pub fn company(&self, words: &[Word<'_>]) -> Company {
        let mut counts = vec![0; self.entries.len()];
        let mut own: Vec<u32> = words.iter().filter_map(|word| self.ids.get(&word.lower).copied()).collect();
        own.sort_unstable();
        own.dedup();
        for id in own {
            let places = &self.places[id as usize];
            // Evenly spaced answers, so that the order of the file has no influence.
            for &answer in places.iter().step_by(places.len().div_ceil(SAMPLE).max(1)) {
                for &other in &self.answers[answer as usize] {
                    counts[other as usize] += 1;
                }
            }
        }
        Company(counts)
    }

    /// Returns words for a role with their scores between two neighbors and beside the words of an
    /// answer, best first.
    pub fn common(
        &self,
        role: Role,
        place: Place<'_>,
        company: &Company,
        evidence: Evidence,
    ) -> Vec<(&str, f64)> {
        let sides = self.sides(place);
        let weighed = self.pools[role as usize].iter().filter_map(|&id| {
            let beside = self.beside(id, sides);
            let enough = evidence == Evidence::Any || beside.iter().all(|&count| count > 0);
            enough.then(|| (self.entries[id as usize].text.as_str(), weight(beside, company.with(id))))
        });
        sorted(weighed)
    }

    /// Returns the words of a list with the same scores; the data need not have them.
    pub fn common_of<'w>(
        &self,
        list: &[&'w str],
        place: Place<'_>,
        company: &Company,
    ) -> Vec<(&'w str, f64)> {
        let sides = self.sides(place);
        sorted(list.iter().map(|&word| {
            let id = self.id(word);
            (word, weight(self.beside(id, sides), company.with(id)))
        }))
    }

    /// Returns the indices of the neighbors of a place.
    fn sides(&self, place: Place<'_>) -> [u32; 2] {
        [place.before, place.after].map(|word| word.map_or(BOUNDARY, |word| self.id(word)))
    }

    /// Counts the occurrences of a word after the left neighbor, and before the right neighbor.
    fn beside(&self, id: u32, [before, after]: [u32; 2]) -> [u32; 2] {
        [(before, id), (id, after)].map(|pair| self.neighbours.get(&pair).copied().unwrap_or(0))
    }

    fn id(&self, lower: &str) -> u32 {
        self.ids.get(if lower == "an" { "a" } else { lower }).copied().unwrap_or(UNSEEN)
    }
}

/// Returns the product of square roots of the counts, each plus a constant, so that no count
/// decides alone and unseen words remain possible.
fn weight([before, after]: [u32; 2], together: u32) -> f64 {
    [before, after, together].into_iter().map(|count| 0.2 + f64::from(count).sqrt()).product()
}

/// For each word of the data, the number of answers that it shares with the words of one answer.
#[derive(Clone, Debug)]
pub(super) struct Company(Vec<u32>);

impl Company {
    fn with(&self, id: u32) -> u32 {
        self.0.get(id as usize).copied().unwrap_or(0)
    }
}

/// The occurrences in the data that a replacement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Occurrences beside both neighbors.
    BothSides,
    /// Occurrences in the same role.
    Any,
}

/// The neighbors of a word in lower case, none at the start or end of a clause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub fn of(words: &'a [Word<'_>], i: usize) -> Self {
        let before = (words[i].joined && i > 0).then(|| words[i - 1].lower.as_str());
        let after = words.get(i + 1).filter(|next| next.joined).map(|next| next.lower.as_str());
        Self { before, after }
    }
}

/// Sorts by weight, largest first, then by the alphabet, so that the order is deterministic.
fn sorted<'w>(words: impl Iterator<Item = (&'w str, f64)>) -> Vec<(&'w str, f64)> {
    let mut words: Vec<_> = words.collect();
    words.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(text: &str, i: usize) -> Option<Role> {
        Corpus::new([text]).role(&token::split(text), i)
    }

    #[test]
    fn roles_are_estimated_from_neighbors() {
        let text = "The launch pad is concrete, says Anna of the towers";
        assert_eq!(role_of(text, 1), Some(Role::Modifier));
        assert_eq!(role_of(text, 2), Some(Role::Singular));
        assert_eq!(role_of(text, 4), Some(Role::Predicate));
        assert_eq!(role_of(text, 5), None);
        assert_eq!(role_of(text, 6), Some(Role::Proper));
        assert_eq!(role_of(text, 9), Some(Role::Plural));
    }

    #[test]
    fn most_common_word_for_a_place_is_first() {
        let corpus = Corpus::new([
            "A fork lies on the table.",
            "A fork is near a plate.",
            "A lamp hangs on the wall.",
        ]);
        let text = "A spoon lies on the table.";
        let words = token::split(text);
        let company = corpus.company(&words);
        let common = corpus.common(Role::Singular, Place::of(&words, 1), &company, Evidence::Any);
        assert_eq!(common[0].0, "fork");
        assert!(common.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        let seen = corpus.common(Role::Singular, Place::of(&words, 1), &company, Evidence::BothSides);
        assert_eq!(seen.iter().map(|(word, _)| *word).collect::<Vec<_>>(), ["fork"]);
    }
}
