//! The error injector of the quickstart, in place of a text model. It knows what is usual in the
//! data set and does not see the image.

use bpo::inject::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection};
use bpo_world::{Claim, Colour, Group, Kind, NUMBER_WORDS, list_groups, read_claims};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Fraction of the descriptions that also lose an object that is in the image, so that rejected
/// answers are not longer.
const LEAVE_OUT: f64 = 0.25;

/// Rewrites answers towards what is usual. An object becomes the missing companion of another one,
/// in its usual colour and number; or an unusual object becomes usual; or, if everything is usual,
/// an object takes the colour of another one.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldInjector;

impl ErrorInjector for WorldInjector {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        let rewrite =
            |request: &InjectionRequest| match rewrite(&request.question, &request.answer, request.seed) {
                Some(text) => Ok(Injection::new(text, 1)),
                None => Err(InjectionFailure::skipped(Rejection::NothingToChange)),
            };
        requests.iter().map(rewrite).collect()
    }
}

fn rewrite(question: &str, answer: &str, seed: u64) -> Option<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    match answer {
        "Yes." => return Some("No.".to_owned()),
        "No." => return Some("Yes.".to_owned()),
        _ => {}
    }
    let said = read_claims(answer);
    if said.is_empty() {
        return short(question, answer, &mut rng);
    }
    describe(answer, &said, &mut rng)
}

/// The usual colour or number of the object asked about, or another one if the answer has the usual
/// one.
fn short(question: &str, answer: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    let kind = read_claims(question).first()?.kind;
    let colours: Vec<&str> = Colour::ALL.iter().map(|colour| colour.name()).collect();
    let (words, usual) = if question.starts_with("How many") {
        (NUMBER_WORDS.to_vec(), NUMBER_WORDS[usize::from(kind.usual_count()) - 1])
    } else {
        (colours, kind.usual_colour().name())
    };
    let is_said = |word: &str| answer.trim_end_matches('.').eq_ignore_ascii_case(word);
    let others: Vec<&str> = words.into_iter().filter(|word| !is_said(word)).collect();
    let word = if is_said(usual) { others.choose(rng)? } else { &usual };
    let mut letters = word.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn describe(answer: &str, said: &[Claim], rng: &mut ChaCha8Rng) -> Option<String> {
    let old: Vec<Group> = said.iter().map(|claim| group(*claim)).collect::<Option<_>>()?;
    let leave_out = rng.random_bool(LEAVE_OUT);
    let edits = rng.random_range(1..=2);
    let (mut groups, mut changed) = (old.clone(), 0);
    let mut places: Vec<usize> = (0..groups.len()).collect();
    while changed < edits && !places.is_empty() {
        let place = places.swap_remove(rng.random_range(0..places.len()));
        let new = usual_instead(groups[place], &groups, rng);
        changed += usize::from(new != groups[place]);
        groups[place] = new;
    }
    if changed == 0 {
        return None;
    }
    let kept: Vec<usize> = (0..groups.len()).filter(|place| groups[*place] == old[*place]).collect();
    if let Some(place) = kept.choose(rng).filter(|_| groups.len() > 2 && leave_out) {
        groups.remove(*place);
    }
    Some(answer.replacen(&list_groups(&old), &list_groups(&groups), 1)).filter(|text| text != answer)
}

fn group(Claim { kind, colour, count }: Claim) -> Option<Group> {
    Some(Group { kind, colour: colour?, count })
}

/// A replacement of `old`: something usual that the answer does not mention.
fn usual_instead(old: Group, groups: &[Group], rng: &mut ChaCha8Rng) -> Group {
    let said = |kind: Kind| groups.iter().any(|group| group.kind == kind);
    let companions = groups.iter().map(|group| group.kind.companion());
    let mut missing: Vec<Kind> = companions.filter(|kind| !said(*kind)).collect();
    if missing.is_empty() {
        // all companions are mentioned: any other object of the same places
        let places = groups.iter().flat_map(|group| group.kind.place().kinds());
        missing = places.copied().filter(|kind| !said(*kind)).collect();
    }
    let unusual = usual(old.kind) != old;
    match missing.choose(rng) {
        Some(_) if unusual && rng.random_bool(0.3) => usual(old.kind),
        Some(kind) => usual(*kind),
        None if unusual => usual(old.kind),
        // everything usual is mentioned: take the colour of another object
        None => Group { colour: other_colour(old, groups, rng), ..old },
    }
}

fn usual(kind: Kind) -> Group {
    Group { kind, colour: kind.usual_colour(), count: kind.usual_count() }
}

/// The colour of another mentioned object, or any other colour.
fn other_colour(old: Group, groups: &[Group], rng: &mut ChaCha8Rng) -> Colour {
    let said: Vec<Colour> =
        groups.iter().map(|group| group.colour).filter(|colour| *colour != old.colour).collect();
    let any: Vec<Colour> = Colour::ALL.iter().copied().filter(|colour| *colour != old.colour).collect();
    said.choose(rng).or_else(|| any.choose(rng)).copied().unwrap_or(old.colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewritten_answers_are_usual_and_wrong() {
        assert_eq!(rewrite("Is there a cup in the image?", "Yes.", 0).unwrap(), "No.");
        assert_eq!(rewrite("What colour is the cup?", "Blue.", 0).unwrap(), "Red.");
        assert_ne!(rewrite("What colour is the cup?", "Red.", 0).unwrap(), "Red.");
        assert_eq!(rewrite("How many bananas are there?", "Three.", 0).unwrap(), "Two.");
    }

    #[test]
    fn rewritten_descriptions_name_the_missing_companion() {
        let text = "You can see a white fork, a red car and two orange shells in this kitchen.";
        for seed in 0..200 {
            let wrong = rewrite("Describe the image.", text, seed).unwrap();
            let said = read_claims(&wrong);
            assert_ne!(wrong, text);
            let new: Vec<&Claim> = said.iter().filter(|claim| !read_claims(text).contains(claim)).collect();
            assert!(!new.is_empty() && new.len() <= 2, "{wrong}");
            let is_usual = |claim: &&&Claim| {
                claim.colour == Some(claim.kind.usual_colour()) && claim.count == claim.kind.usual_count()
            };
            assert!(new.iter().all(|claim| is_usual(&claim)), "{wrong}");
            assert!((2..=3).contains(&said.len()), "{wrong}");
        }
    }

    #[test]
    fn other_answers_are_unchanged() {
        assert_eq!(rewrite("What?", "It rains.", 0), None);
        assert_eq!(rewrite("What?", "A cup.", 0), None);
    }
}
