//! The interface of a vision-language model for the stages.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_distort::Distortion;
use bpo_pairs::{Contrast, Generated, RequestFailure, Sampling, Turn};

use crate::image_cache::LazyImage;

/// How the image is weakened before the model sees it, or where it sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Weakening {
    /// What is done to the image, or to what the model makes of it.
    pub distortion: Distortion,
    /// Seed of its randomness.
    pub seed: u64,
    /// Another image, for distortions that [need one](Distortion::needs_other).
    pub other: Option<LazyImage>,
    /// The model is asked about the clean image, too, and answers by the difference.
    pub contrast: Option<Contrast>,
}

impl Weakening {
    /// A distortion of the image alone.
    pub fn new(distortion: Distortion, seed: u64) -> Self {
        Self { distortion, seed, other: None, contrast: None }
    }
}

/// One question about one image.
#[derive(Clone, Debug)]
pub struct VisionRequest {
    /// The image before any distortion. Load it when the request is processed, and drop it before the
    /// next one: decoded images of all requests together may not fit into memory.
    pub image: LazyImage,
    /// How to weaken it; `None` asks about the clean image.
    pub weakening: Option<Weakening>,
    /// The system text before the conversation, if there is one.
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    pub history: Vec<Turn>,
    /// The question.
    pub prompt: String,
    /// The beginning of the answer, which the model continues. Empty for an answer from the start.
    pub answer_prefix: String,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

/// As many batches are asked for in one call of [`VisionLanguageModel::respond_continuous`], so that no place stays empty for long
/// while answers of other lengths are made.
pub const BATCHES_PER_CALL: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Receives the answer to one request, by the place of the request in its batch. [`ControlFlow::Break`] asks for
/// no further request. Answers that exist already, and that cost something, may still be handed out.
pub type OnAnswer<'a, E> = dyn FnMut(usize, Result<Generated, RequestFailure<E>>) -> ControlFlow<()> + 'a;

/// A model that answers questions about images.
pub trait VisionLanguageModel {
    /// What can go wrong with one request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One result per request, in order; a bad request does not fail the others. The text of an answer starts with its
    /// [prefix](VisionRequest::answer_prefix).
    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// As [`respond`](Self::respond), for more requests than are to be answered at the same time. By default they are answered in
    /// batches; a model may begin with one as soon as another has its answer.
    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, Self::Error>> {
        requests.chunks(at_a_time.get()).flat_map(|batch| self.respond(batch)).collect()
    }

    /// Hands each answer to `on_answer` as soon as it is there, in any order, each request once. By default all
    /// requests are answered by [`respond_continuous`](Self::respond_continuous) first, and the answers come in order,
    /// up to a [`ControlFlow::Break`]: the rest is answered again, with its batch.
    fn respond_each(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, Self::Error>,
    ) {
        for (place, answer) in self.respond_continuous(requests, at_a_time).into_iter().enumerate() {
            let answer = answer.map_err(|error| {
                let is_request_error = self.is_request_error(&error);
                RequestFailure { error, is_request_error }
            });
            if on_answer(place, answer).is_break() {
                return;
            }
        }
    }

    /// Whether an error lies in its request, so that asking again is useless (a prompt longer than the context).
    ///
    /// Such a sample is skipped for good. Any other error (out of memory, a server that is down) stops the stage, which
    /// can then be run again; that is the default, since it loses nothing.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }

    /// Whether the model reads [system texts](VisionRequest::system). One that does not leaves them out, and the stage warns of
    /// it. The default is true.
    fn takes_system(&self) -> bool {
        true
    }
}

impl<M: VisionLanguageModel + ?Sized> VisionLanguageModel for &mut M {
    type Error = M::Error;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, Self::Error>> {
        (**self).respond(requests)
    }

    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, Self::Error>> {
        (**self).respond_continuous(requests, at_a_time)
    }

    fn respond_each(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, Self::Error>,
    ) {
        (**self).respond_each(requests, at_a_time, on_answer);
    }

    fn is_request_error(&self, error: &Self::Error) -> bool {
        (**self).is_request_error(error)
    }

    fn takes_system(&self) -> bool {
        (**self).takes_system()
    }
}
