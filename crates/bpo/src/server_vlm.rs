//! A vision-language model behind an OpenAI-compatible server, as the model of the weaken stage or as a
//! judge.

mod messages;
mod sent_image;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_distort::{DistortError, Distortion};
use bpo_inject::{REMOVED_KEY, without_reasoning};
use bpo_pairs::{Generated, RequestFailure, RequestQueue, RequestSlice, SkipError, SkipReason, UsageMeter};
use bpo_server::{Chat, OpenAiClient, ServerError};

use crate::config::{Required, RunConfig, SentImages};
use crate::error::BpoError;
use crate::images::ImageError;
use crate::vision::{VisionLanguageModel, VisionQueue, VisionRequest};

/// Errors of a [`ServerVlm`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerVlmError {
    /// An image of a request cannot be loaded.
    #[error(transparent)]
    Image(Box<ImageError>),
    /// An image cannot be distorted or encoded.
    #[error(transparent)]
    Distort(Box<DistortError>),
    /// The server did not answer.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The request needs what a server cannot do.
    #[error("a server cannot do {what}")]
    Unsupported {
        /// The part of the request.
        what: &'static str,
    },
    /// The response has no text. Its [`SkipReason`] is [`NoText`](SkipReason::NoText).
    #[error("the response is no answer")]
    NoText(#[source] SkipError),
    /// The response has no text that can be an answer.
    #[error("the response is no answer: {what}")]
    NoAnswer {
        /// What the response is.
        what: &'static str,
    },
}

impl From<ImageError> for ServerVlmError {
    fn from(error: ImageError) -> Self {
        Self::Image(error.into())
    }
}

impl From<DistortError> for ServerVlmError {
    fn from(error: DistortError) -> Self {
        Self::Distort(error.into())
    }
}

impl From<ServerError> for ServerVlmError {
    fn from(error: ServerError) -> Self {
        Self::Server(error.into())
    }
}

impl ServerVlmError {
    /// Returns whether the error lies in its request.
    fn is_of_request(&self) -> bool {
        match self {
            Self::Image(error) => error.reason().is_some(),
            Self::Distort(error) => matches!(**error, DistortError::Recompress { .. }),
            Self::Server(error) => error.is_of_request(),
            Self::NoAnswer { .. } | Self::NoText(_) => true,
            Self::Unsupported { .. } => false,
        }
    }
}

/// A vision-language model behind an OpenAI-compatible server.
///
/// Distortions are applied to the pixels of the images that are sent; diffusion noise too, with
/// levels scaled to -1..1. An answer is text: contrastive decoding, distortions of features and the
/// continuation of an answer are errors. The start of an answer that is reasoning
/// (`<think>...</think>`) is removed.
#[derive(Debug)]
pub struct ServerVlm {
    client: OpenAiClient,
    images: SentImages,
}

impl ServerVlm {
    /// Creates a model from the client of its server.
    pub fn new(client: OpenAiClient, images: SentImages) -> Self {
        Self { client, images }
    }

    /// Makes the conversation of a request: loads, distorts and encodes its images.
    fn chat(&self, request: &VisionRequest) -> Result<Chat, ServerVlmError> {
        let weakening = request.weakening.as_ref();
        if weakening.is_some_and(|weakening| weakening.contrast.is_some()) {
            return Err(ServerVlmError::Unsupported { what: "contrastive decoding" });
        }
        if !request.answer_prefix.is_empty() {
            return Err(ServerVlmError::Unsupported { what: "the continuation of an answer" });
        }
        let has_image = weakening
            .is_none_or(|w| !w.distortion.stages().any(|stage| matches!(stage, Distortion::NoImage(_))));
        let mut parts = Vec::with_capacity(request.images.len());
        for (number, image) in request.images.iter().enumerate().filter(|_| has_image) {
            parts.push(sent_image::part(&*image.load()?, number, weakening, &self.images)?);
        }
        Ok(Chat { messages: messages::of(request, parts), sampling: request.sampling.clone() })
    }
}

impl VisionLanguageModel for ServerVlm {
    type Error = ServerVlmError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ServerVlmError>> {
        let mut queue = RequestSlice::new(requests);
        self.respond_queue(&mut queue, NonZeroUsize::MIN);
        queue.into_answers().into_iter().map(|answer| answer.map_err(|failure| failure.error)).collect()
    }

    /// Sends as many requests at a time as a batch has, or more.
    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        _: NonZeroUsize,
    ) -> Vec<Result<Generated, ServerVlmError>> {
        self.respond(requests)
    }

    /// The number of concurrent requests follows the server, not `at_a_time`.
    fn respond_queue(&mut self, queue: &mut VisionQueue<'_, ServerVlmError>, _: NonZeroUsize) {
        self.client.answer_queue(&mut Answers(queue), &|request| self.chat(request).map_err(failure));
    }

    fn is_batch_invariant(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<UsageMeter> {
        Some(self.client.usage())
    }

    fn is_request_error(&self, error: &ServerVlmError) -> bool {
        error.is_of_request()
    }
}

fn failure(error: ServerVlmError) -> RequestFailure<ServerVlmError> {
    let is_request_error = error.is_of_request();
    RequestFailure { error, is_request_error }
}

/// Passes on the answers without their reasoning.
struct Answers<'a, 'q>(&'a mut VisionQueue<'q, ServerVlmError>);

impl RequestQueue<VisionRequest, Result<Generated, RequestFailure<ServerVlmError>>> for Answers<'_, '_> {
    fn next_request(&mut self) -> Option<VisionRequest> {
        self.0.next_request()
    }

    fn receive(
        &mut self,
        number: usize,
        answer: Result<Generated, RequestFailure<ServerVlmError>>,
    ) -> ControlFlow<()> {
        self.0.receive(number, answer.and_then(|generated| answer_of(generated).map_err(failure)))
    }
}

/// Returns the answer of a response.
fn answer_of(generated: Generated) -> Result<Generated, ServerVlmError> {
    if generated.text.contains(REMOVED_KEY) {
        return Err(ServerVlmError::NoAnswer { what: "it contains the API key" });
    }
    let what = "reasoning without an answer after it; a larger `max_new_tokens` leaves room for one";
    let text = without_reasoning(&generated.text).ok_or(ServerVlmError::NoAnswer { what })?;
    if text.trim().is_empty() {
        let what = "it has no text, or a content filter has cut it";
        return Err(ServerVlmError::NoText(SkipError::new(SkipReason::NoText, what)));
    }
    Ok(Generated { text, ..generated })
}

/// The use of a model behind a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerUse {
    /// Answers of the weaken stage: `[weaken.server]`.
    Weaken,
    /// Judgments: `[judge.server]`.
    Judge,
}

impl ServerUse {
    fn section(self) -> &'static str {
        match self {
            Self::Weaken => "weaken.server",
            Self::Judge => "judge.server",
        }
    }

    /// Creates the model without a call of the server.
    ///
    /// # Errors
    /// Returns [`BpoError::NotSet`] if no server is set, or [`BpoError::Server`] if a setting is invalid.
    pub(crate) fn open(self, config: &RunConfig, api_key: Option<String>) -> Result<ServerVlm, BpoError> {
        let (server, images, required) = match self {
            Self::Weaken => (&config.weaken.server, &config.weaken.server_images, Required::VlmServer),
            Self::Judge => (&config.judge.server, &config.judge.server_images, Required::JudgeServer),
        };
        config.require(&[required], &[])?;
        let Some(server) = server else { return Err(BpoError::NotSet { missing: Vec::new() }) };
        let client = OpenAiClient::new(server.clone(), api_key)
            .map_err(|source| BpoError::Server { section: self.section(), source: source.into() })?;
        let adds_noise = config.weaken.distortion.iter().any(|distortion| {
            distortion.stages().last().is_some_and(|last| matches!(last, Distortion::DiffusionNoise(_)))
        });
        if self == Self::Weaken && adds_noise {
            tracing::info!("diffusion noise is added to the pixels of the images that are sent");
        }
        Ok(ServerVlm::new(client, images.clone()))
    }

    /// Checks that the server of a model can be reached, accepts the API key and has the model.
    ///
    /// # Errors
    /// Returns [`BpoError::ServerUnusable`].
    pub(crate) fn check(self, model: &ServerVlm) -> Result<(), BpoError> {
        let flag = match self {
            Self::Weaken => "--vlm-server",
            Self::Judge => "--judge-server",
        };
        let failed = |source: ServerError| BpoError::ServerUnusable {
            section: self.section(),
            flag,
            source: source.into(),
        };
        model.client.check().map_err(failed)
    }

    fn open_checked(self, config: &RunConfig, api_key: Option<String>) -> Result<ServerVlm, BpoError> {
        let model = self.open(config, api_key)?;
        self.check(&model)?;
        Ok(model)
    }
}

/// Creates the model behind the server of `[weaken.server]`. `api_key` is the key of the server.
///
/// The server is checked first; one that cannot be reached is tried again for `startup_timeout_s`.
///
/// # Errors
/// Returns [`BpoError::NotSet`] if no server is set, [`BpoError::Server`] if a setting is invalid,
/// or [`BpoError::ServerUnusable`] if the server cannot be reached, refuses the key or has no such
/// model.
pub fn open_vlm(config: &RunConfig, api_key: Option<String>) -> Result<ServerVlm, BpoError> {
    ServerUse::Weaken.open_checked(config, api_key)
}

/// Creates the judge behind the server of `[judge.server]`, as [`open_vlm`] creates the model.
///
/// # Errors
/// Returns the errors of [`open_vlm`].
pub fn open_judge(config: &RunConfig, api_key: Option<String>) -> Result<ServerVlm, BpoError> {
    ServerUse::Judge.open_checked(config, api_key)
}

#[cfg(test)]
mod tests {
    use bpo_pairs::FinishReason;

    use super::*;
    use crate::error::chain;

    fn answer(text: &str) -> Result<String, String> {
        let generated = Generated { text: text.into(), finish: FinishReason::Stop, tokens: None };
        answer_of(generated).map(|generated| generated.text).map_err(|error| chain(&error))
    }

    #[test]
    fn reasoning_is_removed_and_never_an_answer() {
        assert_eq!(answer("A cat. ").unwrap(), "A cat. ");
        assert_eq!(answer("<think>I see a cat.</think>\n\nA cat.").unwrap(), "A cat.");
        assert_eq!(answer("I see a cat.</think>A cat.").unwrap(), "A cat.");
        for text in ["", " \n"] {
            assert!(answer(text).unwrap_err().contains("no text"), "{text:?}");
        }
        for text in ["<think>I see", "<think>I see</think>", "<think>I see</think>  "] {
            assert!(answer(text).unwrap_err().contains("max_new_tokens"), "{text}");
        }
        assert!(answer("[API key removed]").unwrap_err().contains("API key"));
    }
}
