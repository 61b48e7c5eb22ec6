//! Error injection without a text model. Words of an answer are replaced by words that are common
//! in the data.

mod change;
mod corpus;
mod lexicon;
mod rewrite;
mod token;
mod yes_no;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection, same_text};
use change::Draft;
use corpus::{Corpus, Evidence};
use rewrite::Replacements;

/// Number of words of an answer for each additional change.
const WORDS_PER_EDIT: usize = 12;

/// An [`ErrorInjector`] from the statistics of the answers themselves.
///
/// Counts over a data set replace the prior of a language model. One to three words of an answer
/// change, in all places:
/// - nouns, names and adjectives become words that are common between the same neighbors and often
///   share an answer with the other words;
/// - colors become other colors, numbers other numbers, and words such as "left" and "man" their
///   opposites;
/// - yes becomes no and no becomes yes, with the sentence after it where that is possible.
///
/// Capitals, plurals and "a"/"an" are kept. Parts of speech are estimated from neighbors and short
/// English lists, so in other languages only digits and words in common places change. The same
/// corpus, request and seed give the same text. This injector is ours: the paper rewrites with a
/// language model ([`LlmInjector`](crate::LlmInjector)).
///
/// ```
/// use bpo_inject::{CoOccurrence, ErrorInjector, InjectionRequest};
///
/// let answers = ["A red cup stands on the table.", "A fork lies on the table.", "There are four
/// plates."]; let mut injector = CoOccurrence::from_corpus(answers);
/// let request = InjectionRequest::new("How many plates are there?", "There are four plates.", 7);
/// let wrong = injector.inject(&[request]).remove(0)?;
/// assert_ne!(wrong.text, "There are four plates.");
/// # Ok::<(), bpo_inject::InjectionFailure>(())
/// ```
#[derive(Clone, Debug)]
pub struct CoOccurrence {
    corpus: Corpus,
    max_edits: usize,
}

impl CoOccurrence {
    /// The kind of the errors, in [`Injection::error`].
    pub const ERROR: &str = "co-occurrence";

    /// Counts words in the answers of a data set, usually those to rewrite. Without answers, only
    /// colors, numbers, opposites and yes or no change.
    pub fn from_corpus<S: AsRef<str>>(answers: impl IntoIterator<Item = S>) -> Self {
        Self { corpus: Corpus::new(answers), max_edits: 3 }
    }

    /// Sets the maximum number of changes in one answer, at least 1. Default: 3. Short answers have
    /// fewer changes.
    pub fn with_max_edits(mut self, edits: usize) -> Self {
        self.max_edits = edits.max(1);
        self
    }

    /// Rewrites one answer.
    ///
    /// # Errors
    /// Returns [`Rejection::NothingToChange`] if no word of the answer can be replaced.
    fn rewrite(&self, request: &InjectionRequest) -> Result<String, Rejection> {
        let text = match yes_no::flip(&request.question, &request.answer) {
            Some(text) => text,
            None => self.swap(&request.answer, request.seed),
        };
        if same_text(&text, &request.answer) { Err(Rejection::NothingToChange) } else { Ok(text) }
    }

    fn swap(&self, answer: &str, seed: u64) -> String {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let words = token::split(answer);
        let draft = Draft::new(&self.corpus, &words);
        let most = self.max_edits.min(1 + words.len() / WORDS_PER_EDIT);
        let edits = random.random_range(1..=most);
        let mut changes = draw_changes(&draft, edits, Evidence::BothSides, &mut random);
        if changes.is_empty() {
            // Small data may have no word that fits well.
            changes = draw_changes(&draft, 1, Evidence::Any, &mut random);
        }
        rewrite::rewrite(answer, &changes)
    }
}

fn draw_changes(
    draft: &Draft<'_>,
    mut edits: usize,
    evidence: Evidence,
    random: &mut ChaCha8Rng,
) -> Replacements {
    let mut slots = draft.slots();
    let mut changes = Replacements::new();
    while edits > 0
        && let Some(slot) = Draft::draw_slot(&mut slots, random)
    {
        let new = draft.change(slot, evidence, random);
        if !new.is_empty() && are_independent(&changes, &new) {
            changes.extend(new);
            edits -= 1;
        }
    }
    changes
}

/// Returns whether no word changes twice, and no two words become the same.
fn are_independent(made: &Replacements, new: &Replacements) -> bool {
    new.iter().all(|(from, to)| made.iter().all(|(made_from, made_to)| made_from != from && made_to != to))
}

impl ErrorInjector for CoOccurrence {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        let _span = tracing::info_span!("inject.batch", size = requests.len()).entered();
        let rewrite = |request| match self.rewrite(request) {
            Ok(text) => Ok(Injection::new(text, 1).with_error(Self::ERROR)),
            Err(reason) => Err(InjectionFailure::skipped(reason)),
        };
        requests.iter().map(rewrite).collect()
    }
}
