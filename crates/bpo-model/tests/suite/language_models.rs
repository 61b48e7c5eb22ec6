//! Language models without images against transformers, on every case in `tests/language_models`.
//!
//! `tools/golden/families/language_models.py` makes the cases and describes their files.
//! `BPO_LANGUAGE_MODELS` names another directory of cases, so that other seeds can be checked.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bpo_model::{
    Adapters, ImageInput, ImageQuestion, LoadOptions, ModelError, ModelInput, Processor, ProcessorError,
    Prompt, ScoreBatch, TokenizedCompletion, Vlm, VlmConfig, VlmResponder,
};
use bpo_pairs::{Sampling, Turn};
use burn::tensor::activation::log_softmax;
use image::RgbImage;
use serde_json::Value;

use crate::support::{device, floats, read_json};

/// Tolerance of summed log-probabilities, in nats.
const NATS: f64 = 1e-3;

struct Checkpoint {
    dir: PathBuf,
    model: Vlm,
    processor: Processor,
    cases: Vec<Value>,
}

fn load(dir: &Path) -> (Vlm, Processor) {
    let model = Vlm::from_pretrained_for_text(dir, &LoadOptions::default(), &device()).unwrap();
    let processor = Processor::from_dir(dir, model.config()).unwrap();
    model.config().check_processor(&processor).unwrap();
    (model, processor)
}

/// Runs a check on each checkpoint.
fn each(check: impl Fn(&Checkpoint)) {
    let root = std::env::var_os("BPO_LANGUAGE_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language_models"), PathBuf::from);
    let mut dirs: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.retain(|dir| dir.join("golden.json").is_file());
    dirs.sort();
    assert!(!dirs.is_empty(), "no case in {}", root.display());
    for dir in dirs {
        let (model, processor) = load(&dir);
        let cases = read_json(&dir.join("golden.json"))["cases"].as_array().unwrap().clone();
        check(&Checkpoint { dir, model, processor, cases });
    }
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn history(case: &Value) -> Vec<Turn> {
    let turns = case["history"].as_array().into_iter().flatten();
    turns.map(|turn| Turn::new(text(&turn[0]), text(&turn[1]))).collect()
}

fn sums(model: &Vlm, groups: &[(Vec<usize>, Vec<TokenizedCompletion>)]) -> Vec<f64> {
    let batch = ScoreBatch::new(model.config(), Vec::new(), groups).unwrap();
    let (logps, _) = model.completion_logps(&batch, Adapters::On).unwrap();
    let [_, tokens] = logps.dims();
    floats(logps).chunks(tokens).map(|row| row.iter().map(|logp| f64::from(*logp)).sum()).collect()
}

#[test]
fn ids_and_log_probs_are_those_of_transformers() {
    each(|Checkpoint { dir, model, processor, cases }| {
        let (mut groups, mut expected) = (Vec::new(), Vec::new());
        for case in cases {
            let (system, prompt) = (case["system"].as_str(), text(&case["prompt"]));
            let found = processor.prompt_ids(system, &history(case), prompt, &[]).unwrap();
            assert_eq!(found, ids(&case["prompt_ids"]), "{}: {prompt}", dir.display());
            let mut completions = Vec::new();
            for answer in case["answers"].as_array().unwrap() {
                let encoded = processor
                    .encode_completion(system, &history(case), prompt, text(&answer["text"]), &[])
                    .unwrap();
                assert_eq!((&encoded.ids, encoded.answer_start), (&ids(&answer["ids"]), found.len()));
                let logits = model.logits(&encoded.ids, &[], Adapters::On).unwrap();
                let [_, vocab] = logits.dims();
                let logps = floats(log_softmax(logits, 1));
                let logp = |at: usize| f64::from(logps[(at - 1) * vocab + encoded.ids[at] as usize]);
                let plain: f64 = (found.len()..encoded.ids.len()).map(logp).sum();
                expected.push(answer["logp"].as_f64().unwrap());
                let off = (plain - expected[expected.len() - 1]).abs();
                assert!(off < NATS, "{}: {prompt}: off by {off}", dir.display());
                completions.push(encoded);
            }
            groups.push((Vec::new(), completions));
        }
        for (found, expected) in sums(model, &groups).iter().zip(&expected) {
            assert!((found - expected).abs() < NATS, "{}: {found}, {expected}", dir.display());
        }
    });
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    each(|Checkpoint { dir, model, processor, cases }| {
        let settings = &processor.generation;
        let most = cases.iter().map(|case| case["greedy_ids"].as_array().unwrap().len()).max().unwrap();
        let prompts: Vec<_> = cases
            .iter()
            .map(|case| {
                Prompt::new(ModelInput::new(ids(&case["prompt_ids"]), Vec::new()), Sampling::greedy(most))
            })
            .collect();
        for at_a_time in [1, cases.len()] {
            let at_a_time = NonZeroUsize::new(at_a_time).unwrap();
            let answers = model.generate_continuous(&prompts, at_a_time, settings, Adapters::On).unwrap();
            for (case, answer) in cases.iter().zip(answers) {
                let greedy = ids(&case["greedy_ids"]);
                let end = greedy.iter().position(|id| settings.stop.contains(id)).unwrap_or(greedy.len());
                assert_eq!(answer.ids, greedy[..end], "{}: {}", dir.display(), case["prompt"]);
                let decoded = processor.text.decode(&answer.ids, true).unwrap();
                assert_eq!(decoded, text(&case["greedy_text"]), "{}", dir.display());
            }
        }
    });
}

fn question<'a>(prompt: &'a str, images: Vec<&'a RgbImage>, sampling: &'a Sampling) -> ImageQuestion<'a> {
    ImageQuestion {
        images,
        frames: Vec::new(),
        weakened: None,
        system: None,
        history: &[],
        prompt,
        answer_prefix: "",
        sampling,
    }
}

/// A question with an image has an error of its own beside those without.
#[test]
fn images_are_refused() {
    let (image, sampling) = (RgbImage::new(4, 4), Sampling::greedy(3));
    each(|Checkpoint { dir, model, processor, .. }| {
        assert!(model.config().image_token().is_none() && model.vision_tower.is_none());
        assert!(matches!(processor.image.process(&image), Err(ProcessorError::NoImages)));
        assert!(matches!(processor.image.layout(4, 4), Err(ProcessorError::NoImages)));
        let mut responder = VlmResponder::new(model.clone(), processor.clone());
        let questions =
            [question("What?", vec![&image], &sampling), question("What?", Vec::new(), &sampling)];
        let answers = responder.answer(&questions);
        let error = answers[0].as_ref().unwrap_err();
        assert!(error.is_of_request() && error.to_string().contains("no images"), "{error}");
        assert!(answers[1].is_ok(), "{}", dir.display());
        let other = ImageInput::new(Vec::new(), bpo_model::ImageLayout::plain(0, 1));
        assert!(matches!(
            model.config().check_input(&[], &[other]),
            Err(ModelError::Processor(ProcessorError::NoImages))
        ));
    });
}

/// Where a vision-language model is needed, the error says what a language model is for.
#[test]
fn a_language_model_is_no_vision_language_model() {
    each(|Checkpoint { dir, .. }| {
        let error = Vlm::from_pretrained(dir, &LoadOptions::default(), &device()).unwrap_err();
        assert!(matches!(error, ModelError::Family { .. }), "{error}");
        assert!(error.to_string().contains("`inject.model` (--inject-model)"), "{error}");
    });
}

/// A vision-language model answers texts as it does otherwise.
#[test]
fn a_vision_language_model_is_a_language_model() {
    let dir = crate::support::root().join("tiny-llava");
    let sampling = Sampling::greedy(5);
    let (model, processor) = load(&dir);
    let text = VlmResponder::new(model, processor).answer(&[question("What is it?", Vec::new(), &sampling)]);
    let model = Vlm::from_pretrained(&dir, &LoadOptions::default(), &device()).unwrap();
    let processor = Processor::from_dir(&dir, model.config()).unwrap();
    let vlm = VlmResponder::new(model, processor).answer(&[question("What is it?", Vec::new(), &sampling)]);
    assert_eq!(text[0].as_ref().unwrap(), vlm[0].as_ref().unwrap());
}

/// Changes JSON files of a copy of the first checkpoint, and returns the error of loading it.
fn refused(change: impl Fn(&Path)) -> String {
    let mut first = None;
    let cell = std::cell::RefCell::new(&mut first);
    each(|Checkpoint { dir, .. }| {
        cell.borrow_mut().get_or_insert_with(|| dir.clone());
    });
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(first.unwrap()).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    change(copy.path());
    let model = Vlm::from_pretrained_for_text(copy.path(), &LoadOptions::default(), &device());
    model
        .and_then(|model| Ok(Processor::from_dir(copy.path(), model.config()).map(|_| ())?))
        .map_or_else(|error| error.to_string(), |()| "loaded".to_owned())
}

#[test]
fn what_cannot_be_computed_is_refused_by_key() {
    let set = |file: &'static str, pointer: &'static str, value: Value| {
        move |dir: &Path| {
            let path = dir.join(file);
            let mut json = read_json(&path);
            match json.pointer_mut(pointer) {
                Some(there) => *there = value.clone(),
                None => json[&pointer[1..]] = value.clone(),
            }
            std::fs::write(path, json.to_string()).unwrap();
        }
    };
    assert_eq!(refused(|_| ()), "loaded");
    for (file, pointer, value, named) in [
        ("config.json", "/rope_scaling/rope_type", "yarn".into(), "rope_scaling.rope_type"),
        ("config.json", "/num_key_value_heads", 3.into(), "num_key_value_heads"),
        ("config.json", "/model_type", "gemma2".into(), "Gemma 2"),
        ("config.json", "/quantization_config", serde_json::json!({"quant_method": "gptq"}), "gptq"),
        ("config.json", "/num_hidden_layers", 4.into(), "model.layers.3.self_attn.q_proj.weight"),
        ("tokenizer_config.json", "/chat_template", Value::Null, "no chat template"),
    ] {
        let error = refused(set(file, pointer, value));
        assert!(error.contains(named), "{pointer}: {error}");
    }
    assert!(VlmConfig::from_dir_for_text(Path::new("no-such-directory")).is_err());
}
