//! Questions and answers about scenes, and the objects that an answer names.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kind::{Colour, Kind, Place};
use crate::scene::{Group, Scene};

/// The topic of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The whole scene.
    Description,
    /// Whether the scene has an object of this kind.
    Presence(Kind),
    /// The colour of the objects of this kind, which the scene has.
    Colour(Kind),
    /// The number of objects of this kind, which the scene has.
    Count(Kind),
}

/// A question and its annotated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionAnswer {
    /// The topic.
    pub topic: Topic,
    /// The question.
    pub prompt: String,
    /// The answer, correct for the scene.
    pub answer: String,
}

const DESCRIBE: [&str; 4] =
    ["Describe the image.", "What is in the image?", "What can you see?", "Describe this scene in detail."];

/// Templates of descriptions: `{things}` is the list of objects, `{place}` the place.
const SENTENCES: [&str; 6] = [
    "The image shows {things}.",
    "I can see {things}.",
    "This is a {place} with {things}.",
    "In the {place}, you can see {things}.",
    "The scene is a {place}. It has {things}.",
    "You can see {things} in this {place}.",
];

/// The words for one, two and three, the possible numbers of objects of a kind.
pub const NUMBER_WORDS: [&str; 3] = ["one", "two", "three"];

impl QuestionAnswer {
    /// A question about a topic with its answer. The same seed gives the same words.
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

/// Kinds for questions about presence: up to `count` different ones, about half of them in the
/// scene.
///
/// Every other absent kind is the companion of a kind in the scene.
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
    let things = list_groups(&scene.groups_back_to_front());
    pick(&SENTENCES, rng).replace("{things}", &things).replace("{place}", scene.place.name())
}

/// The groups as an English list: `a red cup, two yellow bananas and a blue plate`.
pub fn list_groups(groups: &[Group]) -> String {
    let phrases: Vec<String> = groups.iter().map(phrase).collect();
    match phrases.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// One group in English: `a red cup`, `two yellow bananas`.
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
    NUMBER_WORDS[usize::from(count).clamp(1, NUMBER_WORDS.len()) - 1]
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

/// Every word and punctuation mark of the questions and answers, sorted, each once.
pub fn vocabulary() -> Vec<String> {
    let fixed = "Is there a an in the image What colour is are How many are there Yes No and nothing";
    let templates = DESCRIBE.iter().chain(&SENTENCES).copied().chain([fixed]);
    let mut words: Vec<String> = templates
        .flat_map(tokens)
        .filter(|word| !word.starts_with('{') && *word != "}")
        .map(str::to_owned)
        .filter(|word| !["{", "}", "things", "place"].contains(&word.as_str()))
        .collect();
    words.extend(NUMBER_WORDS.iter().flat_map(|word| [(*word).to_owned(), capital(word)]));
    words.extend(Colour::ALL.iter().flat_map(|colour| [colour.name().to_owned(), capital(colour.name())]));
    words.extend(Place::ALL.iter().map(|place| place.name().to_owned()));
    words.extend(Kind::ALL.iter().flat_map(|kind| [kind.name(), kind.plural()].map(str::to_owned)));
    words.sort_unstable();
    words.dedup();
    words
}

/// The words and punctuation marks of a text, in order.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
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

/// An object that a text names, with the number and colour that the text gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The kind of object.
    pub kind: Kind,
    /// The colour, if the word for one is right before the object.
    pub colour: Option<Colour>,
    /// The number of objects; 1 if the text gives none.
    pub count: u8,
}

/// The objects that a text names, in order.
pub fn read_claims(text: &str) -> Vec<Claim> {
    let (mut found, mut count, mut colour) = (Vec::new(), 1, None);
    for word in tokens(text) {
        let word = word.to_lowercase();
        if let Some(number) = NUMBER_WORDS.iter().position(|number| *number == word) {
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
    use crate::statistics::Statistics;
    use proptest::prelude::*;

    #[test]
    fn the_vocabulary_is_small() {
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
        let qa = QuestionAnswer::about(&scene, Topic::Presence(Kind::Umbrella), 0);
        assert_eq!((qa.prompt.as_str(), qa.answer.as_str()), ("Is there an umbrella in the image?", "Yes."));
        let qa = QuestionAnswer::about(&scene, Topic::Presence(Kind::Fork), 0);
        assert_eq!((qa.prompt.as_str(), qa.answer.as_str()), ("Is there a fork in the image?", "No."));
    }

    proptest! {
        #[test]
        fn descriptions_name_exactly_the_objects_of_the_scene(seed: u64, words: u64, counter: bool) {
            let statistics = if counter { Statistics::counter() } else { Statistics::usual() };
            let scene = Scene::sample(&statistics, seed);
            let qa = QuestionAnswer::about(&scene, Topic::Description, words);
            let mut said = read_claims(&qa.answer);
            said.sort_by_key(|claim| claim.kind);
            let there: Vec<Claim> = scene
                .groups()
                .iter()
                .map(|group| Claim { kind: group.kind, colour: Some(group.colour), count: group.count })
                .collect();
            prop_assert_eq!(said, there, "{}", qa.answer);
        }

        #[test]
        fn the_vocabulary_covers_all_texts(seed: u64, words: u64) {
            let (scene, known) = (Scene::sample(&Statistics::counter(), seed), vocabulary());
            let kinds: Vec<Kind> = scene.groups().iter().map(|group| group.kind).collect();
            let about = kinds.iter().flat_map(|kind| [Topic::Presence(*kind), Topic::Colour(*kind), Topic::Count(*kind)]);
            for topic in about.chain([Topic::Description]) {
                let qa = QuestionAnswer::about(&scene, topic, words);
                for word in tokens(&qa.prompt).chain(tokens(&qa.answer)) {
                    prop_assert!(known.iter().any(|other| other == word), "{word:?} in {qa:?}");
                }
            }
        }

        #[test]
        fn presence_kinds_are_distinct(seed: u64, count in 1usize..8) {
            let scene = Scene::sample(&Statistics::usual(), seed);
            let mut kinds = presence_kinds(&scene, count, seed);
            prop_assert_eq!(kinds.len(), count);
            kinds.sort_unstable();
            kinds.dedup();
            prop_assert_eq!(kinds.len(), count);
        }

        #[test]
        fn any_text_can_be_parsed(text: String) {
            read_claims(&text);
            prop_assert!(tokens(&text).all(|word| text.contains(word)));
        }
    }
}
