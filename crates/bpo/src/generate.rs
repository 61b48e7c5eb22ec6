//! Generation of answers to questions about images.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use crate::image_cache::ImageCache;
use crate::images::ImageRoot;
use crate::vision::{BATCHES_PER_CALL, VisionLanguageModel, VisionRequest};
use bpo_pairs::format::questions::{self, QuestionData};
use bpo_pairs::{
    FinishReason, Generated, RequestFailure, Sampling, SkipReason, Skipped, VideoFrames, item_seed,
    place_in_conversation, warn_left_out,
};
use serde::{Deserialize, Serialize};

pub use bpo_pairs::format::questions::Question;

use crate::config::{check_temperature, check_top_p};
use crate::error::{BpoError, chain};
use crate::stages::StageOutcome;

/// A model's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an answer: an object with `id`, `images` and `text`")]
pub struct Answer {
    /// Id of the question.
    pub id: String,
    /// Image paths of the question.
    pub images: Vec<String>,
    /// Text of the question, for scorers that compare it.
    pub prompt: String,
    /// Text of the answer.
    pub text: String,
    /// The reason why generation stopped.
    pub finish: FinishReason,
    /// Length of the answer in tokens, if the model reports it.
    pub tokens: Option<usize>,
}

/// Reads [questions]. `videos` finds the frames of videos. Returns those that can be used, and those that are skipped.
///
/// # Errors
/// Returns an error with file, record, line and column if the file cannot be read or is not JSON,
/// [`BpoError::SameId`] if two questions have the same id, or an error if no question can be used.
pub fn read_questions(
    path: &Path,
    videos: &dyn VideoFrames,
) -> Result<(Vec<Question>, Vec<Skipped>), BpoError> {
    let QuestionData { questions, skipped } = questions::read(path, videos)?;
    let mut seen = HashSet::new();
    let ids = questions.iter().enumerate().map(|(place, question)| question.id_at(place));
    if let Some(id) = ids.into_iter().find(|id| !seen.insert(id.clone())) {
        return Err(BpoError::SameId { path: path.to_owned(), id });
    }
    if questions.is_empty() {
        return Err(BpoError::nothing(path, "question", &skipped));
    }
    Ok((questions, skipped))
}

/// Generates answers to questions, `batch_size` at a time, and passes each answer to `each`, in the
/// order of the questions.
///
/// Answers are passed on after each call of the model, which covers [`BATCHES_PER_CALL`] batches on
/// each of its devices.
/// Questions with an image that cannot be used, and those that the model cannot answer, are skipped. The
/// seed of each answer is derived from the seed of `sampling` and the id of the question.
///
/// # Errors
/// Returns [`BpoError::Setting`] if `sampling` is invalid, [`BpoError::Image`] if the image root is
/// gone, [`BpoError::Question`] if the model fails for another reason than the question, or the
/// error of `each`.
pub fn generate<M: VisionLanguageModel>(
    model: &mut M,
    questions: &[Question],
    images: &ImageRoot,
    sampling: &Sampling,
    batch_size: usize,
    mut each: impl FnMut(Answer) -> Result<(), BpoError>,
) -> Result<StageOutcome, BpoError> {
    check_sampling(sampling)?;
    if !model.takes_system() {
        warn_left_out("questions", questions.iter().map(|question| &question.system));
    }
    let cache = ImageCache::new(images.clone());
    let (mut done, mut skipped) = (0, Vec::new());
    let at_a_time = NonZeroUsize::new(batch_size).unwrap_or(NonZeroUsize::MIN);
    let per_call = at_a_time.saturating_mul(BATCHES_PER_CALL).get();
    let numbered: Vec<(usize, &Question)> = questions.iter().enumerate().collect();
    let calls: Vec<&[(usize, &Question)]> = numbered.chunks(per_call).collect();
    for calls in calls.chunks(model.calls_at_once().get()) {
        let (mut asked, mut lists) = (Vec::new(), Vec::new());
        for call in calls {
            let mut requests = Vec::new();
            for &(place, question) in *call {
                let id = question.id_at(place);
                match request(question, &id, &cache, sampling)? {
                    Ok(request) => {
                        asked.push((id, question));
                        requests.push(request);
                    }
                    Err(skip) => skipped.push(skip),
                }
            }
            lists.push(requests);
        }
        let mut answers: Vec<_> = asked.iter().map(|_| None).collect();
        let mut received = 0;
        model.respond_calls(&lists, at_a_time, &mut |place, answer| {
            received += 1;
            if let Some(slot) = answers.get_mut(place) {
                *slot = Some(answer);
            }
            ControlFlow::Continue(())
        });
        let answered = answers.iter().flatten().count();
        if answered != asked.len() || received != asked.len() {
            let (requests, answers) = (asked.len(), received.min(answered));
            return Err(BpoError::AnswerCount { stage: "generate", requests, answers });
        }
        for ((id, question), answer) in asked.into_iter().zip(answers.into_iter().flatten()) {
            match answer {
                Ok(Generated { text, finish, tokens }) => {
                    let (images, prompt) = (question.images.clone(), question.prompt.clone());
                    each(Answer { id, images, prompt, text, finish, tokens })?;
                    done += 1;
                }
                Err(RequestFailure { error, is_request_error: true }) => {
                    skipped.push(Skipped::new(id, SkipReason::RequestFailed).with_detail(chain(&error)));
                }
                Err(RequestFailure { error, .. }) => {
                    return Err(BpoError::Question { id, source: Box::new(error) });
                }
            }
        }
    }
    Ok(StageOutcome::new(done, skipped))
}

/// Validates the sampling parameters.
///
/// # Errors
/// Returns [`BpoError::Setting`] if the temperature or `top_p` is invalid.
pub fn check_sampling(sampling: &Sampling) -> Result<(), BpoError> {
    check_temperature("temperature", sampling.temperature)?;
    check_top_p("top_p", sampling.top_p)
}

/// Builds the request for a question, or returns why it is skipped.
///
/// # Errors
/// Returns an error if the image root is gone.
fn request(
    question: &Question,
    id: &str,
    cache: &ImageCache,
    sampling: &Sampling,
) -> Result<Result<VisionRequest, Skipped>, BpoError> {
    let (mut history, mut prompt) = (question.history.to_vec(), question.prompt.clone());
    if let Err(flaw) = place_in_conversation(&mut history, &mut prompt, question.images.len()) {
        return Ok(Err(flaw.of(id)));
    }
    for name in &question.images {
        if let Err(error) = cache.load(name) {
            return match error.reason() {
                Some(reason) => Ok(Err(Skipped::new(id, reason).with_detail(chain(&error)))),
                None => Err(error.into()),
            };
        }
    }
    let images = question.images.iter().map(|name| cache.image(name)).collect();
    let sampling = sampling.clone().with_seed(item_seed(sampling.seed, id));
    let (weakening, system, answer_prefix) = (None, question.system.clone(), String::new());
    let history = history.into();
    Ok(Ok(VisionRequest { images, weakening, system, history, prompt, answer_prefix, sampling }))
}
