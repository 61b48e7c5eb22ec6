//! Error injection with a real model behind a real server.
//!
//! The tests run if `BPO_TEST_LLM_URL` is the address of an OpenAI-compatible server
//! (`tools/llm_server.py` starts one).

use bpo_inject::{
    ErrorInjector, InjectionFailure, InjectionRequest, LlmInjector, LlmInjectorConfig, TextGenerator,
    TextRequest, same_text,
};
use bpo_pairs::{Generated, Sampling};
use bpo_server::{OpenAiClient, OpenAiConfig};

const SAMPLES: &[(&str, &str)] = &[
    (
        "<image>\nDescribe the image.",
        "The image is a close-up of a tabby cat's face. The cat has green eyes, a pink nose and long white whiskers.",
    ),
    ("What color are the eyes of the cat?\n<image>", "The eyes of the cat are green."),
    ("Is there a dog in the picture?", "No, there is only one cat in the picture."),
    (
        "<image>\nWhat is on the table?",
        "There is a red cup of espresso with a white inside on a red saucer. A metal spoon lies next to the cup.",
    ),
    (
        "<image>\nDescribe the image in detail.",
        "A white rocket stands upright on a launch pad in the evening. The sky is dark blue.",
    ),
    (
        "<image>\nHow many coins are in the picture?",
        "There are 24 coins in the picture, in four rows of six.",
    ),
    (
        "<image>\nWhat is the person wearing?",
        "The person wears an orange space suit and has a black helmet in front.",
    ),
    ("What is behind the person?\n<image>", "Behind the person there is a flag on the left."),
];

fn client() -> Option<OpenAiClient> {
    let Ok(url) = std::env::var("BPO_TEST_LLM_URL") else {
        println!("skipped: BPO_TEST_LLM_URL names no server");
        return None;
    };
    let config = OpenAiConfig::new(url, "default").with_max_concurrency(2).with_timeout_s(300.0);
    Some(OpenAiClient::new(config, None).unwrap())
}

#[test]
fn a_real_model_injects_errors() {
    let Some(client) = client() else { return };
    let config = LlmInjectorConfig::default().with_attempts(5).with_max_new_tokens(128);
    let mut injector = LlmInjector::new(client, config).unwrap();
    let requests: Vec<InjectionRequest> = SAMPLES
        .iter()
        .zip(7..)
        .map(|((question, answer), seed)| InjectionRequest::new(*question, *answer, seed))
        .collect();

    let results = injector.inject(&requests);

    assert_eq!(results.len(), requests.len());
    let mut accepted = 0;
    for (request, result) in requests.iter().zip(&results) {
        match result {
            Ok(injection) => {
                println!("{} -> {} (draft {})", request.answer, injection.text, injection.attempts);
                assert!(!same_text(&injection.text, &request.answer));
                accepted += 1;
            }
            Err(failure @ InjectionFailure::Skipped { .. }) => println!("{} -> {failure}", request.answer),
            Err(failure) => panic!("{failure}: {:?}", std::error::Error::source(failure)),
        }
    }
    println!("{accepted} of {} accepted; drafts rejected: {}", requests.len(), injector.rejections());
    assert!(accepted > 0, "a model that follows no prompt at all, or rules that accept nothing");
}

#[test]
fn real_server_limits_and_reports_length() {
    let Some(mut client) = client() else { return };
    let request = TextRequest {
        system: Some("You are a helpful assistant.".into()),
        prompt: "Tell a long story about a lighthouse.".into(),
        sampling: Sampling::greedy(5),
    };
    let results = client.generate(&[request.clone(), request]);
    let texts: Vec<&Generated> = results.iter().map(|result| result.as_ref().unwrap()).collect();
    assert_eq!(texts[0].finish, bpo_pairs::FinishReason::Length);
    assert_eq!(texts[0].tokens, Some(5));
    assert_eq!(texts[0].text, texts[1].text, "greedy decoding of one prompt");
}
