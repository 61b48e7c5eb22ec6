//! Answers of the policy during training: `samples.jsonl`.

use std::path::PathBuf;

use crate::image_cache::ImageCache;
use crate::image_cache::LazyImage;
use crate::images::ImageRoot;
use crate::vision::{VisionLanguageModel, VisionRequest};
use bpo_dpo::{LogRecord, MetricsLog, Source};
use bpo_model::{Processor, Vlm, VlmResponder};
use bpo_pairs::{PreferencePair, Sampling};
use serde::{Deserialize, Serialize};

/// Number of questions (ours).
const QUESTIONS: usize = 4;
/// Maximum length of an answer, in tokens (ours).
const MAX_NEW_TOKENS: usize = 128;

/// An answer of the policy during training: a line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `step`, `images`, `prompt`, `answer` and `chosen`")]
#[non_exhaustive]
pub struct Sample {
    /// Number of optimizer steps before the answer.
    pub step: usize,
    /// Paths of the images, relative to the image root.
    pub images: Vec<String>,
    /// The question.
    pub prompt: String,
    /// The policy's answer, decoded greedily.
    pub answer: String,
    /// The chosen answer of the pair.
    pub chosen: String,
}

impl LogRecord for Sample {
    fn step(&self) -> usize {
        self.step
    }
}

/// Returns a function that asks the policy the first distinct questions of `pairs` and appends the
/// answers to `file`.
///
/// Questions with an image that cannot be loaded, or that the model cannot answer, are left out without a
/// warning, because training reports such pairs as skipped.
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
            (&known.images, &known.system, &known.prompt) == (&pair.images, &pair.system, &pair.prompt)
        };
        if asked.iter().any(|(known, _)| same(known)) {
            continue;
        }
        let images: Vec<_> = pair.images.iter().map(|name| cache.image(name)).collect();
        if LazyImage::load_all(&images).is_err() {
            continue;
        }
        let request = VisionRequest {
            images,
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
            // samples from this step on were written by a process that was killed before its
            // checkpoint
            None => log.insert(MetricsLog::open(&file, step.saturating_sub(1))?),
        };
        let requests: Vec<VisionRequest> = asked.iter().map(|(_, request)| request.clone()).collect();
        let mut model = VlmResponder::new(policy.clone(), processor.clone());
        for ((pair, _), answer) in asked.iter().zip(model.respond(&requests)) {
            let answer = match answer {
                Ok(answer) => answer.text,
                Err(error) if error.is_of_request() => continue,
                Err(error) => return Err(error.into()),
            };
            let PreferencePair { images, prompt, chosen, .. } = pair.clone();
            log.append(&Sample { step, images, prompt, answer, chosen })?;
        }
        Ok(())
    }
}
