//! LLaVA as the model that the stages ask.

use std::num::NonZeroUsize;

use bpo_model::ModelError;
use bpo_model::responder::{ImageQuestion, LlavaResponder, WeakenedImage};
use bpo_pairs::Generated;

use crate::vision::{VisionLanguageModel, VisionRequest, Weakening};

impl VisionLanguageModel for LlavaResponder {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        self.answer(&questions(requests))
    }

    fn respond_continuous(
        &mut self,
        requests: &[VisionRequest],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, ModelError>> {
        self.answer_continuous(&questions(requests), at_a_time)
    }

    fn is_request_error(&self, error: &ModelError) -> bool {
        LlavaResponder::is_request_error(self, error)
    }

    fn takes_system(&self) -> bool {
        LlavaResponder::takes_system(self)
    }
}

fn questions(requests: &[VisionRequest]) -> Vec<ImageQuestion<'_>> {
    requests.iter().map(question).collect()
}

fn question(request: &VisionRequest) -> ImageQuestion<'_> {
    ImageQuestion {
        image: &request.image,
        weakened: request.weakening.as_ref().map(weakened),
        system: request.system.as_deref(),
        history: &request.history,
        prompt: &request.prompt,
        answer_prefix: &request.answer_prefix,
        sampling: &request.sampling,
    }
}

fn weakened(weakening: &Weakening) -> WeakenedImage<'_> {
    let Weakening { distortion, seed, other, contrast } = weakening;
    WeakenedImage { distortion, seed: *seed, other: other.as_deref(), contrast: *contrast }
}
