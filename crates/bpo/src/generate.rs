//! A model's answers to questions about images.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bpo_inject::{FinishReason, Generated, Sampling};
use bpo_pairs::error::PairsError;
use bpo_pairs::ids::Id;
use bpo_pairs::image_token::place_in_conversation;
use bpo_pairs::images::ImageRoot;
use bpo_pairs::responder::{BATCHES_PER_CALL, VisionLanguageModel, VisionRequest};
use bpo_pairs::seed::item_seed;
use bpo_pairs::set_aside::{Reason, SetAside};
use bpo_pairs::sft::Turn;
use serde::{Deserialize, Serialize};

use crate::error::{BpoError, chain};
use crate::stages::StageOutcome;

/// A question about an image, as files have it; POPE's `question_id` and `text` are taken for `id` and `prompt`, and its
/// `label` and LLaVA's `category` are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Of the answer too; its place in the file, counted from 0, where it is not given.
    #[serde(default, alias = "question_id")]
    pub id: Option<Id>,
    /// Path of the image, relative to the image root.
    pub image: String,
    /// Turns before the question, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Turn>,
    /// The question, with or without `<image>`.
    #[serde(alias = "text")]
    pub prompt: String,
    #[serde(default, rename = "label", skip_serializing)]
    _label: Option<serde_json::Value>,
    #[serde(default, rename = "category", skip_serializing)]
    _category: Option<serde_json::Value>,
}

impl Question {
    /// A question without turns before it; its id is its place.
    pub fn new(image: impl Into<String>, prompt: impl Into<String>) -> Self {
        let (image, prompt) = (image.into(), prompt.into());
        Self { id: None, image, history: Vec::new(), prompt, _label: None, _category: None }
    }

    /// Its id, if it is the question at `place`.
    fn id_at(&self, place: usize) -> String {
        self.id.as_ref().map_or_else(|| place.to_string(), |id| id.0.clone())
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Of the question.
    pub id: String,
    /// Of the question.
    pub image: String,
    /// The question, so that whoever scores the answer can compare it. Empty in files of earlier versions.
    #[serde(default)]
    pub prompt: String,
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Its length in tokens, where the model tells.
    pub tokens: Option<usize>,
}

/// Reads questions: an array, or one object a line.
///
/// # Errors
/// If the file cannot be read or is not JSON of this form, with file, record, line and column; if it has no question, or two
/// with one id.
pub fn read_questions(path: &Path) -> Result<Vec<Question>, BpoError> {
    let file = std::fs::File::open(path).map_err(BpoError::io("open", path))?;
    let mut questions = Vec::new();
    bpo_pairs::format::json::for_each(path, std::io::BufReader::new(file), &mut |question: Question| {
        questions.push(question);
        Ok::<_, PairsError>(())
    })?;
    let mut seen = std::collections::HashSet::new();
    let ids = questions.iter().enumerate().map(|(place, question)| question.id_at(place));
    if let Some(id) = ids.into_iter().find(|id| !seen.insert(id.clone())) {
        return Err(BpoError::SameId { path: path.to_owned(), id });
    }
    if questions.is_empty() {
        let (path, set_aside) = (path.to_owned(), Default::default());
        return Err(BpoError::Nothing { path, what: "question", set_aside });
    }
    Ok(questions)
}

/// Has a model answer questions, `batch_size` at a time, and gives each answer to `each` in the order of the questions, when those of
/// [a few batches](BATCHES_PER_CALL) are there.
/// Questions whose image cannot be used, or that the model cannot answer, are set aside.
///
/// Each answer is drawn with a seed of its own, made from that of `sampling` and the question's id.
///
/// # Errors
/// [`BpoError::Setting`]; if the image root is gone or the model fails in a way that is not the question's fault, and what `each` fails with.
pub fn generate<M: VisionLanguageModel>(
    model: &mut M,
    questions: &[Question],
    images: &ImageRoot,
    sampling: &Sampling,
    batch_size: usize,
    mut each: impl FnMut(Answer) -> Result<(), BpoError>,
) -> Result<StageOutcome, BpoError> {
    check_sampling(sampling)?;
    let (mut done, mut set_aside) = (0, Vec::new());
    let at_a_time = NonZeroUsize::new(batch_size).unwrap_or(NonZeroUsize::MIN);
    let per_call = at_a_time.saturating_mul(BATCHES_PER_CALL).get();
    for (call, part) in questions.chunks(per_call).enumerate() {
        let (mut ids, mut requests) = (Vec::new(), Vec::new());
        for (place, question) in part.iter().enumerate() {
            let id = question.id_at(call * per_call + place);
            match request(question, &id, images, sampling)? {
                Ok(request) => {
                    ids.push((id, question));
                    requests.push(request);
                }
                Err(aside) => set_aside.push(aside),
            }
        }
        let answers = model.respond_in_turn(&requests, at_a_time);
        if answers.len() != requests.len() {
            let (requests, answers) = (requests.len(), answers.len());
            return Err(PairsError::AnswerCount { stage: "generate", requests, answers }.into());
        }
        for ((id, question), answer) in ids.into_iter().zip(answers) {
            match answer {
                Ok(Generated { text, finish, tokens }) => {
                    let (image, prompt) = (question.image.clone(), question.prompt.clone());
                    each(Answer { id, image, prompt, text, finish, tokens })?;
                    done += 1;
                }
                Err(error) if model.is_request_error(&error) => {
                    set_aside.push(SetAside::new(id, Reason::RequestFailed).with_detail(chain(&error)));
                }
                Err(error) => {
                    return Err(BpoError::Question { id, source: Box::new(error) });
                }
            }
        }
    }
    Ok(StageOutcome::new(done, set_aside))
}

/// Checks what only the user can put right.
fn check_sampling(sampling: &Sampling) -> Result<(), BpoError> {
    let Sampling { temperature, top_p, .. } = *sampling;
    let setting = |key: &'static str, expected, found: f64| BpoError::Setting {
        key: key.into(),
        expected,
        found: found.to_string(),
    };
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return Err(setting("temperature", "a finite number, at least 0", temperature));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(setting("top_p", "above 0 and at most 1", top_p));
    }
    Ok(())
}

/// What the model is asked, or why it cannot be. The outer error is not the question's fault.
fn request(
    question: &Question,
    id: &str,
    images: &ImageRoot,
    sampling: &Sampling,
) -> Result<Result<VisionRequest, SetAside>, BpoError> {
    let aside = |reason| Ok(Err(SetAside::new(id, reason)));
    let (mut history, mut prompt) = (question.history.clone(), question.prompt.clone());
    if let Err(reason) = place_in_conversation(&mut history, &mut prompt) {
        return aside(reason);
    }
    let image = match images.load(&question.image) {
        Ok(image) => Arc::new(image),
        Err(error) => {
            return match error.reason() {
                Some(reason) => Ok(Err(SetAside::new(id, reason).with_detail(chain(&error)))),
                None => Err(PairsError::from(error).into()),
            };
        }
    };
    let sampling = sampling.clone().with_seed(item_seed(sampling.seed, id));
    Ok(Ok(VisionRequest { image, weakening: None, history, prompt, begun: String::new(), sampling }))
}
