//! A model of `bpo-model` as a [`VisionLanguageModel`] of the stages.

use std::num::NonZeroUsize;

use bpo_model::{ImageQuestion, ModelError, PreparedQuestion, VlmResponder, WeakenedImage};
use bpo_pairs::{Generated, RequestFailure};
use image::RgbImage;

use crate::image_cache::LazyImage;
use crate::images::ImageError;
use crate::vision::{OnAnswer, VisionLanguageModel, VisionRequest, Weakening};

/// Errors of a model with image files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponderError {
    /// An image of a request cannot be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The model cannot answer the request.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ResponderError {
    /// Returns whether the error lies in a request, so that repeating the request is useless.
    pub fn is_of_request(&self) -> bool {
        match self {
            Self::Image(error) => error.reason().is_some(),
            Self::Model(error) => error.is_of_request(),
        }
    }
}

impl VisionLanguageModel for VlmResponder {
    type Error = ResponderError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ResponderError>> {
        let at_a_time = NonZeroUsize::new(requests.len()).unwrap_or(NonZeroUsize::MIN);
        self.respond_continuous(requests, at_a_time)
    }

    /// Images are loaded, distorted and preprocessed one after the other.
    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, ResponderError>> {
        let prepared = requests.iter().map(|request| prepare(self, request)).collect();
        self.answer_prepared(prepared, at_a_time)
    }

    /// Passes each answer on when it ends.
    fn respond_each(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, ResponderError>,
    ) {
        let responder = &*self;
        let prepared = requests.iter().map(|request| prepare(responder, request)).collect();
        responder.answer_each(prepared, at_a_time, &mut |place, answer| {
            let failure = |error: ResponderError| {
                let is_request_error = error.is_of_request();
                RequestFailure { error, is_request_error }
            };
            on_answer(place, answer.map_err(failure))
        });
    }

    fn is_request_error(&self, error: &ResponderError) -> bool {
        error.is_of_request()
    }

    fn takes_system(&self) -> bool {
        VlmResponder::takes_system(self)
    }
}

/// Prepares the pixels of a request. Decoded images are dropped on return.
fn prepare(responder: &VlmResponder, request: &VisionRequest) -> Result<PreparedQuestion, ResponderError> {
    let images = LazyImage::load_all(&request.images)?;
    let other = request.weakening.as_ref().and_then(|weakening| weakening.other.as_ref());
    let other = other.map(|other| other.load()).transpose()?;
    let question = ImageQuestion {
        images: images.iter().map(AsRef::as_ref).collect(),
        frames: request.images.iter().map(LazyImage::is_frame).collect(),
        weakened: request.weakening.as_ref().map(|weakening| weakened(weakening, other.as_deref())),
        system: request.system.as_deref(),
        history: &request.history,
        prompt: &request.prompt,
        answer_prefix: &request.answer_prefix,
        sampling: &request.sampling,
    };
    Ok(responder.prepare(&question)?)
}

fn weakened<'a>(weakening: &'a Weakening, other: Option<&'a RgbImage>) -> WeakenedImage<'a> {
    let Weakening { distortion, seed, contrast, .. } = weakening;
    WeakenedImage { distortion, seed: *seed, other, contrast: *contrast }
}
