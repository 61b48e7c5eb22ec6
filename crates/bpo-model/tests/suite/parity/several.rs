//! Prompts with several images, with one and with none, in one batch.

use std::num::NonZeroUsize;

use super::image;
use crate::support::{Golden, device, floats, processor, read_json, root};
use bpo_model::{
    Adapters, GenerationSettings, ImageInput, ImageLayout, LoadOptions, ModelInput, Prompt, ScoreBatch,
    TokenizedCompletion, Vlm,
};
use bpo_pairs::Sampling;
use burn::tensor::activation::log_softmax;
use serde_json::Value;

/// A prompt of the golden file.
struct Case {
    images: Vec<usize>,
    text: String,
    prompt: Vec<u32>,
    answers: Vec<Vec<u32>>,
    logps: Vec<f64>,
    greedy: Vec<u32>,
}

fn cases() -> Vec<Case> {
    let numbers = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let list = read_json(&root().join("several_images.json"));
    let case = |case: &Value| Case {
        images: numbers(&case["images"]).into_iter().map(|image| image as usize).collect(),
        text: case["prompt"].as_str().unwrap().to_owned(),
        prompt: numbers(&case["prompt_ids"]),
        answers: case["answers"].as_array().unwrap().iter().map(numbers).collect(),
        logps: serde_json::from_value(case["logps"].clone()).unwrap(),
        greedy: numbers(&case["greedy_ids"]),
    };
    list.as_array().unwrap().iter().map(case).collect()
}

struct Fixture {
    model: Vlm,
    images: Vec<ImageInput>,
}

impl Fixture {
    fn new() -> Self {
        let golden = Golden::open();
        let model = Vlm::from_pretrained(&golden.checkpoint(), &LoadOptions::default(), &device()).unwrap();
        let images = (0..golden.prompts()).map(|i| image(&golden, &model, "clean", i)).collect();
        Self { model, images }
    }

    fn images(&self, case: &Case) -> Vec<ImageInput> {
        case.images.iter().map(|image| self.images[*image].clone()).collect()
    }
}

#[test]
fn each_image_has_its_placeholder() {
    let Fixture { images, .. } = Fixture::new();
    let processor = processor(&Golden::open().checkpoint());
    for case in cases() {
        let layouts: Vec<&ImageLayout> = case.images.iter().map(|image| &images[*image].layout).collect();
        assert_eq!(processor.text.encode_prompt(&case.text, &layouts).unwrap(), case.prompt, "{}", case.text);
    }
}

#[test]
fn log_probs_are_those_of_transformers() {
    let fixture = Fixture::new();
    let model = &fixture.model;
    let cases = cases();
    let groups: Vec<_> = cases
        .iter()
        .map(|case| {
            let start = case.prompt.len();
            let answers = case.answers.iter().map(|ids| TokenizedCompletion::new(ids.clone(), start));
            (case.images.clone(), answers.collect::<Vec<_>>())
        })
        .collect();
    let batch = ScoreBatch::new(model.config(), fixture.images.clone(), &groups).unwrap();
    let (logps, _) = model.completion_logps(&batch, Adapters::On).unwrap();
    let sums = floats(logps.sum_dim(1));
    let expected = cases.iter().flat_map(|case| &case.logps);
    for (row, (found, expected)) in sums.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 1e-3, "{row}: {found} and {expected}");
    }
    // the plain forward pass
    for case in &cases {
        for (ids, expected) in case.answers.iter().zip(&case.logps) {
            let logits = model.logits(ids, &fixture.images(case), Adapters::On).unwrap();
            let [_, vocab] = logits.dims();
            let logps = floats(log_softmax(logits, 1));
            let found: f64 = (case.prompt.len()..ids.len())
                .map(|at| f64::from(logps[(at - 1) * vocab + ids[at] as usize]))
                .sum();
            assert!((found - expected).abs() < 1e-3, "{}: {found} and {expected}", case.text);
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let fixture = Fixture::new();
    let cases = cases();
    let prompt = |case: &Case| {
        let input = ModelInput::new(case.prompt.clone(), fixture.images(case));
        Prompt::new(input, Sampling::greedy(case.greedy.len()))
    };
    let prompts: Vec<_> = cases.iter().map(prompt).collect();
    for at_a_time in [1, 2, 4] {
        let at_a_time = NonZeroUsize::new(at_a_time).unwrap();
        let answers = fixture
            .model
            .generate_continuous(&prompts, at_a_time, &GenerationSettings::default(), Adapters::On)
            .unwrap();
        for (case, answer) in cases.iter().zip(answers) {
            assert_eq!(answer.ids, case.greedy, "{}, {at_a_time} at a time", case.text);
        }
    }
}

/// Hidden tokens and noise belong to one image of several.
#[test]
fn only_the_weakened_image_is_weakened() {
    let fixture = Fixture::new();
    let case = cases().into_iter().find(|case| case.images == [0, 1]).unwrap();
    // many draws at a high temperature, so that small differences change an answer
    let answers = |images: Vec<ImageInput>| {
        let prompt = |seed| {
            let sampling = Sampling::greedy(48).with_temperature(2.0).with_seed(seed);
            Prompt::new(ModelInput::new(case.prompt.clone(), images.clone()), sampling)
        };
        let prompts: Vec<_> = (0..8).map(prompt).collect();
        fixture.model.generate(&prompts, &GenerationSettings::default(), Adapters::On).unwrap()
    };
    let hidden = |which: usize, images: [usize; 2]| {
        let mut images = images.map(|image| fixture.images[image].clone()).to_vec();
        images[which].hidden = (0..images[which].tokens()).collect();
        answers(images)
    };
    // what is hidden makes no difference, and what is not does
    assert_eq!(hidden(1, [0, 0]), hidden(1, [0, 1]));
    assert_eq!(hidden(0, [0, 1]), hidden(0, [1, 1]));
    assert_ne!(hidden(1, [0, 1]), hidden(1, [1, 1]));
    assert_ne!(hidden(0, [0, 1]), hidden(0, [0, 0]));
    // the order of images counts
    assert_ne!(answers(fixture.images.clone()), answers(fixture.images.iter().rev().cloned().collect()));
}
