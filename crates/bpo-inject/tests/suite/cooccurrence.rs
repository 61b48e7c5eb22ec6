//! The co-occurrence injector on answers of real photographs and on any text at all.

use bpo_inject::{
    CoOccurrence, ErrorInjector, ErrorKind, InjectionRequest, LlmInjectorConfig, PromptForm, Rejection,
    Templates, same_text,
};
use proptest::prelude::*;

const SAMPLES: &[(&str, &str)] = &[
    (
        "<image>\nDescribe the image.",
        "The image is a close-up of a tabby cat's face. The cat has green eyes, a pink nose and long white whiskers, \
         and it looks to the right. The background is blurred.",
    ),
    ("What color are the eyes of the cat?\n<image>", "The eyes of the cat are green."),
    ("Is there a dog in the picture?", "No, there is only one cat in the picture."),
    (
        "<image>\nWhat is on the table?",
        "There is a red cup of espresso with a white inside on a red saucer. A metal spoon lies on the saucer next to \
         the cup. The table is made of brown wood.",
    ),
    (
        "<image>\nDescribe the image in detail.",
        "A white rocket stands upright on a launch pad in the evening. The sky is dark blue. Four tall towers stand \
         around the rocket, and bright lamps light the ground at its base.",
    ),
    (
        "<image>\nHow many coins are in the picture?",
        "There are 24 coins in the picture, in four rows of six.",
    ),
    (
        "<image>\nWhat is the person wearing, and what is behind the person?",
        "The person wears an orange space suit and has a black helmet in front. Behind the person there is a flag on \
         the left and a model of a space shuttle on the right.",
    ),
];

fn injector() -> CoOccurrence {
    CoOccurrence::from_corpus(SAMPLES.iter().map(|(_, answer)| answer))
}

fn inject(injector: &mut CoOccurrence, question: &str, answer: &str, seed: u64) -> Result<String, Rejection> {
    let result = injector.inject(&[InjectionRequest::new(question, answer, seed)]).remove(0);
    result
        .map(|injection| injection.text)
        .map_err(|failure| failure.rejection().expect("no server is involved"))
}

#[test]
fn corpus_of_six_answers_changes_each_of_them() {
    let mut injector = injector();
    for (question, answer) in SAMPLES {
        let mut texts: Vec<String> =
            (0..20).map(|seed| inject(&mut injector, question, answer, seed).unwrap()).collect();
        for text in &texts {
            println!("{text}");
            assert!(!same_text(text, answer), "{text}");
            assert_eq!(text.ends_with('.'), answer.ends_with('.'), "{text}");
            assert!(text.starts_with(char::is_uppercase), "{text}");
            for wrong in [" a a", " a e", " a i", " a o", " an b", " an c", " an t"] {
                assert!(!text.contains(wrong), "{wrong:?} in {text}");
            }
        }
        texts.sort();
        texts.dedup();
        assert!(texts.len() > 3 || answer.starts_with("No"), "{} different texts for {answer}", texts.len());
    }
}

#[test]
fn edit_changes_few_words_and_keeps_their_number() {
    let mut injector = injector().with_max_edits(1);
    for seed in 0..50 {
        let answer = SAMPLES[1].1;
        let text = inject(&mut injector, SAMPLES[1].0, answer, seed).unwrap();
        let changed = text.split(' ').zip(answer.split(' ')).filter(|(a, b)| a != b).count();
        assert_eq!((text.split(' ').count(), changed), (7, 1), "{text}");
    }
}

#[test]
fn inserted_words_are_common_in_the_data() {
    let table = |thing| format!("A {thing} lies on the table.");
    let mut answers: Vec<String> = (0..50).map(|_| table("fork")).collect();
    answers.extend(["A spoon lies on the table.".into(), "A cloud hangs over the sea.".into()]);
    answers.push("A boat crosses the harbor.".into());
    let mut injector = CoOccurrence::from_corpus(&answers);
    let forks = (0..100)
        .filter(|&seed| {
            inject(&mut injector, "What is there?", &table("spoon"), seed).unwrap().contains("fork")
        })
        .count();
    let boats = (0..100)
        .filter(|&seed| {
            inject(&mut injector, "What is there?", &table("spoon"), seed).unwrap().contains("boat")
        })
        .count();
    assert!(forks > 5 * boats.max(1), "{forks} forks, {boats} boats");
}

#[test]
fn answers_without_replaceable_words_are_skipped() {
    let mut empty = CoOccurrence::from_corpus(Vec::<String>::new());
    for answer in ["", "  ", "???", "It is.", "The capital of France is Paris."] {
        assert_eq!(inject(&mut empty, "What?", answer, 0), Err(Rejection::NothingToChange), "{answer}");
    }
    assert!(inject(&mut empty, "What color?", "Red", 0).is_ok());
    assert!(inject(&mut empty, "How many?", "3", 0).is_ok());
}

#[test]
fn result_does_not_depend_on_the_batch() {
    let mut injector = injector();
    let requests: Vec<InjectionRequest> = SAMPLES
        .iter()
        .zip(0..)
        .map(|((question, answer), seed)| InjectionRequest::new(*question, *answer, seed))
        .collect();
    let batch: Vec<String> =
        injector.inject(&requests).into_iter().map(|result| result.unwrap().text).collect();
    for (request, text) in requests.iter().zip(&batch) {
        assert_eq!(&inject(&mut injector, &request.question, &request.answer, request.seed).unwrap(), text);
    }
    // A second count of the same data has other hash seeds.
    assert_eq!(inject(&mut self::injector(), SAMPLES[0].0, SAMPLES[0].1, 0).as_ref(), Ok(&batch[0]));
}

/// Words that take every path, and anything else.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => proptest::sample::select(vec![
            "a", "an", "the", "red", "orange", "cat", "cups", "two", "24", "3.5", "left", "right", "man", "her", "is",
            "Yes", "no,", "not", "isn't", "any", "close-up", "Paris", "it's", "first", "0", "1",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(word, 0..25).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_text_is_changed_or_skipped(corpus in prop::collection::vec(text(), 0..6), question in text(), answer in text(), seed: u64) {
        let mut injector = CoOccurrence::from_corpus(&corpus);
        let result = inject(&mut injector, &question, &answer, seed);
        match &result {
            Ok(text) => prop_assert!(!same_text(text, &answer)),
            Err(reason) => prop_assert_eq!(*reason, Rejection::NothingToChange),
        }
        prop_assert_eq!(inject(&mut CoOccurrence::from_corpus(&corpus), &question, &answer, seed), result);
    }

    #[test]
    fn every_question_has_a_form_and_a_prompt(question: String, answer: String) {
        let templates = Templates::new(&LlmInjectorConfig::default().templates).unwrap();
        for kind in ErrorKind::ALL {
            let prompt = templates.render(kind, &question, &answer).unwrap();
            prop_assert!(prompt.contains(answer.trim()));
        }
        prop_assert_eq!(templates.form(&question), PromptForm::of(&question));
    }
}
