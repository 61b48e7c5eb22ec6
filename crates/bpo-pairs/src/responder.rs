//! What the building of records asks of a vision-language model.

use std::sync::Arc;

use bpo_distort::Distortion;
use bpo_inject::{Generated, Sampling};
use image::RgbImage;

use crate::sft::Turn;

/// How the image is weakened before the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Weakening {
    /// What is done to the image.
    pub distortion: Distortion,
    /// Seed of its randomness.
    pub seed: u64,
}

/// One question about one image.
#[derive(Clone, Debug)]
pub struct VisionRequest {
    /// The picture as it was read, before any weakening; shared by requests about the same file.
    pub image: Arc<RgbImage>,
    /// How to weaken it; `None` asks about the clean image.
    pub weakening: Option<Weakening>,
    /// Annotated turns before the prompt, oldest first.
    pub history: Vec<Turn>,
    /// The question.
    pub prompt: String,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

/// A model that answers questions about images.
pub trait VisionLanguageModel {
    /// What can go wrong with one request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One result per request, in order; a bad request does not fail the others.
    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Whether an error lies in its request, so that asking again is useless (a prompt longer than the context).
    ///
    /// Such a sample is set aside for good. Any other error (out of memory, a server that is down) stops the stage, which
    /// can then be run again; that is the default, since it loses nothing.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }
}

impl<M: VisionLanguageModel + ?Sized> VisionLanguageModel for &mut M {
    type Error = M::Error;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, Self::Error>> {
        (**self).respond(requests)
    }

    fn is_request_error(&self, error: &Self::Error) -> bool {
        (**self).is_request_error(error)
    }
}
