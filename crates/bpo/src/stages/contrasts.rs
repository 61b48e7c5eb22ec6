//! The contrasts of pairs: other images with another annotated answer to the same question.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use bpo_pairs::{
    ContrastChoice, PairFilter, PreferencePair, SftSample, TextHasher, has_same_words, item_seed, lower_words,
};

use super::choice::EachSample;
use crate::config::RunConfig;
use crate::error::BpoError;

/// Number of answers that are compared with the chosen answer of a pair, at most.
const COMPARED: usize = 256;
/// Number of draws of a sample before the following ones are taken in order.
const DRAWS: u64 = 32;

/// A hash of a text.
type Hash = [u8; 32];

/// The annotated answers of the samples by their question, to choose the contrasts of pairs.
///
/// Answers of a question are indexed by their words. At most [`COMPARED`] of those that share a word
/// with the chosen answer of a pair are compared with it, those with rarer words first, so that the time
/// grows with the number of pairs and not with its square. Memory holds the answers of questions that
/// several samples have.
#[derive(Debug)]
pub(super) struct Contrasts {
    choice: ContrastChoice,
    seed: u64,
    filter: PairFilter,
    questions: HashMap<Hash, Question>,
    /// Numbers of words.
    words: HashMap<String, u32>,
    /// Number of pairs, and of those without a contrast.
    pairs: usize,
    without: usize,
}

/// Checks that pairs of the samples can have contrasts, if `pair.contrast` asks for them, before any answer is
/// made.
///
/// # Errors
/// Returns [`BpoError::NoContrasts`] if no two samples have the same question and different annotated
/// answers.
pub fn check_contrasts(config: &RunConfig, samples: &[SftSample]) -> Result<(), BpoError> {
    Contrasts::new(config, 0, |each| samples.iter().try_for_each(each), &|_| false, &|_| false).map(drop)
}

/// The answers to one question.
#[derive(Debug, Default)]
struct Question {
    /// Different answers, in the order of the samples.
    answers: Vec<Answer>,
    /// For each answer, the number of its lists of images and of those of all answers before it.
    ends: Vec<usize>,
    /// The answers that have a word, ascending.
    having: HashMap<u32, Vec<u32>>,
}

#[derive(Debug)]
struct Answer {
    text: String,
    /// The different lists of images that it is right for.
    images: Vec<Vec<String>>,
    /// Its different words, ascending.
    words: Vec<u32>,
}

impl Contrasts {
    /// Reads the samples in two passes, unless pairs get no contrast. A sample that `is_dropped` has no
    /// usable image and gives none. `is_eval` separates the samples for evaluation, which give contrasts
    /// to pairs for evaluation only.
    ///
    /// # Errors
    /// Returns [`BpoError::NoContrasts`] if no question has two annotated answers, or the errors of
    /// `samples`.
    pub(super) fn new(
        config: &RunConfig,
        seed: u64,
        samples: impl Fn(EachSample<'_>) -> Result<(), BpoError>,
        is_dropped: &dyn Fn(&str) -> bool,
        is_eval: &dyn Fn(&SftSample) -> bool,
    ) -> Result<Option<Self>, BpoError> {
        let choice = config.pair.contrast;
        if choice.is_none() {
            return Ok(None);
        }
        let filter = config.filter.clone();
        let key = |sample: &SftSample| {
            let answer = sample.answer.trim();
            let is_usable = !sample.images.is_empty() && !answer.is_empty() && !filter.is_too_long(answer);
            let is_usable = is_usable && !is_dropped(&sample.id);
            is_usable.then(|| question_of_sample(sample, is_eval(sample)))
        };
        let mut counts: HashMap<Hash, bool> = HashMap::new();
        samples(&mut |sample| {
            if let Some(key) = key(sample) {
                counts.entry(key).and_modify(|is_repeated| *is_repeated = true).or_insert(false);
            }
            Ok(())
        })?;
        let mut questions: HashMap<Hash, Question> = HashMap::new();
        let mut places: HashMap<(Hash, Hash), usize> = HashMap::new();
        let mut seen: HashSet<(Hash, usize, Hash)> = HashSet::new();
        let mut words: HashMap<String, u32> = HashMap::new();
        samples(&mut |sample| {
            let Some(key) = key(sample).filter(|key| counts.get(key).copied().unwrap_or_default()) else {
                return Ok(());
            };
            let answers = &mut questions.entry(key).or_default().answers;
            let text = sample.answer.trim();
            let place = *places.entry((key, hash([text]))).or_insert_with(|| {
                let words = if choice == ContrastChoice::Similar {
                    numbers(text, |word| {
                        let next = words.len() as u32;
                        Some(*words.entry(word).or_insert(next))
                    })
                } else {
                    Vec::new()
                };
                answers.push(Answer { text: text.to_owned(), images: Vec::new(), words });
                answers.len() - 1
            });
            if seen.insert((key, place, hash(sample.images.iter().map(String::as_str)))) {
                answers[place].images.push(sample.images.clone());
            }
            Ok(())
        })?;
        questions.retain(|_, question| question.answers.len() > 1);
        if questions.is_empty() {
            let path = config.data.path.clone().unwrap_or_else(|| "data".into());
            return Err(BpoError::NoContrasts { path, choice, questions: counts.len() });
        }
        questions.values_mut().for_each(Question::index);
        Ok(Some(Self { choice, seed, filter, questions, words, pairs: 0, without: 0 }))
    }

    /// Adds a contrast to a pair, if there is one. Its answer is none of those of the pair.
    pub(super) fn add_to(&mut self, pair: &mut PreferencePair, is_eval: bool) {
        self.pairs += 1;
        let found = self.of(pair, is_eval).map(|(images, answer)| (images.to_vec(), answer.to_owned()));
        let Some((images, answer)) = found else {
            self.without += 1;
            return;
        };
        pair.contrast_images = images;
        pair.contrast_answer = Some(answer);
        if pair.check_contrast().is_err() {
            // such as an answer with the placeholder of another model
            self.without += 1;
            pair.contrast_images = Vec::new();
            pair.contrast_answer = None;
        }
    }

    fn of(&self, pair: &PreferencePair, is_eval: bool) -> Option<(&[String], &str)> {
        if self.filter.is_too_long(&pair.chosen) {
            return None;
        }
        let question = self.questions.get(&question_of_pair(pair, is_eval))?;
        let draw = item_seed(self.seed, format!("contrast/{}", pair.id));
        match self.choice {
            ContrastChoice::Similar => {
                let words = numbers(&pair.chosen, |word| self.words.get(&word).copied());
                question.similar(pair, &words, draw)
            }
            _ => question.random(pair, draw),
        }
    }

    /// Reports the pairs without a contrast.
    pub(super) fn report(&self) {
        if self.without > 0 {
            tracing::warn!(
                pairs = self.pairs,
                without = self.without,
                "pairs without `contrast_images`: no other sample with their question, other images and another annotated \
                 answer was found"
            );
        }
    }
}

impl Question {
    fn index(&mut self) {
        let mut end = 0;
        for (place, answer) in self.answers.iter().enumerate() {
            end += answer.images.len();
            self.ends.push(end);
            for word in &answer.words {
                self.having.entry(*word).or_default().push(place as u32);
            }
        }
    }

    /// Returns the answer that shares the most of `words` with the pair's chosen answer, of equal ones
    /// that with the fewest words, and then the first one after a place that `draw` gives.
    fn similar(&self, pair: &PreferencePair, words: &[u32], draw: u64) -> Option<(&[String], &str)> {
        let mut lists: Vec<(usize, u32)> =
            words.iter().filter_map(|word| Some((self.having.get(word)?.len(), *word))).collect();
        lists.sort_unstable();
        let lists = lists.iter().flat_map(|(_, word)| turned(&self.having[word], draw));
        let mut candidates: Vec<u32> = lists.copied().take(COMPARED).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let (count, start) = (self.answers.len(), place(draw, self.answers.len()));
        let mut best = None;
        for at in candidates.into_iter().map(|at| at as usize) {
            let own = &self.answers[at].words;
            let rank = (shared(words, own), Reverse(own.len()), Reverse((at + count - start) % count));
            let is_better = best.as_ref().is_none_or(|(best, ..): &(_, &[String], usize)| rank > *best);
            if is_better && let Some(images) = self.images(at, pair, draw) {
                best = Some((rank, images, at));
            }
        }
        match best {
            Some((_, images, at)) => Some((images, &self.answers[at].text)),
            None => self.next(pair, draw),
        }
    }

    /// Returns a drawn answer with images.
    fn random(&self, pair: &PreferencePair, draw: u64) -> Option<(&[String], &str)> {
        let all = self.ends.last().copied()?;
        for attempt in 0..DRAWS {
            let drawn = place(item_seed(draw, attempt.to_le_bytes()), all);
            let at = self.ends.partition_point(|end| *end <= drawn);
            let answer = &self.answers[at];
            let images = &answer.images[drawn + answer.images.len() - self.ends[at]];
            if *images != pair.images && is_other(&answer.text, pair) {
                return Some((images, &answer.text));
            }
        }
        // most samples have the answer of the pair
        self.next(pair, draw)
    }

    /// Returns the first usable answer after a place that `draw` gives.
    fn next(&self, pair: &PreferencePair, draw: u64) -> Option<(&[String], &str)> {
        let (count, start) = (self.answers.len(), place(draw, self.answers.len()));
        let places = (0..count.min(COMPARED)).map(|step| (start + step) % count);
        places.into_iter().find_map(|at| Some((self.images(at, pair, draw)?, self.answers[at].text.as_str())))
    }

    /// Returns images of an answer that are not those of the pair, or `None` if the answer is one of the
    /// pair's.
    fn images(&self, at: usize, pair: &PreferencePair, draw: u64) -> Option<&[String]> {
        let Answer { text, images, .. } = &self.answers[at];
        let images = turned(images, draw).find(|images| **images != pair.images)?;
        is_other(text, pair).then_some(images)
    }
}

/// Returns whether an answer has other words than both of a pair.
fn is_other(answer: &str, pair: &PreferencePair) -> bool {
    [&pair.chosen, &pair.rejected].into_iter().all(|own| !has_same_words(own, answer))
}

/// Returns the place that a random number gives in a list with a number of items above 0.
fn place(draw: u64, count: usize) -> usize {
    (draw % count as u64) as usize
}

/// Iterates over all items from the place on that a random number gives.
fn turned<T>(items: &[T], draw: u64) -> impl Iterator<Item = &T> {
    let (before, after) = items.split_at(if items.is_empty() { 0 } else { place(draw, items.len()) });
    after.iter().chain(before)
}

/// Returns the numbers of the different words of a text, ascending.
fn numbers(text: &str, mut number: impl FnMut(String) -> Option<u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = lower_words(text).into_iter().filter_map(&mut number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Returns the number of equal items of two ascending lists.
fn shared(one: &[u32], other: &[u32]) -> usize {
    let (mut at, mut count) = (0, 0);
    for word in one {
        while other.get(at).is_some_and(|other| other < word) {
            at += 1;
        }
        count += usize::from(other.get(at) == Some(word));
    }
    count
}

fn question_of_sample(sample: &SftSample, is_eval: bool) -> Hash {
    question(sample.images.len(), sample.system.as_deref(), &sample.history, &sample.prompt, is_eval)
}

fn question_of_pair(pair: &PreferencePair, is_eval: bool) -> Hash {
    question(pair.images.len(), pair.system.as_deref(), &pair.history, &pair.prompt, is_eval)
}

fn question(
    images: usize,
    system: Option<&str>,
    history: &bpo_pairs::History,
    prompt: &str,
    is_eval: bool,
) -> Hash {
    let about = format!("{images} {} {is_eval} {}", history.len(), system.is_some());
    let turns = history.iter().flat_map(|turn| [turn.prompt.as_str(), turn.answer.as_str()]);
    hash([about.as_str(), system.unwrap_or_default(), prompt].into_iter().chain(turns))
}

fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> Hash {
    let mut hasher = TextHasher::default();
    texts.into_iter().for_each(|text| hasher.add(text));
    hasher.bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(id: usize, image: &str, prompt: &str, answer: &str) -> SftSample {
        let images = if image.is_empty() { Vec::new() } else { vec![image.to_owned()] };
        let (system, history) = (None, Default::default());
        SftSample {
            id: id.to_string(),
            images,
            system,
            history,
            prompt: prompt.into(),
            answer: answer.into(),
        }
    }

    fn pair(id: usize, image: &str, prompt: &str, chosen: &str, rejected: &str) -> PreferencePair {
        serde_json::from_value(json!({
            "id": id.to_string(), "images": [image], "prompt": prompt, "chosen": chosen, "rejected": rejected,
            "kind": "llm-hal",
        }))
        .unwrap()
    }

    fn contrasts(choice: ContrastChoice, samples: &[SftSample]) -> Contrasts {
        let mut config = RunConfig::default();
        config.pair.contrast = choice;
        let each = |each: EachSample<'_>| samples.iter().try_for_each(each);
        let is_eval = |sample: &SftSample| sample.images[0].starts_with("eval");
        Contrasts::new(&config, 3, each, &|id| id == "gone", &is_eval).unwrap().unwrap()
    }

    /// The image and the answer that a pair gets.
    fn of(contrasts: &mut Contrasts, mut pair: PreferencePair) -> Option<(String, String)> {
        let is_eval = pair.images[0].starts_with("eval");
        contrasts.add_to(&mut pair, is_eval);
        pair.check_contrast().unwrap();
        pair.contrast().map(|(images, answer)| (images[0].clone(), answer.to_owned()))
    }

    const ASK: &str = "<image>\nWhat is there?";

    fn some_samples() -> Vec<SftSample> {
        let mut samples = vec![
            sample(0, "a", ASK, "A red cat sleeps on a mat."),
            sample(1, "b", ASK, "A red dog sleeps on a mat."),
            sample(2, "c", ASK, "A red cat sleeps."),
            sample(3, "d", ASK, " A street. "),
            sample(4, "e", "<image>\nWhich color?", "A red cat sleeps on a mat, too."),
            sample(5, "a", ASK, "A red cat sleeps on a mat or so."),
            sample(6, "", ASK, "A red cat sleeps on a mat for long."),
            sample(7, "eval-0", ASK, "A red cat sleeps on a small mat."),
            sample(8, "eval-1", ASK, "Grass."),
            sample(9, "f", ASK, "A red cat sleeps on a mat again."),
        ];
        samples[9].id = "gone".into();
        samples
    }

    #[test]
    fn the_most_similar_answer_for_other_images_is_taken() {
        let mut all = contrasts(ContrastChoice::Similar, &some_samples());
        let found =
            |found: Option<(&str, &str)>| found.map(|(image, text)| (image.to_owned(), text.to_owned()));
        let chosen = "A red cat sleeps on a mat.";
        // neither its own images nor another question, the other side of a split, a text or a dropped sample
        let similar = found(Some(("b", "A red dog sleeps on a mat.")));
        assert_eq!(of(&mut all, pair(0, "a", ASK, chosen, "A dog.")), similar);
        // not an answer of the pair
        let rejected = "A red dog sleeps on a mat. ";
        assert_eq!(
            of(&mut all, pair(1, "a", ASK, chosen, rejected)),
            found(Some(("c", "A red cat sleeps.")))
        );
        // no answer shares a word
        let next = of(&mut all, pair(2, "d", ASK, "Nothing", "x")).unwrap();
        assert_ne!(next.0, "d");
        assert_eq!(of(&mut all, pair(3, "eval-0", ASK, chosen, "x")), found(Some(("eval-1", "Grass."))));
        assert_eq!(of(&mut all, pair(4, "e", "<image>\nWhich color?", "Red.", "Blue.")), None);
        assert_eq!(of(&mut all, pair(5, "e", "<image>\nWho?", "A man.", "A woman.")), None);
        assert_eq!((all.pairs, all.without), (6, 2));
    }

    #[test]
    fn ties_are_decided_by_the_pair_and_repeat() {
        let samples: Vec<_> = (0..50)
            .map(|i| sample(i, &format!("{i}.jpg"), ASK, &format!("A red thing, number n{i}.")))
            .collect();
        for choice in [ContrastChoice::Similar, ContrastChoice::Random] {
            let run = || {
                let mut all = contrasts(choice, &samples);
                let pairs = (0..50).map(|i| {
                    let chosen = format!("A red thing, number n{i}.");
                    of(&mut all, pair(i, &format!("{i}.jpg"), ASK, &chosen, "A thing.")).unwrap()
                });
                pairs.collect::<Vec<_>>()
            };
            let found = run();
            assert_eq!(found, run());
            let different: HashSet<_> = found.iter().collect();
            assert!(different.len() > 15, "{choice:?}: {}", different.len());
        }
    }

    /// Most samples have the same answer, and an image has several answers.
    #[test]
    fn rare_answers_are_found() {
        let mut samples: Vec<_> = (0..2000).map(|i| sample(i, &format!("{i}"), ASK, "Yes")).collect();
        samples.push(sample(2000, "no", ASK, "No"));
        samples.push(sample(2001, "both", ASK, "Yes"));
        samples.push(sample(2002, "both", ASK, "No"));
        for choice in [ContrastChoice::Similar, ContrastChoice::Random] {
            let mut all = contrasts(choice, &samples);
            for i in 0..20 {
                let (image, answer) = of(&mut all, pair(i, &i.to_string(), ASK, "Yes", "Maybe")).unwrap();
                assert!(answer == "No" && ["no", "both"].contains(&image.as_str()), "{image} {answer}");
            }
            let (image, answer) = of(&mut all, pair(20, "both", ASK, "Yes", "Maybe")).unwrap();
            assert_eq!((image.as_str(), answer.as_str()), ("no", "No"));
            assert_eq!(of(&mut all, pair(21, "0", ASK, "Yes", "No")), None);
        }
    }

    #[test]
    fn random_contrasts_are_drawn_from_all_samples() {
        let samples: Vec<_> = (0..10)
            .map(|i| sample(i, &format!("{i}"), ASK, if i < 5 { "Red." } else { "Green grass." }))
            .collect();
        let mut all = contrasts(ContrastChoice::Random, &samples);
        let mut counts = [0; 10];
        for id in 0..1000 {
            let (image, answer) = of(&mut all, pair(id, "0", ASK, "Blue.", "Grey.")).unwrap();
            counts[image.parse::<usize>().unwrap()] += 1;
            assert_eq!(answer == "Red.", image.parse::<usize>().unwrap() < 5);
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|count| (70..160).contains(count)), "{counts:?}");
    }
}
