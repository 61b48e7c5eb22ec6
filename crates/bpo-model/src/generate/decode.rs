//! Batched decoding.

use bpo_inject::{FinishReason, Sampling};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use super::sampling::Sampler;
use crate::error::ModelError;
use crate::llama::KvCache;
use crate::llava::{Llava, causal_mask, ids, pixel_tensor};
use crate::lora::Adapters;
use crate::processor::PixelValues;

/// A tokenized prompt and how its answer is drawn.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Ids, one image token for each image feature.
    pub ids: Vec<u32>,
    /// The image that the image tokens stand for.
    pub pixels: Option<PixelValues>,
    /// How the answer is drawn.
    pub sampling: Sampling,
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
        let context = self.config().text_config.max_position_embeddings;
        let mut limits = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            self.config().check_input(&prompt.ids, prompt.pixels.as_ref())?;
            if prompt.ids.len() >= context {
                return Err(ModelError::ContextTooShort { prompt: prompt.ids.len(), wanted: 1, context });
            }
            limits.push(prompt.sampling.max_new_tokens.min(context - prompt.ids.len()));
        }
        let steps = limits.iter().copied().max().unwrap_or(0);
        let mut answers = vec![Answer::default(); prompts.len()];
        for (answer, limit) in answers.iter_mut().zip(&limits) {
            answer.done = *limit == 0;
        }
        let mut samplers: Vec<_> = prompts.iter().map(|prompt| Sampler::new(&prompt.sampling)).collect();

        let lens: Vec<_> = prompts.iter().map(|prompt| prompt.ids.len()).collect();
        let width = lens.iter().copied().max().unwrap_or(0);
        let mut cache = self.cache(prompts.len(), width + steps);
        let mut logits = self.prefill(prompts, &lens, width, &mut cache, adapters)?;
        for step in 0..steps {
            let mut next = vec![0; prompts.len()];
            for (row, answer) in answers.iter_mut().enumerate() {
                if !answer.done {
                    next[row] = samplers[row].draw(&logits[row]);
                    answer.push(next[row], eos, limits[row]);
                }
            }
            if answers.iter().all(|answer| answer.done) {
                break;
            }
            logits = self.decode_step(&next, &lens, width, step, &mut cache, adapters)?;
        }
        Ok(answers.into_iter().map(Answer::into_continuation).collect())
    }

    fn cache(&self, rows: usize, capacity: usize) -> KvCache {
        let text = &self.config().text_config;
        KvCache::new(
            text.num_hidden_layers,
            [rows, text.kv_heads(), capacity, text.head_dim()],
            self.dtype().into(),
            &self.device(),
        )
    }

    /// Runs the prompts; gives the logits of each row's first new token.
    fn prefill(
        &self,
        prompts: &[Prompt],
        lens: &[usize],
        width: usize,
        cache: &mut KvCache,
        adapters: Adapters,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let (device, dtype, rows) = (self.device(), self.dtype(), prompts.len());
        let mut pixels = Vec::new();
        let image_of_row: Vec<_> = prompts
            .iter()
            .map(|prompt| prompt.pixels.as_ref().map(|image| place_of(image, &mut pixels)))
            .collect();
        let features = pixel_tensor(&pixels, &device)
            .map(|pixels| self.project(self.encode_images(pixels, adapters), adapters));
        let padded: Vec<_> = prompts
            .iter()
            .map(|prompt| {
                let mut row = prompt.ids.clone();
                row.resize(width, self.config().padding());
                row
            })
            .collect();

        let x = self.embed(&padded, &image_of_row, features.as_ref())?;
        let tables = self.rope().tables(&vec![(0..width).collect(); rows], dtype, &device);
        let mask = causal_mask(&vec![0; rows], 0, 0, width, &device);
        let hidden = self.language_model.forward(x, &tables, &mask, cache, adapters);
        cache.advance(width);
        let last: Vec<_> = lens.iter().enumerate().map(|(row, len)| (row * width + len - 1) as u32).collect();
        let size = hidden.dims()[2];
        let hidden = hidden.reshape([rows * width, size]).select(0, ids(&last, &device));
        rows_of(self.head(hidden))
    }

    /// Runs one new token of each row; gives the logits of the next.
    fn decode_step(
        &self,
        tokens: &[u32],
        lens: &[usize],
        width: usize,
        step: usize,
        cache: &mut KvCache,
        adapters: Adapters,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let (device, dtype) = (self.device(), self.dtype());
        let x = self.language_model.embed(ids(tokens, &device)).unsqueeze_dim::<3>(1);
        let positions: Vec<_> = lens.iter().map(|len| vec![len + step]).collect();
        let tables = self.rope().tables(&positions, dtype, &device);
        let mask = causal_mask(lens, width, step, 1, &device);
        let hidden = self.language_model.forward(x, &tables, &mask, cache, adapters);
        cache.advance(1);
        rows_of(self.head(hidden.squeeze_dim::<2>(1)))
    }
}

/// Where an image is, after it was added if it was not there: several questions about one encode it once.
fn place_of<'a>(image: &'a PixelValues, images: &mut Vec<&'a PixelValues>) -> usize {
    images.iter().position(|known| *known == image).unwrap_or_else(|| {
        images.push(image);
        images.len() - 1
    })
}

/// `[rows, vocab]` on the host.
fn rows_of(logits: Tensor<2>) -> Result<Vec<Vec<f32>>, ModelError> {
    let [_, vocab] = logits.dims();
    let data: TensorData = logits.into_data();
    let values: Vec<f32> = data.iter::<f32>().collect();
    if !values.iter().all(|logit| logit.is_finite()) {
        return Err(ModelError::NotFinite { what: "logits".into() });
    }
    Ok(values.chunks(vocab).map(<[f32]>::to_vec).collect())
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
