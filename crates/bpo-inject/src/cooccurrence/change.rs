//! The possible changes of an answer, and the draw of one.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::corpus::{Company, Corpus, Evidence, Place, Role};
use super::lexicon;
use super::rewrite::Replacements;
use super::token::Word;

/// Number of best words that one is drawn from.
const CANDIDATES: usize = 12;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Color,
    Number,
    Opposite,
    /// A word that the statistics of the data give.
    Common(Role),
}

impl Kind {
    /// Returns the weight of the kind in the draw: changes that certainly contradict the image have
    /// a larger one than those from statistics.
    fn weight(self) -> f64 {
        match self {
            Self::Color | Self::Number => 3.0,
            Self::Opposite | Self::Common(Role::Singular | Role::Plural | Role::Proper) => 2.0,
            Self::Common(Role::Modifier | Role::Predicate) => 0.5,
        }
    }
}

/// A word that can be changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub word: usize,
    pub kind: Kind,
}

/// The answer that is changed.
pub(super) struct Draft<'a> {
    pub corpus: &'a Corpus,
    pub words: &'a [Word<'a>],
    company: Company,
}

impl<'a> Draft<'a> {
    pub fn new(corpus: &'a Corpus, words: &'a [Word<'a>]) -> Self {
        Self { corpus, words, company: corpus.company(words) }
    }

    /// Returns the first occurrence of every word that can be changed.
    pub fn slots(&self) -> Vec<Slot> {
        let new = |i: &usize| !self.words[..*i].iter().any(|earlier| earlier.lower == self.words[*i].lower);
        (0..self.words.len())
            .filter(new)
            .filter_map(|word| Some(Slot { word, kind: self.kind(word)? }))
            .collect()
    }

    fn kind(&self, i: usize) -> Option<Kind> {
        let word = &self.words[i];
        let lower = word.lower.as_str();
        if word.hyphenated {
            None
        } else if lexicon::COLORS.contains(&lower) {
            (!lexicon::COLORS_OR_THINGS.contains(&lower) || self.is_color(i)).then_some(Kind::Color)
        } else if self.is_number(i) {
            Some(Kind::Number)
        } else if lexicon::OPPOSITES.iter().any(|&(a, b)| a == lower || b == lower) {
            Some(Kind::Opposite)
        } else {
            self.corpus.role(self.words, i).map(Kind::Common)
        }
    }

    /// Returns whether a word is used as a color: "an orange suit" or "is orange", but not "an
    /// orange".
    fn is_color(&self, i: usize) -> bool {
        let after_be = self.words[i].joined && i > 0 && lexicon::is_be(&self.words[i - 1].lower);
        let next_is_content = i + 1 < self.words.len()
            && self.words[i + 1].joined
            && self.corpus.role(self.words, i + 1).is_some();
        after_be || next_is_content
    }

    fn is_number(&self, i: usize) -> bool {
        let lower = self.words[i].lower.as_str();
        let digits = lower.starts_with(|c: char| c.is_ascii_digit())
            && lower.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | ':'));
        // 0 and 1 decide the form of the noun after them.
        let small = matches!(lower, "0" | "1");
        let known = lexicon::NUMBERS.contains(&lower) || lexicon::ORDINALS.contains(&lower);
        known || (digits && (!small || self.words.len() <= 2))
    }

    /// Draws a slot by the weights of the kinds, and removes it from the list.
    pub fn draw_slot(slots: &mut Vec<Slot>, random: &mut ChaCha8Rng) -> Option<Slot> {
        let weights: Vec<f64> = slots.iter().map(|slot| slot.kind.weight()).collect();
        draw(&weights, random).map(|at| slots.remove(at))
    }

    /// Returns the replacements for a slot, none if no word fits.
    pub fn change(&self, slot: Slot, evidence: Evidence, random: &mut ChaCha8Rng) -> Replacements {
        let word = &self.words[slot.word];
        let place = Place::of(self.words, slot.word);
        let new = match slot.kind {
            Kind::Opposite => return self.opposite(&word.lower, random),
            Kind::Number => other_number(&word.lower, random),
            Kind::Color => {
                let colors = self.corpus.common_of(lexicon::COLORS, place, &self.company);
                let same = |color: &str| {
                    lexicon::SAME_COLORS
                        .iter()
                        .any(|group| group.contains(&color) && group.contains(&&*word.lower))
                };
                self.draw_word(colors, |color| !same(color), random)
            }
            Kind::Common(role) => {
                let common = self.corpus.common(role, place, &self.company, evidence);
                self.draw_word(
                    common,
                    |other| !lexicon::may_be_same(&other.to_lowercase(), &word.lower),
                    random,
                )
            }
        };
        new.into_iter().map(|new| (word.lower.clone(), new)).collect()
    }

    /// Draws one of the best words that the answer does not have.
    fn draw_word(
        &self,
        words: Vec<(&str, f64)>,
        fits: impl Fn(&str) -> bool,
        random: &mut ChaCha8Rng,
    ) -> Option<String> {
        let own = |new: &str| self.words.iter().any(|word| word.lower == new.to_lowercase());
        let fitting = words.into_iter().filter(|(word, _)| !own(word) && fits(word));
        let (words, weights): (Vec<&str>, Vec<f64>) = fitting.take(CANDIDATES).unzip();
        draw(&weights, random).map(|at| words[at].to_owned())
    }

    /// Exchanges a word and its opposite, so that "left ... right" remains two sides. Pronouns
    /// follow people.
    fn opposite(&self, lower: &str, random: &mut ChaCha8Rng) -> Replacements {
        let opposites: Vec<&str> = lexicon::OPPOSITES
            .iter()
            .filter_map(|&(a, b)| if a == lower { Some(b) } else { (b == lower).then_some(a) })
            .collect();
        let Some(at) = draw(&vec![1.0; opposites.len()], random) else { return Vec::new() };
        let new = opposites[at];
        let both = self.words.iter().any(|word| word.lower == new);
        let mut changes = vec![(lower.to_owned(), new.to_owned())];
        if both {
            changes.push((new.to_owned(), lower.to_owned()));
        }
        let pronouns = |pairs: &[(&str, &str)]| -> Replacements {
            pairs.iter().map(|&(from, to)| (from.to_owned(), to.to_owned())).collect()
        };
        if both || lexicon::MASCULINE.contains(&lower) {
            changes.extend(pronouns(lexicon::MASCULINE_PRONOUNS).into_iter().filter(|_| is_person(lower)));
        }
        if both || lexicon::FEMININE.contains(&lower) {
            changes.extend(pronouns(lexicon::FEMININE_PRONOUNS).into_iter().filter(|_| is_person(lower)));
        }
        changes
    }
}

fn is_person(lower: &str) -> bool {
    lexicon::MASCULINE.contains(&lower) || lexicon::FEMININE.contains(&lower)
}

/// Returns a number near another one, in the same notation.
fn other_number(lower: &str, random: &mut ChaCha8Rng) -> Option<String> {
    for list in [lexicon::NUMBERS, lexicon::ORDINALS] {
        if let Some(at) = list.iter().position(|&number| number == lower) {
            let near: Vec<&str> = (at.saturating_sub(3)..list.len().min(at + 4))
                .filter(|&other| other != at)
                .map(|other| list[other])
                .collect();
            return near.get(random.random_range(0..near.len())).map(|&number| number.to_owned());
        }
    }
    let plain = lower.len() <= 9 && !lower.starts_with('0') && lower.chars().all(|c| c.is_ascii_digit());
    match lower.parse::<u64>() {
        Ok(number) if plain => Some(near(number, random).to_string()),
        _ => other_digit(lower, random),
    }
}

/// Draws a number at a distance of up to a third, or 3, and at least 2, so that the noun remains a
/// plural.
fn near(number: u64, random: &mut ChaCha8Rng) -> u64 {
    let step = random.random_range(1..=(number / 3).max(3));
    let down = number.checked_sub(step).filter(|&less| less >= 2);
    match down {
        Some(less) if random.random_bool(0.5) => less,
        _ => (number + step).max(2),
    }
}

/// Changes one digit of a decimal, a time or a long number.
fn other_digit(lower: &str, random: &mut ChaCha8Rng) -> Option<String> {
    let digits: Vec<usize> =
        lower.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
    let at = *digits.get(random.random_range(0..digits.len().max(1)))?;
    let old = lower.as_bytes()[at] - b'0';
    // 1 to 9 without the old one: never a leading zero.
    let choices: Vec<u8> = (1..=9).filter(|&digit| digit != old).collect();
    let new = char::from(b'0' + choices[random.random_range(0..choices.len())]);
    Some(format!("{}{new}{}", &lower[..at], &lower[at + 1..]))
}

/// Draws an index by weight.
fn draw(weights: &[f64], random: &mut ChaCha8Rng) -> Option<usize> {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    for (at, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return Some(at);
        }
    }
    // Rounding may leave a remainder.
    weights.len().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::token;
    use super::*;

    fn kinds(text: &str) -> Vec<(String, Kind)> {
        let corpus = Corpus::new([text]);
        let words = token::split(text);
        let slots = Draft::new(&corpus, &words).slots();
        slots.iter().map(|slot| (words[slot.word].lower.clone(), slot.kind)).collect()
    }

    #[test]
    fn words_have_the_expected_kinds() {
        let kinds = kinds("An orange on the left of 24 orange cups, only one in a close-up.");
        let expected = [("left", Kind::Opposite), ("24", Kind::Number), ("cups", Kind::Common(Role::Plural))];
        assert_eq!(kinds, expected.map(|(word, kind)| (word.to_owned(), kind)));
    }

    #[test]
    fn changed_numbers_are_near_and_different() {
        for seed in 0..200 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            for number in ["2", "24", "two", "twelve", "first", "3.5", "12:30", "007", "99999999999", "1"] {
                let other = other_number(number, &mut random).unwrap();
                assert_ne!(other, number);
            }
            let near: u64 = other_number("24", &mut random).unwrap().parse().unwrap();
            assert!((16..=32).contains(&near), "{near}");
            assert!(other_number("2", &mut random).unwrap() != "1");
        }
    }

    #[test]
    fn pronouns_change_with_people() {
        let text = "The man holds his hat.";
        let corpus = Corpus::new([text]);
        let words = token::split(text);
        let draft = Draft::new(&corpus, &words);
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let changes = draft.change(Slot { word: 1, kind: Kind::Opposite }, Evidence::Any, &mut random);
        assert_eq!(super::super::rewrite::rewrite(text, &changes), "The woman holds her hat.");
    }
}
