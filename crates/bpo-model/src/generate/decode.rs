//! Batched decoding.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;

use bpo_pairs::{FinishReason, Sampling};
use burn::module::Module;
use rayon::prelude::*;

use super::contrast::ContrastInput;
use super::decoder::Decoder;
use super::sampling::Sampler;
use crate::error::ModelError;
use crate::input::ModelInput;
use crate::llava::Llava;
use crate::lora::Adapters;
use crate::pool::in_pool;

/// What the model reads and how its answer is drawn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prompt {
    /// What it reads.
    pub seen: ModelInput,
    /// What it is contrasted with, if with anything.
    pub against: Option<ContrastInput>,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

impl Prompt {
    /// A prompt that is answered as it is.
    pub fn new(seen: ModelInput, sampling: Sampling) -> Self {
        Self { seen, against: None, sampling }
    }

    /// Contrasts the prompt with another one.
    pub fn with_contrast(mut self, against: ContrastInput) -> Self {
        self.against = Some(against);
        self
    }
}

/// A decoded answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Ids, without the end token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Llava {
    /// Answers a batch of prompts, all at the same time.
    ///
    /// Rows are padded on the right and masked, so what else is in the batch changes an answer by rounding at most. Keys and values
    /// of a token are written in place; those of answers that have ended are let go of. `eos` are the ids that end an answer. A
    /// model in training answers as it does out of it: without dropout, and on no tape.
    ///
    /// On flex passes run in rayon's global pool, and the caller waits: it must hold no lock that other work in the pool takes.
    ///
    /// # Errors
    /// If a prompt fills the context, is not for this model, its image tokens and image do not fit together, or the logits
    /// are not numbers.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        eos: &[u32],
        adapters: Adapters,
    ) -> Result<Vec<Continuation>, ModelError> {
        let all = NonZeroUsize::new(prompts.len()).unwrap_or(NonZeroUsize::MIN);
        self.generate_continuous(prompts, all, eos, adapters)
    }

    /// As [`generate`](Self::generate), `at_a_time` prompts at most at the same time: others take the places of those whose answers
    /// have ended.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_continuous(
        &self,
        prompts: &[Prompt],
        at_a_time: NonZeroUsize,
        eos: &[u32],
        adapters: Adapters,
    ) -> Result<Vec<Continuation>, ModelError> {
        self.valid().decode(prompts, at_a_time.get(), eos, adapters)
    }

    /// The same of a model that is not in training.
    fn decode(
        &self,
        prompts: &[Prompt],
        at_a_time: usize,
        eos: &[u32],
        adapters: Adapters,
    ) -> Result<Vec<Continuation>, ModelError> {
        let context = self.config().text_config.max_position_embeddings;
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            for seen in prompt.rows() {
                self.config().check_input(&seen.ids, seen.view.pixels.as_ref())?;
                if seen.ids.len() >= context {
                    return Err(ModelError::ContextTooShort { prompt: seen.ids.len(), wanted: 1, context });
                }
            }
            let longest = prompt.rows().map(|seen| seen.ids.len()).max().unwrap_or(0);
            answers.push(Answer::new(prompt.sampling.max_new_tokens.min(context - longest)));
        }
        let mut waiting: VecDeque<_> = (0..prompts.len()).filter(|prompt| !answers[*prompt].done()).collect();
        let mut seats = Seats::default();
        let device = self.device();
        let mut decoder = Decoder::new(self, adapters);
        let mut logits: Vec<Vec<f32>> = Vec::new();
        loop {
            let running = seats.taken.iter().filter(|seat| !answers[seat.prompt].done()).count();
            if running == 0 && waiting.is_empty() {
                break;
            }
            let free = at_a_time - running;
            // rearranging copies what is kept: not for each answer that ends
            let refills = !waiting.is_empty() && (running == 0 || 4 * free >= at_a_time);
            if refills || 2 * running <= seats.taken.len() {
                let kept = seats.keep(|prompt| !answers[prompt].done());
                let new: Vec<_> = waiting.drain(..free.min(waiting.len())).collect();
                new.iter().for_each(|prompt| seats.add(*prompt, &prompts[*prompt]));
                let seen: Vec<_> = new.iter().flat_map(|prompt| prompts[*prompt].rows()).collect();
                let room = seats.taken.iter().map(|seat| answers[seat.prompt].left()).max().unwrap_or(0);
                let first = in_pool(&device, || decoder.arrange(&kept, &seen, room))?;
                logits = kept.iter().map(|row| std::mem::take(&mut logits[*row])).chain(first).collect();
            }

            let mut next = vec![0; logits.len()];
            let going_on = seats.taken.par_iter_mut().filter(|seat| !answers[seat.prompt].done());
            let drawn: Vec<_> = going_on.map(|seat| (seat.draw(prompts, &logits), &*seat)).collect();
            for (token, Seat { prompt, rows, .. }) in drawn {
                next[rows.clone()].fill(token);
                answers[*prompt].push(token, eos);
            }
            if seats.taken.iter().any(|seat| !answers[seat.prompt].done()) {
                logits = in_pool(&device, || decoder.step(&next))?;
            }
        }
        Ok(answers.into_iter().map(Answer::into_continuation).collect())
    }
}

impl Prompt {
    /// What it reads, and what that is contrasted with.
    fn rows(&self) -> impl Iterator<Item = &ModelInput> {
        std::iter::once(&self.seen).chain(self.against.as_ref().map(|against| &against.seen))
    }

    /// The logits that its next token is drawn from, of those of its rows.
    fn logits<'l>(&self, rows: &'l [Vec<f32>]) -> Cow<'l, [f32]> {
        match (&self.against, rows) {
            (Some(against), [own, other]) => Cow::Owned(against.contrast(own, other)),
            _ => Cow::Borrowed(&rows[0]),
        }
    }
}

/// The prompts that are answered now.
#[derive(Default)]
struct Seats {
    taken: Vec<Seat>,
    rows: usize,
}

struct Seat {
    prompt: usize,
    /// Its rows of the decoder.
    rows: Range<usize>,
    sampler: Sampler,
}

impl Seat {
    /// The next token.
    fn draw(&mut self, prompts: &[Prompt], logits: &[Vec<f32>]) -> u32 {
        self.sampler.draw(&prompts[self.prompt].logits(&logits[self.rows.clone()]))
    }
}

impl Seats {
    /// Lets go of the others. The rows that stay, by the numbers that they had; they are the first ones now.
    fn keep(&mut self, stays: impl Fn(usize) -> bool) -> Vec<usize> {
        let before = std::mem::take(self);
        let mut kept = Vec::new();
        for Seat { prompt, rows, sampler } in before.taken.into_iter().filter(|seat| stays(seat.prompt)) {
            kept.extend(rows.clone());
            self.take(prompt, rows.len(), sampler);
        }
        kept
    }

    fn add(&mut self, number: usize, prompt: &Prompt) {
        self.take(number, prompt.rows().count(), Sampler::new(&prompt.sampling));
    }

    fn take(&mut self, prompt: usize, rows: usize, sampler: Sampler) {
        self.taken.push(Seat { prompt, rows: self.rows..self.rows + rows, sampler });
        self.rows += rows;
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

    /// Tokens that it may still have.
    fn left(&self) -> usize {
        self.limit - self.ids.len()
    }

    fn push(&mut self, id: u32, eos: &[u32]) {
        match eos.contains(&id) {
            true => self.ended = true,
            false => self.ids.push(id),
        }
    }

    fn into_continuation(self) -> Continuation {
        let finish = if self.ended { FinishReason::Stop } else { FinishReason::Length };
        Continuation { ids: self.ids, finish }
    }
}
