//! What is asked and answered about a scene.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kind::{Colour, Kind, Place};
use crate::scene::{Group, Scene};

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// All that is there.
    Description,
    /// Whether there is a thing of this kind.
    Presence(Kind),
    /// The colour of the things of this kind, which are there.
    Colour(Kind),
    /// The number of the things of this kind, which are there.
    Count(Kind),
}

/// A question and its annotated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What it is about.
    pub topic: Topic,
    /// The question.
    pub prompt: String,
    /// The answer, true to the scene.
    pub answer: String,
}

const DESCRIBE: [&str; 4] =
    ["Describe the image.", "What is in the image?", "What can you see?", "Describe this scene in detail."];

/// Sentences around a list of things; `{place}` is the place.
const SENTENCES: [&str; 6] = [
    "The image shows {things}.",
    "I can see {things}.",
    "This is a {place} with {things}.",
    "In the {place}, you can see {things}.",
    "The scene is a {place}. It has {things}.",
    "You can see {things} in this {place}.",
];

/// The words for one, two and three; there are never more of a kind.
pub const NUMBERS: [&str; 3] = ["one", "two", "three"];

impl Turn {
    /// Asks about a topic and answers. The same seed gives the same words.
    pub fn about(scene: &Scene, topic: Topic, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (prompt, answer) = match topic {
            Topic::Description => (pick(&DESCRIBE, &mut rng).to_owned(), describe(scene, &mut rng)),
            Topic::Presence(kind) => {
                let answer = if scene.has(kind) { "Yes." } else { "No." };
                (format!("Is there {} in the image?", with_article(kind.name())), answer.to_owned())
            }
            Topic::Colour(kind) => {
                let colour = group(scene, kind).map_or(kind.usual_colour(), |group| group.colour);
                let several = group(scene, kind).is_some_and(|group| group.count > 1);
                let (verb, noun) = if several { ("are", kind.plural()) } else { ("is", kind.name()) };
                (format!("What colour {verb} the {noun}?"), format!("{}.", capital(colour.name())))
            }
            Topic::Count(kind) => {
                let count = group(scene, kind).map_or(1, |group| group.count);
                (format!("How many {} are there?", kind.plural()), format!("{}.", capital(number(count))))
            }
        };
        Self { topic, prompt, answer }
    }
}

/// The kinds that a question about presence should be about: `count` of them, about half of them there. Of those that
/// are not, every other is a missing companion of something that is.
pub fn presence_kinds(scene: &Scene, count: usize, seed: u64) -> Vec<Kind> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut there: Vec<Kind> = scene.groups().iter().map(|group| group.kind).collect();
    there.shuffle(&mut rng);
    let mut absent: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| !scene.has(*kind)).collect();
    absent.shuffle(&mut rng);
    let (companions, others): (Vec<Kind>, Vec<Kind>) =
        absent.into_iter().partition(|kind| scene.has(kind.companion()));
    let mut absent = alternate(companions, others).into_iter();
    let mut there = there.into_iter();
    let mut kinds = Vec::with_capacity(count);
    while kinds.len() < count {
        let next = if rng.random_bool(0.5) { there.next() } else { None };
        let Some(kind) = next.or_else(|| absent.next()) else { break };
        kinds.push(kind);
    }
    kinds
}

fn alternate<T>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut both = Vec::new();
    loop {
        let (first, second) = (one.next(), other.next());
        if first.is_none() && second.is_none() {
            return both;
        }
        both.extend(first.into_iter().chain(second));
    }
}

fn describe(scene: &Scene, rng: &mut ChaCha8Rng) -> String {
    let things = list(&scene.groups_back_to_front());
    pick(&SENTENCES, rng).replace("{things}", &things).replace("{place}", scene.place.name())
}

/// `a red cup, two yellow bananas and a blue plate`.
pub fn list(groups: &[Group]) -> String {
    let phrases: Vec<String> = groups.iter().map(phrase).collect();
    match phrases.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// `a red cup`, `two yellow bananas`.
fn phrase(Group { kind, colour, count }: &Group) -> String {
    match count {
        1 => with_article(&format!("{colour} {kind}")),
        count => format!("{} {colour} {}", number(*count), kind.plural()),
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn number(count: u8) -> &'static str {
    NUMBERS[usize::from(count).clamp(1, NUMBERS.len()) - 1]
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn group(scene: &Scene, kind: Kind) -> Option<Group> {
    scene.groups().into_iter().find(|group| group.kind == kind)
}

fn pick<'a>(texts: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    texts.choose(rng).copied().unwrap_or_default()
}

/// Every word and sign that the texts are made of, sorted, without repetition.
pub fn vocabulary() -> Vec<String> {
    let fixed = "Is there a an in the image What colour is are How many are there Yes No and nothing";
    let templates = DESCRIBE.iter().chain(&SENTENCES).copied().chain([fixed]);
    let mut words: Vec<String> = templates
        .flat_map(split)
        .filter(|word| !word.starts_with('{') && *word != "}")
        .map(str::to_owned)
        .filter(|word| !["{", "}", "things", "place"].contains(&word.as_str()))
        .collect();
    words.extend(NUMBERS.iter().flat_map(|word| [(*word).to_owned(), capital(word)]));
    words.extend(Colour::ALL.iter().flat_map(|colour| [colour.name().to_owned(), capital(colour.name())]));
    words.extend(Place::ALL.iter().map(|place| place.name().to_owned()));
    words.extend(Kind::ALL.iter().flat_map(|kind| [kind.name(), kind.plural()].map(str::to_owned)));
    words.sort_unstable();
    words.dedup();
    words
}

/// Words and signs of a text.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|chunk| {
        let mut rest = chunk;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let end = if first.is_alphanumeric() {
                rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (word, tail) = rest.split_at(end);
            rest = tail;
            Some(word)
        })
    })
}

/// What a text says is there: number, colour and kind, as far as it says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What.
    pub kind: Kind,
    /// In which colour, where the text says one right before it.
    pub colour: Option<Colour>,
    /// How many; one where it says none.
    pub count: u8,
}

/// Reads all claims of a text of this world, in their order.
pub fn claims(text: &str) -> Vec<Claim> {
    let (mut found, mut count, mut colour) = (Vec::new(), 1, None);
    for word in split(text) {
        let word = word.to_lowercase();
        if let Some(number) = NUMBERS.iter().position(|number| *number == word) {
            count = number as u8 + 1;
        } else if let Some(named) = Colour::ALL.iter().find(|colour| colour.name() == word) {
            colour = Some(*named);
        } else if let Some(kind) =
            Kind::ALL.iter().find(|kind| [kind.name(), kind.plural()].contains(&word.as_str()))
        {
            found.push(Claim { kind: *kind, colour, count });
            (count, colour) = (1, None);
        } else {
            (count, colour) = (1, None);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Statistics;
    use proptest::prelude::*;

    #[test]
    fn the_words_are_few() {
        let words = vocabulary();
        assert!(words.len() < 130, "{}: {words:?}", words.len());
        for word in ["umbrella", "shells", "Three", "Yes", ",", "?", "an", "kitchen"] {
            assert!(words.iter().any(|other| other == word), "{word}");
        }
    }

    #[test]
    fn questions_read_as_english() {
        let scene = (0..)
            .map(|seed| Scene::sample(&Statistics::usual(), seed))
            .find(|scene| scene.has(Kind::Umbrella));
        let scene = scene.unwrap();
        let turn = Turn::about(&scene, Topic::Presence(Kind::Umbrella), 0);
        assert_eq!(
            (turn.prompt.as_str(), turn.answer.as_str()),
            ("Is there an umbrella in the image?", "Yes.")
        );
        let turn = Turn::about(&scene, Topic::Presence(Kind::Fork), 0);
        assert_eq!((turn.prompt.as_str(), turn.answer.as_str()), ("Is there a fork in the image?", "No."));
    }

    proptest! {
        #[test]
        fn descriptions_say_what_is_there_and_no_more(seed: u64, words: u64, counter: bool) {
            let statistics = if counter { Statistics::counter() } else { Statistics::usual() };
            let scene = Scene::sample(&statistics, seed);
            let turn = Turn::about(&scene, Topic::Description, words);
            let mut said = claims(&turn.answer);
            said.sort_by_key(|claim| claim.kind);
            let there: Vec<Claim> = scene
                .groups()
                .iter()
                .map(|group| Claim { kind: group.kind, colour: Some(group.colour), count: group.count })
                .collect();
            prop_assert_eq!(said, there, "{}", turn.answer);
        }

        #[test]
        fn all_texts_are_made_of_the_vocabulary(seed: u64, words: u64) {
            let (scene, known) = (Scene::sample(&Statistics::counter(), seed), vocabulary());
            let kinds: Vec<Kind> = scene.groups().iter().map(|group| group.kind).collect();
            let about = kinds.iter().flat_map(|kind| [Topic::Presence(*kind), Topic::Colour(*kind), Topic::Count(*kind)]);
            for topic in about.chain([Topic::Description]) {
                let turn = Turn::about(&scene, topic, words);
                for word in split(&turn.prompt).chain(split(&turn.answer)) {
                    prop_assert!(known.iter().any(|other| other == word), "{word:?} in {turn:?}");
                }
            }
        }

        #[test]
        fn presence_questions_are_of_different_kinds(seed: u64, count in 1usize..8) {
            let scene = Scene::sample(&Statistics::usual(), seed);
            let mut kinds = presence_kinds(&scene, count, seed);
            prop_assert_eq!(kinds.len(), count);
            kinds.sort_unstable();
            kinds.dedup();
            prop_assert_eq!(kinds.len(), count);
        }

        #[test]
        fn any_text_can_be_read(text: String) {
            claims(&text);
            prop_assert!(split(&text).all(|word| text.contains(word)));
        }
    }
}
