//! Batched decoding.

use std::borrow::Cow;

use bpo_inject::{FinishReason, Sampling};
use burn::module::Module;

use super::contrast::Against;
use super::decoder::Decoder;
use super::sampling::Sampler;
use crate::error::ModelError;
use crate::llava::Llava;
use crate::lora::Adapters;
use crate::seen::Seen;

/// What the model reads and how its answer is drawn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prompt {
    /// What it reads.
    pub seen: Seen,
    /// What it is contrasted with, if with anything.
    pub against: Option<Against>,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

impl Prompt {
    /// A prompt that is answered as it is.
    pub fn new(seen: Seen, sampling: Sampling) -> Self {
        Self { seen, against: None, sampling }
    }

    /// Contrasts the prompt with another one.
    pub fn with_against(mut self, against: Against) -> Self {
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
    /// Answers a batch of prompts.
    ///
    /// Rows are padded on the right and masked, so what else is in the batch changes an answer by rounding at most.
    /// The cache for keys and values is allocated once and written in place. `eos` are the ids that end an answer. A model in
    /// training answers as it does out of it: without dropout, and on no tape.
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
        self.valid().decode(prompts, eos, adapters)
    }

    /// The same of a model that is not in training.
    fn decode(
        &self,
        prompts: &[Prompt],
        eos: &[u32],
        adapters: Adapters,
    ) -> Result<Vec<Continuation>, ModelError> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let rows = Rows::new(prompts);
        let context = self.config().text_config.max_position_embeddings;
        for seen in &rows.seen {
            self.config().check_input(&seen.ids, seen.view.pixels.as_ref())?;
            if seen.ids.len() >= context {
                return Err(ModelError::ContextTooShort { prompt: seen.ids.len(), wanted: 1, context });
            }
        }
        let limits: Vec<_> = (0..prompts.len())
            .map(|prompt| prompts[prompt].sampling.max_new_tokens.min(context - rows.longest(prompt)))
            .collect();
        let steps = limits.iter().copied().max().unwrap_or(0);
        let mut answers = vec![Answer::default(); prompts.len()];
        for (answer, limit) in answers.iter_mut().zip(&limits) {
            answer.done = *limit == 0;
        }
        let mut samplers: Vec<_> = prompts.iter().map(|prompt| Sampler::new(&prompt.sampling)).collect();

        let mut decoder = Decoder::new(self, &rows.seen, steps, adapters);
        let mut logits = decoder.prefill(&rows.seen)?;
        for _ in 0..steps {
            let mut next = vec![0; rows.seen.len()];
            for (prompt, answer) in answers.iter_mut().enumerate() {
                if !answer.done {
                    let token = samplers[prompt].draw(&rows.logits(prompt, &logits));
                    rows.of(prompt).for_each(|row| next[row] = token);
                    answer.push(token, eos, limits[prompt]);
                }
            }
            if answers.iter().all(|answer| answer.done) {
                break;
            }
            logits = decoder.step(&next)?;
        }
        Ok(answers.into_iter().map(Answer::into_continuation).collect())
    }
}

/// The rows of a batch: each prompt, and behind them what some are contrasted with.
struct Rows<'a> {
    prompts: &'a [Prompt],
    seen: Vec<&'a Seen>,
    /// Which row each prompt is contrasted with.
    others: Vec<Option<usize>>,
}

impl<'a> Rows<'a> {
    fn new(prompts: &'a [Prompt]) -> Self {
        let mut seen: Vec<&Seen> = prompts.iter().map(|prompt| &prompt.seen).collect();
        let mut others = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            others.push(prompt.against.as_ref().map(|_| seen.len()));
            seen.extend(prompt.against.as_ref().map(|against| &against.seen));
        }
        Self { prompts, seen, others }
    }

    /// The rows of a prompt.
    fn of(&self, prompt: usize) -> impl Iterator<Item = usize> {
        std::iter::once(prompt).chain(self.others[prompt])
    }

    /// Tokens of the longer one of these.
    fn longest(&self, prompt: usize) -> usize {
        self.of(prompt).map(|row| self.seen[row].ids.len()).max().unwrap_or(0)
    }

    /// The logits that a prompt's next token is drawn from.
    fn logits<'l>(&self, prompt: usize, logits: &'l [Vec<f32>]) -> Cow<'l, [f32]> {
        match (&self.prompts[prompt].against, self.others[prompt]) {
            (Some(against), Some(other)) => Cow::Owned(against.contrast(&logits[prompt], &logits[other])),
            _ => Cow::Borrowed(&logits[prompt]),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Answer {
    ids: Vec<u32>,
    done: bool,
    ended: bool,
}

impl Answer {
    fn push(&mut self, id: u32, eos: &[u32], limit: usize) {
        if eos.contains(&id) {
            (self.done, self.ended) = (true, true);
            return;
        }
        self.ids.push(id);
        self.done = self.ids.len() >= limit;
    }

    fn into_continuation(self) -> Continuation {
        let finish = if self.ended { FinishReason::Stop } else { FinishReason::Length };
        Continuation { ids: self.ids, finish }
    }
}
