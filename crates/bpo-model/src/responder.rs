//! [`Vlm`] answers questions about images.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_distort::{Distortion, Input};
use bpo_pairs::{Contrast, ContrastMode, Generated, Sampling, Turn, image_seed};
use image::RgbImage;

use crate::error::ModelError;
use crate::generation::{Continuation, ContrastInput, Prompt};
use crate::input::{ImageInput, ImageLayout, ModelInput};
use crate::lora::Adapters;
use crate::processor::{Processor, TokenizedCompletion};
use crate::vlm::Vlm;

/// A distortion of the images of an [`ImageQuestion`].
#[derive(Clone, Copy, Debug)]
pub struct WeakenedImage<'a> {
    /// The distortion of each image, or of its features.
    pub distortion: &'a Distortion,
    /// Seed of its randomness for the first image. Each further image has a seed that follows from it.
    pub seed: u64,
    /// Another image, for distortions that [need one](Distortion::needs_other).
    pub other: Option<&'a RgbImage>,
    /// Contrast decoding with the clean images.
    pub contrast: Option<Contrast>,
}

/// A question about images.
#[derive(Clone, Debug)]
pub struct ImageQuestion<'a> {
    /// The images before any distortion: none, one or several.
    pub images: Vec<&'a RgbImage>,
    /// Whether each image is a frame of a video. Images behind the end of the list are not.
    pub frames: Vec<bool>,
    /// How the images are weakened. `None` asks about the clean images.
    pub weakened: Option<WeakenedImage<'a>>,
    /// The system text before the conversation. A chat template without a place for one leaves it
    /// out.
    pub system: Option<&'a str>,
    /// Turns before the question, oldest first.
    pub history: &'a [Turn],
    /// The question.
    pub prompt: &'a str,
    /// The beginning of the answer, which the model continues. Empty for an answer from the start.
    pub answer_prefix: &'a str,
    /// Sampling parameters.
    pub sampling: &'a Sampling,
}

/// A model with its processor.
pub struct VlmResponder {
    model: Vlm,
    processor: Processor,
}

impl VlmResponder {
    /// Answers with the model and, where it has them, its adapters.
    pub fn new(model: Vlm, processor: Processor) -> Self {
        Self { model, processor }
    }

    /// The model and its processor back.
    pub fn into_parts(self) -> (Vlm, Processor) {
        (self.model, self.processor)
    }

    /// One result per question, in order. A bad question does not fail the others. The text of an
    /// answer starts with its prefix.
    pub fn answer(&mut self, questions: &[ImageQuestion<'_>]) -> Vec<Result<Generated, ModelError>> {
        self.answer_continuous(questions, NonZeroUsize::new(questions.len()).unwrap_or(NonZeroUsize::MIN))
    }

    /// As [`answer`](Self::answer), with at most `at_a_time` answers in the making: the next
    /// question starts when an answer ends.
    pub fn answer_continuous(
        &mut self,
        questions: &[ImageQuestion<'_>],
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, ModelError>> {
        let prepared = questions.iter().map(|question| self.prepare(question)).collect();
        self.answer_prepared(prepared, at_a_time)
    }

    /// Answers questions that [`prepare`](Self::prepare) has made, with at most `at_a_time` answers
    /// in the making. An error in the place of a question is returned in the place of its answer.
    pub fn answer_prepared<E: From<ModelError>>(
        &self,
        questions: Vec<Result<PreparedQuestion, E>>,
        at_a_time: NonZeroUsize,
    ) -> Vec<Result<Generated, E>> {
        let mut answers: Vec<_> = questions.iter().map(|_| None).collect();
        self.answer_each(questions, at_a_time, &mut |place, answer| {
            answers[place] = Some(answer);
            ControlFlow::Continue(())
        });
        answers.into_iter().map(|answer| answer.expect("an answer to each question")).collect()
    }

    /// Answers questions as [`answer_prepared`](Self::answer_prepared) does, and passes each answer
    /// with the index of its question to `on_answer` as soon as it ends. [`ControlFlow::Break`]
    /// drops the others.
    pub fn answer_each<E: From<ModelError>>(
        &self,
        questions: Vec<Result<PreparedQuestion, E>>,
        at_a_time: NonZeroUsize,
        on_answer: &mut dyn FnMut(usize, Result<Generated, E>) -> ControlFlow<()>,
    ) {
        let (mut prompts, mut asked) = (Vec::new(), Vec::new());
        for (place, question) in questions.into_iter().enumerate() {
            match question {
                Ok(PreparedQuestion { prompt, prefix }) => {
                    prompts.push(prompt);
                    asked.push((place, prefix));
                }
                Err(error) => {
                    if on_answer(place, Err(error)).is_break() {
                        return;
                    }
                }
            }
        }
        let text = &self.processor.text;
        let finish = |index: usize, answer: Result<Continuation, ModelError>| {
            let (place, prefix): &(usize, Vec<u32>) = &asked[index];
            let answer = answer.and_then(|answer| {
                let ids = [prefix.as_slice(), &answer.ids].concat();
                let text = text.decode(&ids, true)?;
                Ok(Generated { text, finish: answer.finish, tokens: Some(ids.len()) })
            });
            (*place, answer.map_err(E::from))
        };
        let settings = &self.processor.generation;
        let (mut is_answered, mut flow) = (vec![false; prompts.len()], ControlFlow::Continue(()));
        let mut on_continuation = |index: usize, answer: Continuation| {
            is_answered[index] = true;
            let (place, answer) = finish(index, Ok(answer));
            flow = on_answer(place, answer);
            flow
        };
        let generated =
            self.model.generate_each(&prompts, at_a_time, settings, Adapters::On, &mut on_continuation);
        if generated.is_ok() || flow.is_break() {
            return;
        }
        // one by one, so that each of the other questions has its own error
        for index in (0..prompts.len()).filter(|index| !is_answered[*index]) {
            let answer = self.model.generate(&prompts[index..=index], settings, Adapters::On);
            let answer = answer.map(|mut answers| answers.swap_remove(0));
            let (place, answer) = finish(index, answer);
            if on_answer(place, answer).is_break() {
                return;
            }
        }
    }

    /// Whether the chat template has a place for a system text.
    pub fn takes_system(&self) -> bool {
        self.processor.chat.takes_system()
    }

    /// Distorts and preprocesses the images, and encodes the text. The result does not hold the
    /// images, only the pixels that the model needs.
    ///
    /// # Errors
    /// If an image cannot be distorted or preprocessed, or the text does not fit into the context.
    pub fn prepare(&self, question: &ImageQuestion<'_>) -> Result<PreparedQuestion, ModelError> {
        let (images, contrasted) = self.images(question)?;
        let (input, prefix) = self.input(question, images)?;
        let mut prompt = Prompt::new(input, question.sampling.clone());
        if let Some((contrast_images, contrast)) = contrasted {
            let (input, _) = self.input(question, contrast_images)?;
            prompt = prompt.with_contrast(ContrastInput::new(input, contrast.alpha, contrast.plausibility));
        }
        Ok(PreparedQuestion { prompt, prefix })
    }

    /// Returns the images that the answer is about, clean or weakened, and the contrast images if
    /// there is a contrast.
    fn images(
        &self,
        question: &ImageQuestion<'_>,
    ) -> Result<(Images, Option<(Images, Contrast)>), ModelError> {
        let (images, frames) =
            (self.processor.image.of_prompt(question.images.len()), self.processor.image.of_frames());
        let of = |number: usize| {
            if question.frames.get(number).copied().unwrap_or(false) { &frames } else { &images }
        };
        let clean = || {
            let clean = question.images.iter().enumerate().map(|(number, image)| of(number).process(image));
            clean.collect::<Result<Images, _>>().map_err(ModelError::from)
        };
        let Some(WeakenedImage { distortion, seed, other, contrast }) = question.weakened else {
            return Ok((clean()?, None));
        };
        let mut weakened = Images::new();
        for (number, image) in question.images.iter().enumerate() {
            let mut input = Input::new(image);
            input.other = other;
            let seed = image_seed(seed, number);
            weakened.extend(ImageInput::weakened(of(number), input, distortion, seed)?);
        }
        Ok(match contrast {
            None => (weakened, None),
            Some(contrast) => match contrast.mode {
                ContrastMode::AmplifyPrior => (weakened, Some((clean()?, contrast))),
                ContrastMode::Vcd => (clean()?, Some((weakened, contrast))),
            },
        })
    }

    /// Returns the input of a question with these images, and the ids of the prefix of its answer.
    fn input(
        &self,
        question: &ImageQuestion<'_>,
        images: Images,
    ) -> Result<(ModelInput, Vec<u32>), ModelError> {
        let config = self.model.config();
        let ImageQuestion { history, prompt, answer_prefix, .. } = *question;
        let system = question.system.filter(|_| self.takes_system());
        let layouts: Vec<&ImageLayout> = images.iter().map(|image| &image.layout).collect();
        let (ids, prefix) = if answer_prefix.is_empty() {
            (self.processor.prompt_ids(system, history, prompt, &layouts)?, Vec::new())
        } else {
            let TokenizedCompletion { ids, answer_start, .. } =
                self.processor.encode_answer_prefix(system, history, prompt, answer_prefix, &layouts)?;
            let prefix = ids[answer_start..].to_vec();
            (ids, prefix)
        };
        let input = ModelInput::new(ids, images);
        config.check_input(&input.ids, &input.images)?;
        let context = config.context();
        match input.ids.len() {
            prompt if prompt >= context => Err(ModelError::ContextTooShort { prompt, wanted: 1, context }),
            _ => Ok((input, prefix)),
        }
    }
}

/// The images of a question, weakened or not.
type Images = Vec<ImageInput>;

/// A question with the tokens and pixels that the model needs.
#[derive(Clone, Debug)]
pub struct PreparedQuestion {
    prompt: Prompt,
    /// Ids of the answer's prefix.
    prefix: Vec<u32>,
}
