//! Batched decoding, with continuous batching: a waiting prompt takes the place of an answer that
//! has ended.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};

use bpo_pairs::{FinishReason, Sampling};
use burn::module::Module;
use rayon::prelude::*;

use super::contrast::ContrastInput;
use super::rows::Rows;
use super::rules::Rules;
use super::sampling::Sampler;
use crate::error::ModelError;
use crate::input::ModelInput;
use crate::lora::Adapters;
use crate::pool::in_pool;
use crate::processor::GenerationSettings;
use crate::vlm::Vlm;

/// A prompt and how its answer is drawn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prompt {
    /// Token ids and image.
    pub input: ModelInput,
    /// The input that the prompt is contrasted with, if any.
    pub contrast: Option<ContrastInput>,
    /// Sampling parameters.
    pub sampling: Sampling,
}

impl Prompt {
    /// Creates a prompt without a contrast.
    pub fn new(input: ModelInput, sampling: Sampling) -> Self {
        Self { input, contrast: None, sampling }
    }

    /// Contrasts the prompt with another input.
    pub fn with_contrast(mut self, contrast: ContrastInput) -> Self {
        self.contrast = Some(contrast);
        self
    }
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Token ids, without the end token.
    pub ids: Vec<u32>,
    /// Why generation stopped.
    pub finish: FinishReason,
}

/// Receives the index of a prompt and its answer.
pub type OnContinuation<'a> = dyn FnMut(usize, Continuation) -> ControlFlow<()> + 'a;

impl Vlm {
    /// Generates an answer for each prompt, all at the same time.
    ///
    /// Rows are padded on the right and masked, so the other rows of a batch change an answer by
    /// rounding at most. Keys and values are written in place, and dropped when their answer has
    /// ended. A model in training state generates without dropout and without autodiff.
    ///
    /// `settings` change the logits of each answer before a token is drawn. Those of a prompt with a
    /// contrast are changed after the contrast, as in VCD's code, and given the tokens of the prompt
    /// itself. The beginning of an answer that is part of a prompt counts as the prompt's.
    ///
    /// On flex, forward passes run in rayon's global pool and the caller waits. The caller must not
    /// hold a lock that other work in the pool takes.
    ///
    /// # Errors
    /// [`ModelError::ContextTooShort`], [`ModelError::TokenOutside`], [`ModelError::ImageSize`] or
    /// [`ModelError::ImageTokens`] for a prompt that does not fit the model;
    /// [`ModelError::NoSuchLayer`] for a layer of [`ImageInput::attended`](crate::ImageInput::attended)
    /// that the model does not have; [`ModelError::NotFinite`] if the logits are not finite; [`ModelError::NoTokenLeft`] if
    /// `settings` exclude every token.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        settings: &GenerationSettings,
        adapters: Adapters,
    ) -> Result<Vec<Continuation>, ModelError> {
        let all = NonZeroUsize::new(prompts.len()).unwrap_or(NonZeroUsize::MIN);
        self.generate_continuous(prompts, all, settings, adapters)
    }

    /// Generates as [`generate`](Self::generate) does, with at most `at_a_time` prompts at the same
    /// time. Waiting prompts take the places of answers that have ended.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate).
    pub fn generate_continuous(
        &self,
        prompts: &[Prompt],
        at_a_time: NonZeroUsize,
        settings: &GenerationSettings,
        adapters: Adapters,
    ) -> Result<Vec<Continuation>, ModelError> {
        let mut answers = vec![None; prompts.len()];
        self.generate_each(prompts, at_a_time, settings, adapters, &mut |prompt, answer| {
            answers[prompt] = Some(answer);
            ControlFlow::Continue(())
        })?;
        Ok(answers.into_iter().map(|answer| answer.expect("an answer to each prompt")).collect())
    }

    /// Generates as [`generate_continuous`](Self::generate_continuous) does, and passes each answer
    /// with the index of its prompt to `on_answer` as soon as it ends. [`ControlFlow::Break`] stops
    /// the generation of the others.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate). Answers that have ended before were passed on.
    pub fn generate_each(
        &self,
        prompts: &[Prompt],
        at_a_time: NonZeroUsize,
        settings: &GenerationSettings,
        adapters: Adapters,
        on_answer: &mut OnContinuation<'_>,
    ) -> Result<(), ModelError> {
        self.valid().decode(prompts, at_a_time.get(), settings, adapters, on_answer)
    }

    /// Generates with a model that is not in training state.
    fn decode(
        &self,
        prompts: &[Prompt],
        at_a_time: usize,
        settings: &GenerationSettings,
        adapters: Adapters,
        on_answer: &mut OnContinuation<'_>,
    ) -> Result<(), ModelError> {
        let context = self.config().context();
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            for input in prompt.rows() {
                self.config().check_input(&input.ids, &input.images)?;
                if input.ids.len() >= context {
                    return Err(ModelError::ContextTooShort { prompt: input.ids.len(), wanted: 1, context });
                }
            }
            let longest = prompt.rows().map(|input| input.ids.len()).max().unwrap_or(0);
            answers.push(Answer::new(prompt.sampling.max_new_tokens.min(context - longest)));
        }
        let changed: Vec<Prompt>;
        let prompts = if prompts.iter().any(Prompt::is_attended) {
            let changed_prompts = prompts.iter().map(|prompt| self.hide_attended(prompt, adapters));
            changed = changed_prompts.collect::<Result<_, _>>()?;
            &changed
        } else {
            prompts
        };
        let (ended, waiting): (Vec<_>, Vec<_>) =
            (0..prompts.len()).partition(|prompt| answers[*prompt].done());
        for prompt in ended {
            if on_answer(prompt, answers[prompt].take()).is_break() {
                return Ok(());
            }
        }
        let mut waiting = VecDeque::from(waiting);
        let mut seats = Seats::default();
        let device = self.device();
        let mut decoder = Rows::new(self, adapters);
        let mut logits: Vec<Vec<f32>> = Vec::new();
        loop {
            let running = seats.taken.iter().filter(|seat| !answers[seat.prompt].done()).count();
            if running == 0 && waiting.is_empty() {
                break;
            }
            let free = at_a_time - running;
            // rearranging copies the cache, so it is not done for each answer that ends
            let refills = !waiting.is_empty() && (running == 0 || 4 * free >= at_a_time);
            if refills || 2 * running <= seats.taken.len() {
                let kept = seats.keep(|prompt| !answers[prompt].done());
                let new: Vec<_> = waiting.drain(..free.min(waiting.len())).collect();
                new.iter().for_each(|prompt| seats.add(*prompt, &prompts[*prompt], settings));
                let inputs: Vec<_> = new.iter().flat_map(|prompt| prompts[*prompt].rows()).collect();
                let room = seats.taken.iter().map(|seat| answers[seat.prompt].left()).max().unwrap_or(0);
                let first = in_pool(&device, || decoder.arrange(&kept, &inputs, room))?;
                logits = kept.iter().map(|row| std::mem::take(&mut logits[*row])).chain(first).collect();
            }

            let mut next = vec![0; logits.len()];
            let going_on = seats.taken.par_iter_mut().filter(|seat| !answers[seat.prompt].done());
            let drawn = going_on.map(|seat| Ok((seat.draw(prompts, &logits)?, &*seat)));
            let drawn: Vec<_> = drawn.collect::<Result<_, ModelError>>()?;
            let mut ended = Vec::new();
            for (token, Seat { prompt, rows, .. }) in drawn {
                next[rows.clone()].fill(token);
                answers[*prompt].push(token, &settings.stop);
                if answers[*prompt].done() {
                    ended.push(*prompt);
                }
            }
            for prompt in ended {
                if on_answer(prompt, answers[prompt].take()).is_break() {
                    return Ok(());
                }
            }
            if seats.taken.iter().any(|seat| !answers[seat.prompt].done()) {
                logits = in_pool(&device, || decoder.step(&next))?;
            }
        }
        Ok(())
    }
}

impl Prompt {
    /// The prompt, and the input that it is contrasted with.
    fn rows(&self) -> impl Iterator<Item = &ModelInput> {
        std::iter::once(&self.input).chain(self.contrast.as_ref().map(|contrast| &contrast.input))
    }

    /// Whether tokens of an image are to be hidden by the attention to them.
    fn is_attended(&self) -> bool {
        self.rows().any(|input| input.images.iter().any(|image| !image.attended.is_empty()))
    }

    /// The logits to draw the next token from, given those of the prompt's rows.
    fn logits<'l>(&self, rows: &'l [Vec<f32>]) -> Cow<'l, [f32]> {
        match (&self.contrast, rows) {
            (Some(contrast), [own, other]) => Cow::Owned(contrast.logits(own, other)),
            _ => Cow::Borrowed(&rows[0]),
        }
    }
}

/// The prompts that are being answered, in the order of their rows in the decoder.
#[derive(Default)]
struct Seats<'a> {
    taken: Vec<Seat<'a>>,
    rows: usize,
}

struct Seat<'a> {
    prompt: usize,
    /// Rows in the decoder: the prompt's, then the contrast's.
    rows: Range<usize>,
    sampler: Sampler,
    rules: Rules<'a>,
}

impl Seat<'_> {
    /// Draws the next token.
    fn draw(&mut self, prompts: &[Prompt], logits: &[Vec<f32>]) -> Result<u32, ModelError> {
        let logits = self.rules.apply(prompts[self.prompt].logits(&logits[self.rows.clone()]))?;
        let token = self.sampler.draw(&logits);
        self.rules.push(token);
        Ok(token)
    }
}

impl<'a> Seats<'a> {
    /// Keeps the seats of prompts for which `stays` holds. Returns the old numbers of the rows that
    /// stay; they are renumbered from 0.
    fn keep(&mut self, stays: impl Fn(usize) -> bool) -> Vec<usize> {
        let before = std::mem::take(self);
        let mut kept = Vec::new();
        for seat in before.taken.into_iter().filter(|seat| stays(seat.prompt)) {
            kept.extend(seat.rows.clone());
            self.take(seat);
        }
        kept
    }

    fn add(&mut self, number: usize, prompt: &Prompt, settings: &'a GenerationSettings) {
        let (sampler, rules) = (Sampler::new(&prompt.sampling), Rules::new(settings, &prompt.input.ids));
        self.take(Seat { prompt: number, rows: 0..prompt.rows().count(), sampler, rules });
    }

    /// Appends a seat, whose rows come after those of the others.
    fn take(&mut self, seat: Seat<'a>) {
        let rows = self.rows..self.rows + seat.rows.len();
        self.rows = rows.end;
        self.taken.push(Seat { rows, ..seat });
    }
}

#[derive(Clone, Debug)]
struct Answer {
    ids: Vec<u32>,
    limit: usize,
    ended: bool,
}

impl Answer {
    fn new(limit: usize) -> Self {
        Self { ids: Vec::new(), limit, ended: false }
    }

    fn done(&self) -> bool {
        self.ended || self.left() == 0
    }

    /// Tokens that may still be generated.
    fn left(&self) -> usize {
        self.limit - self.ids.len()
    }

    fn push(&mut self, id: u32, eos: &[u32]) {
        if eos.contains(&id) {
            self.ended = true;
        } else {
            self.ids.push(id);
        }
    }

    /// Takes the answer out of a [done](Self::done) one, which stays done.
    fn take(&mut self) -> Continuation {
        let finish = if self.ended { FinishReason::Stop } else { FinishReason::Length };
        self.limit = 0;
        Continuation { ids: std::mem::take(&mut self.ids), finish }
    }
}
