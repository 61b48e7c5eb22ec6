//! Image weakening: what the model says about an image it can hardly see.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bpo_distort::{DiffusionNoise, Distortion};
use bpo_inject::{Generated, Sampling};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::build::stage::{self, BatchRecords, Bootstrapped, Progress, Stage, StageRecord, StageSummary};
use crate::error::{PairsError, chain};
use crate::images::{ImageError, ImageRoot};
use crate::record::CompletionKind;
use crate::responder::{VisionLanguageModel, VisionRequest, Weakening};
use crate::seed::{item_seed, stage_seed};
use crate::set_aside::{Reason, SetAside};
use crate::sft::SftSample;
use crate::store::JsonlStore;

/// How answers for weakened images are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WeakenConfig {
    /// What is done to the images.
    pub distortion: Distortion,
    /// How answers are drawn; its seed is replaced by one per sample.
    pub sampling: Sampling,
    /// Seed of the stage.
    pub seed: u64,
    /// Samples per call of the model.
    pub batch: NonZeroUsize,
}

impl Default for WeakenConfig {
    /// The authors' script: diffusion noise at step 900, temperature 0.2, at most 1024 tokens. Batches of 8 are ours.
    fn default() -> Self {
        Self {
            distortion: DiffusionNoise { step: 900.into() }.into(),
            sampling: Sampling::default().with_temperature(0.2),
            seed: 0,
            batch: const { NonZeroUsize::new(8).unwrap() },
        }
    }
}

impl WeakenConfig {
    /// Sets what is done to the images.
    pub fn with_distortion(mut self, distortion: Distortion) -> Self {
        self.distortion = distortion;
        self
    }

    /// Sets how answers are drawn.
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Sets the seed of the stage.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of samples per call of the model.
    pub fn with_batch(mut self, batch: NonZeroUsize) -> Self {
        self.batch = batch;
        self
    }

    fn request(&self, sample: &SftSample, image: Arc<RgbImage>) -> VisionRequest {
        let seed = |use_| item_seed(stage_seed(self.seed, use_), &sample.id);
        VisionRequest {
            image,
            weakening: Some(Weakening { distortion: self.distortion.clone(), seed: seed("weaken/image") }),
            history: sample.history.clone(),
            prompt: sample.prompt.clone(),
            sampling: self.sampling.clone().with_seed(seed("weaken/answer")),
        }
    }
}

/// Asks `model` every sample's question about its weakened image, and appends the answers to `store`.
///
/// A sample whose image cannot be used, or whose question the model can never answer, is set aside in the file. Going on
/// with another `config` or model mixes their answers: that is the caller's to prevent (see
/// [`Manifest`](crate::manifest::Manifest)).
///
/// # Errors
/// If the file was made from other samples or cannot be written, the image root is gone, or the model fails in a way that is
/// not the sample's fault. The file keeps what was done, and the stage can be run again.
pub fn weaken<M: VisionLanguageModel>(
    samples: &[SftSample],
    images: &ImageRoot,
    model: &mut M,
    config: &WeakenConfig,
    store: &mut JsonlStore<StageRecord>,
    progress: &mut dyn FnMut(Progress),
) -> Result<StageSummary, PairsError> {
    let _span = tracing::info_span!("pairs.weaken", samples = samples.len()).entered();
    stage::run(Stage::Weaken, samples, config.batch, store, progress, |batch| {
        answer_batch(batch, images, model, config)
    })
}

fn answer_batch<M: VisionLanguageModel>(
    batch: &[SftSample],
    images: &ImageRoot,
    model: &mut M,
    config: &WeakenConfig,
) -> BatchRecords {
    let mut loaded = LoadedImages::default();
    let mut requests = Vec::with_capacity(batch.len());
    let mut asides = Vec::with_capacity(batch.len());
    for sample in batch {
        match loaded.load(images, sample)? {
            Ok(image) => {
                requests.push(config.request(sample, image));
                asides.push(None);
            }
            Err(aside) => asides.push(Some(aside)),
        }
    }
    let answers = if requests.is_empty() { Vec::new() } else { model.respond(&requests) };
    if answers.len() != requests.len() {
        let (requests, answers) = (requests.len(), answers.len());
        return Err(PairsError::AnswerCount { stage: Stage::Weaken.as_str(), requests, answers });
    }
    let mut answers = answers.into_iter();
    let records = batch.iter().zip(asides).map(|(sample, aside)| match aside {
        Some(aside) => Some(Ok(StageRecord::SetAside(aside))),
        None => answers.next().map(|answer| record(model, sample, answer)),
    });
    Ok(records.flatten().collect())
}

fn record<M: VisionLanguageModel>(
    model: &M,
    sample: &SftSample,
    answer: Result<Generated, M::Error>,
) -> Result<StageRecord, PairsError> {
    let id = sample.id.clone();
    match answer {
        Ok(Generated { text, finish, .. }) => Ok(StageRecord::Answered(Bootstrapped {
            id,
            kind: CompletionKind::ImageWeakened,
            response: text,
            finish: Some(finish),
        })),
        Err(error) if model.is_request_error(&error) => {
            let aside = SetAside::new(id, Reason::RequestFailed).with_detail(chain(&error));
            Ok(StageRecord::SetAside(aside))
        }
        Err(error) => Err(PairsError::Model { stage: Stage::Weaken.as_str(), id, source: Box::new(error) }),
    }
}

/// Each file of a batch is read once.
#[derive(Default)]
struct LoadedImages<'a>(HashMap<&'a str, Result<Arc<RgbImage>, ImageError>>);

impl<'a> LoadedImages<'a> {
    /// The outer error is not the image's fault.
    fn load(
        &mut self,
        images: &ImageRoot,
        sample: &'a SftSample,
    ) -> Result<Result<Arc<RgbImage>, SetAside>, PairsError> {
        let loaded = match self.0.entry(&sample.image) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match images.load(&sample.image) {
                Err(error) if error.reason().is_none() => return Err(error.into()),
                loaded => entry.insert(loaded.map(Arc::new)),
            },
        };
        Ok(match loaded {
            Ok(image) => Ok(Arc::clone(image)),
            Err(error) => {
                let reason = error.reason().unwrap_or(Reason::ImageUnreadable);
                Err(SetAside::new(&sample.id, reason).with_detail(chain(error)))
            }
        })
    }
}
