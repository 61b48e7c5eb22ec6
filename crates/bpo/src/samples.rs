//! Answers of the policy while it is trained: `samples.jsonl`.

use std::path::PathBuf;

use crate::image_cache::ImageCache;
use crate::images::ImageRoot;
use crate::vision::{VisionLanguageModel, VisionRequest};
use bpo_dpo::{Logged, MetricsLog, Source};
use bpo_model::Processor;
use bpo_model::Vlm;
use bpo_model::VlmResponder;
use bpo_pairs::{PreferencePair, Sampling};
use serde::{Deserialize, Serialize};

/// Questions that are asked again and again (a choice of ours).
const QUESTIONS: usize = 4;
/// Longest answer in tokens (a choice of ours).
const MAX_NEW_TOKENS: usize = 128;

/// What the policy answers after some steps: a line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `step`, `image`, `prompt`, `answer` and `chosen`")]
#[non_exhaustive]
pub struct Sample {
    /// Optimizer steps before it.
    pub step: usize,
    /// Path of the image, relative to the image root.
    pub image: String,
    /// The question.
    pub prompt: String,
    /// The policy's answer; the likeliest token each time.
    pub answer: String,
    /// The answer that it is trained to prefer.
    pub chosen: String,
}

impl Logged for Sample {
    fn step(&self) -> usize {
        self.step
    }
}

/// Asks the first questions of `pairs` and appends the answers to `file`. What cannot be asked, for its image or its length,
/// is left out: training skips such pairs and reports it.
pub(crate) fn sampler(
    processor: Processor,
    images: &ImageRoot,
    pairs: &[PreferencePair],
    file: PathBuf,
) -> impl FnMut(&Vlm, usize) -> Result<(), Source> + 'static {
    let cache = ImageCache::new(images.clone());
    let mut asked: Vec<(PreferencePair, VisionRequest)> = Vec::new();
    for pair in pairs {
        let same = |known: &PreferencePair| {
            (&known.image, &known.system, &known.prompt) == (&pair.image, &pair.system, &pair.prompt)
        };
        if asked.iter().any(|(known, _)| same(known)) {
            continue;
        }
        let image = cache.image(&pair.image);
        if image.load().is_err() {
            continue;
        }
        let request = VisionRequest {
            image,
            weakening: None,
            system: pair.system.clone(),
            history: pair.history.clone(),
            prompt: pair.prompt.clone(),
            answer_prefix: String::new(),
            sampling: Sampling::greedy(MAX_NEW_TOKENS),
        };
        asked.push((pair.clone(), request));
        if asked.len() == QUESTIONS {
            break;
        }
    }
    let mut log = None;
    move |policy, step| {
        let log = match &mut log {
            Some(log) => log,
            // what is there from this step on is of a process that was killed before it wrote a checkpoint
            None => log.insert(MetricsLog::open(&file, step.saturating_sub(1))?),
        };
        let requests: Vec<VisionRequest> = asked.iter().map(|(_, request)| request.clone()).collect();
        let mut model = VlmResponder::new(policy.clone(), processor.clone());
        for ((pair, _), answer) in asked.iter().zip(model.respond(&requests)) {
            let answer = match answer {
                Ok(answer) => answer.text,
                Err(error) if VisionLanguageModel::is_request_error(&model, &error) => continue,
                Err(error) => return Err(error.into()),
            };
            let PreferencePair { image, prompt, chosen, .. } = pair.clone();
            log.append(&Sample { step, image, prompt, answer, chosen })?;
        }
        Ok(())
    }
}
