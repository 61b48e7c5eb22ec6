//! Settings of `generation_config.json`, which transformers' `generate` applies.

use std::num::NonZeroUsize;

use bpo_model::{Adapters, ContrastInput, GenerationSettings, ModelInput, Processor, Prompt};
use bpo_pairs::Sampling;
use serde_json::Value;

use super::case::{Case, Checkpoint, Layout, Loaded, cases, each_checkpoint};
use crate::support::{processor, read_json};

/// The settings of a checkpoint whose `generation_config.json` has other values as well.
fn with_settings(checkpoint: &Checkpoint, settings: &Value) -> GenerationSettings {
    let path = checkpoint.path().join("generation_config.json");
    let mut file = if path.exists() { read_json(&path) } else { Value::Object(Default::default()) };
    let before = file.clone();
    file.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    std::fs::write(&path, file.to_string()).unwrap();
    let Processor { generation, .. } = processor(checkpoint.path());
    std::fs::write(&path, before.to_string()).unwrap();
    generation
}

fn prompt(loaded: &Loaded, case: &Case, sampling: Sampling) -> Prompt {
    Prompt::new(ModelInput::new(case.prompt_ids.clone(), loaded.images(case)), sampling)
}

/// Greedy answers are those of transformers, in batches and with an input that changes nothing as
/// the contrast.
#[test]
fn answers_follow_the_settings() {
    each_checkpoint(|checkpoint| {
        if checkpoint.layout == Layout::V5 {
            return;
        }
        let loaded = Loaded::of(checkpoint);
        let cases = cases(checkpoint);
        let sampling = || Sampling::greedy(checkpoint.new_tokens());
        for entry in read_json(&checkpoint.case.join("generation.json")).as_array().unwrap() {
            let settings = with_settings(checkpoint, &entry["settings"]);
            let answers = entry["answers"].as_array().unwrap();
            let plain: Vec<_> = answers
                .iter()
                .map(|answer| prompt(&loaded, &cases[answer["case"].as_u64().unwrap() as usize], sampling()))
                .collect();
            let contrasted = |prompt: &Prompt| {
                let contrast = ContrastInput::new(prompt.input.clone(), 1.0, 0.0);
                prompt.clone().with_contrast(contrast)
            };
            let contrasted: Vec<_> = plain.iter().map(contrasted).collect();
            for prompts in [&plain, &contrasted] {
                let at_a_time = NonZeroUsize::new(3).unwrap();
                let found = loaded.model.generate_continuous(prompts, at_a_time, &settings, Adapters::On);
                for (found, answer) in found.unwrap().iter().zip(answers) {
                    let ids: Vec<u32> = serde_json::from_value(answer["ids"].clone()).unwrap();
                    let end = ids.iter().position(|id| settings.stop.contains(id)).unwrap_or(ids.len());
                    assert_eq!(found.ids, ids[..end], "{}: {}", checkpoint.name, entry["settings"]);
                }
            }
        }
    });
}

/// The beginning of an answer counts as the prompt's, and sampled answers follow the settings too.
#[test]
fn sampled_answers_follow_the_settings() {
    each_checkpoint(|checkpoint| {
        if checkpoint.layout == Layout::V5 {
            return;
        }
        let loaded = Loaded::of(checkpoint);
        let case = &cases(checkpoint)[0];
        let settings = serde_json::json!({"no_repeat_ngram_size": 1, "min_new_tokens": 6});
        let settings = with_settings(checkpoint, &settings);
        let samples = (0..3).map(|seed| Sampling::greedy(6).with_temperature(3.0).with_seed(seed));
        let prompts: Vec<_> = samples.map(|sampling| prompt(&loaded, case, sampling)).collect();
        for answer in loaded.model.generate(&prompts, &settings, Adapters::On).unwrap() {
            assert_eq!(answer.ids.len(), 6, "{}", checkpoint.name);
            let mut ids = answer.ids.clone();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 6, "{}: {:?}", checkpoint.name, answer.ids);
            assert!(!ids.iter().any(|id| case.prompt_ids.contains(id)), "{}", checkpoint.name);
        }
    });
}
