//! The interface of vision-language models for the stages.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_distort::Distortion;
use bpo_pairs::{
    Contrast, Generated, History, RequestFailure, RequestQueue, Sampling, UsageMeter, answer_in_batches,
};

use crate::image_cache::LazyImage;

/// How the images, or what the model computes from them, are weakened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Weakening {
    /// Distortion of each image, or of the features that the model computes from it.
    pub distortion: Distortion,
    /// Seed of the distortion of the first image. The seeds of further images are derived from it.
    pub seed: u64,
    /// The second image, for distortions that [need one](Distortion::needs_other).
    pub other: Option<LazyImage>,
    /// Contrastive decoding with the clean images.
    pub contrast: Option<Contrast>,
}

impl Weakening {
    /// Creates a weakening by a distortion that needs no other image.
    pub fn new(distortion: Distortion, seed: u64) -> Self {
        Self { distortion, seed, other: None, contrast: None }
    }
}

/// A question about any number of images.
#[derive(Clone, Debug)]
pub struct VisionRequest {
    /// The images before any distortion, in the order of the conversation. Empty for a text without
    /// an image.
    ///
    /// Load them when the request is processed, and drop them before the next request, because the
    /// decoded images of all requests may not fit into memory.
    pub images: Vec<LazyImage>,
    /// How to weaken the images; `None` asks about the clean images.
    pub weakening: Option<Weakening>,
    /// System prompt, if there is one.
    pub system: Option<String>,
    /// Turns before the prompt, oldest first.
    pub history: History,
    /// The question.
    pub prompt: String,
    /// Start of the answer, which the model continues; empty for none.
    pub answer_prefix: String,
    /// Sampling parameters.
    pub sampling: Sampling,
}

/// Number of batches in one call of [`VisionLanguageModel::respond_continuous`]. Several batches
/// keep the device busy although answers have different lengths.
pub const BATCHES_PER_CALL: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Callback for the answer to one request, which it identifies by its index.
///
/// [`ControlFlow::Break`] asks the model to start no further requests. Answers that exist already
/// may still be passed on.
pub type OnAnswer<'a, E> = dyn FnMut(usize, Result<Generated, RequestFailure<E>>) -> ControlFlow<()> + 'a;

/// The requests for a model, one after another, and the receiver of their answers.
pub type VisionQueue<'a, E> = dyn RequestQueue<VisionRequest, Result<Generated, RequestFailure<E>>> + 'a;

/// A model that answers questions about images.
///
/// [`stages::weaken`](crate::stages::weaken) and [`generate`](crate::generate()) take any
/// implementation, such as this one, which describes how bright an image is:
///
/// ```
/// use bpo::pairs::{FinishReason, Generated};
/// use bpo::{ImageError, VisionLanguageModel, VisionRequest};
///
/// struct Brightness;
///
/// fn answer(request: &VisionRequest) -> Result<Generated, ImageError> {
///     let mut image = request.images[0].load()?.as_ref().clone();
///     if let Some(weakening) = &request.weakening {
///         let weakened = weakening.distortion.apply(&image, weakening.seed);
///         image = weakened.map_err(|source| ImageError::Load { name: "weakened".into(), source })?;
///     }
///     let bright = image.as_raw().iter().filter(|&&level| level > 127).count();
///     let share = 100 * bright / image.as_raw().len();
///     // an answer includes its prefix
///     let text = format!("{}Bright levels: {share} %.", request.answer_prefix);
///     Ok(Generated { text, finish: FinishReason::Stop, tokens: None })
/// }
///
/// impl VisionLanguageModel for Brightness {
///     type Error = ImageError;
///
///     fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ImageError>> {
///         requests.iter().map(answer).collect()
///     }
///
///     fn is_request_error(&self, error: &ImageError) -> bool {
///         error.reason().is_some() // the sample is skipped
///     }
/// }
/// ```
pub trait VisionLanguageModel {
    /// Error of a request.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Answers requests. Returns one result per request, in order; a failed request does not affect
    /// the others. An answer includes its [prefix](VisionRequest::answer_prefix).
    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, Self::Error>>;

    /// Answers any number of requests, `at_a_time` of them at the same time. Returns the results of
    /// [`respond`](Self::respond).
    ///
    /// The default implementation splits the requests into batches. A model with continuous
    /// batching can start a request as soon as another is finished.
    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, Self::Error>> {
        requests.chunks(at_a_time.get()).flat_map(|batch| self.respond(batch)).collect()
    }

    /// Passes each answer to `on_answer` as soon as it exists, once per request, in any order.
    ///
    /// The default implementation calls [`respond_continuous`](Self::respond_continuous) first and
    /// then passes the answers in order. A [`ControlFlow::Break`] drops the remaining answers.
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

    /// Answers several lists of requests, each as [`respond_each`](Self::respond_each) does, and
    /// passes on each answer with the index of its request in all lists together.
    ///
    /// A model on several devices answers one list on each. The default implementation answers one
    /// list after the other.
    fn respond_calls(
        &mut self,
        calls: &[Vec<VisionRequest>],
        at_a_time: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, Self::Error>,
    ) {
        let (mut first, mut flow) = (0, ControlFlow::Continue(()));
        for requests in calls {
            self.respond_each(requests, at_a_time, &mut |place, answer| {
                flow = on_answer(first + place, answer);
                flow
            });
            if flow.is_break() {
                return;
            }
            first += requests.len();
        }
    }

    /// Returns the number of lists for one call of [`respond_calls`](Self::respond_calls). The
    /// default implementation returns 1.
    fn calls_at_once(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Takes requests from `queue` and passes each answer on as soon as it exists, in any order.
    ///
    /// The weaken stage calls it for [batch-invariant](Self::is_batch_invariant) models. The default
    /// implementation calls [`respond`](Self::respond) with `at_a_time` requests, again and again.
    fn respond_queue(&mut self, queue: &mut VisionQueue<'_, Self::Error>, at_a_time: NonZeroUsize) {
        answer_in_batches(queue, at_a_time.get(), |requests| {
            let answers = self.respond(requests);
            let failed = |error| {
                let is_request_error = self.is_request_error(&error);
                RequestFailure { error, is_request_error }
            };
            answers.into_iter().map(|answer| answer.map_err(failed)).collect()
        });
    }

    /// Returns whether an answer does not depend on the other requests of its batch, not even in the
    /// last digits of a logit. Such a model is asked only for missing answers, as many at a time as
    /// it takes. The default implementation returns false: a batch that was interrupted is answered
    /// again as a whole.
    fn is_batch_invariant(&self) -> bool {
        false
    }

    /// Returns the counts of the requests to a server, if the model is behind one.
    fn usage(&self) -> Option<UsageMeter> {
        None
    }

    /// Returns whether an error lies in its request, so that repeating the request is useless, for
    /// example because the prompt is longer than the context.
    ///
    /// The sample of such a request is skipped. Any other error, for example of memory or of a
    /// server that is down, stops the stage, which can then be run again. The default
    /// implementation returns false, which loses no sample.
    fn is_request_error(&self, _error: &Self::Error) -> bool {
        false
    }

    /// Returns whether the model uses [system prompts](VisionRequest::system). Otherwise they are
    /// ignored and the stage warns about them. The default implementation returns true.
    fn takes_system(&self) -> bool {
        true
    }
}

/// Implements the interface for a pointer to a model, by the model.
macro_rules! impl_for_pointer {
    ($pointer:ty) => {
        impl<M: VisionLanguageModel + ?Sized> VisionLanguageModel for $pointer {
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

            fn respond_calls(
                &mut self,
                calls: &[Vec<VisionRequest>],
                at_a_time: NonZeroUsize,
                on_answer: &mut OnAnswer<'_, Self::Error>,
            ) {
                (**self).respond_calls(calls, at_a_time, on_answer);
            }

            fn calls_at_once(&self) -> NonZeroUsize {
                (**self).calls_at_once()
            }

            fn respond_queue(&mut self, queue: &mut VisionQueue<'_, Self::Error>, at_a_time: NonZeroUsize) {
                (**self).respond_queue(queue, at_a_time);
            }

            fn is_batch_invariant(&self) -> bool {
                (**self).is_batch_invariant()
            }

            fn usage(&self) -> Option<UsageMeter> {
                (**self).usage()
            }

            fn is_request_error(&self, error: &Self::Error) -> bool {
                (**self).is_request_error(error)
            }

            fn takes_system(&self) -> bool {
                (**self).takes_system()
            }
        }
    };
}

impl_for_pointer!(&mut M);
impl_for_pointer!(Box<M>);
