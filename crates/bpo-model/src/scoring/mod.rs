//! Log-probabilities of completions. Each image and prompt is computed once for all of its
//! completions.

mod batch;
#[cfg(feature = "dpo")]
mod divergences;
#[cfg(feature = "dpo")]
mod policy;
mod tokens;

use burn::tensor::{Bool, Int, Tensor, TensorData};

pub use batch::ScoreBatch;
#[cfg(feature = "dpo")]
pub(crate) use tokens::BatchTokens;

use crate::decoder::{Masks, NoKv, Positions, Shared};
use crate::error::ModelError;
use crate::input::ImageInput;
use crate::kernels::{PrefixLayout, log_softmax};
use crate::lora::Adapters;
use crate::pool::in_pool;
use crate::vlm::{PackedFeatures, Vlm, ids};

/// Rows of the head that are computed at a time.
pub(crate) const HEAD_CHUNK: usize = 512;

impl Vlm {
    /// Computes the logits of a whole sequence in f32, `[tokens, vocab]`: the plain forward pass,
    /// with nothing shared or left out.
    ///
    /// # Errors
    /// [`ModelError::ImageTokens`] if there is another number of image tokens than of image
    /// features; those of [`VlmConfig::check_input`](crate::VlmConfig::check_input).
    pub fn logits(
        &self,
        sequence: &[u32],
        images: &[ImageInput],
        adapters: Adapters,
    ) -> Result<Tensor<2>, ModelError> {
        self.config().check_input(sequence, images)?;
        let device = self.device();
        let layouts: Vec<_> = images.iter().map(|image| &image.layout).collect();
        let features = self.encode_images(&images.iter().collect::<Vec<_>>(), adapters);
        let features = features.map(|features| self.project(&features, &layouts, adapters));
        let own: Vec<usize> = (0..images.len()).collect();
        let (x, deepstack) = self.embed(&[sequence.to_vec()], &[&own], features.as_ref())?;
        let positions = self.config().family().positions(sequence, &layouts);
        let tables = self.rope().tables(&[positions], self.dtype(), &device);
        let masks = Masks::new(&self.language_model, &[0], [0, 0, sequence.len()], &[], &device);
        let hidden = self.language_model.forward(x, &deepstack, &tables, &masks, &mut NoKv, adapters);
        Ok(self.head(hidden.squeeze_dim::<2>(0), adapters))
    }

    /// Computes the log-probability of every completion token given all tokens before it, and a
    /// mask of these tokens.
    ///
    /// On flex without autodiff, the forward pass runs in rayon's global pool and the caller waits.
    /// The caller must not hold a lock that other work in the pool takes.
    ///
    /// # Shapes
    /// - output: both `[completions, tokens]`; log-probabilities are in nats and f32, zero at
    ///   padding
    ///
    /// # Errors
    /// [`ModelError::ImageTokens`] or [`ModelError::NoCompletion`].
    pub fn completion_logps(
        &self,
        batch: &ScoreBatch,
        adapters: Adapters,
    ) -> Result<(Tensor<2>, Tensor<2, Bool>), ModelError> {
        let ([logps], mask) = self.at_completion_tokens(batch, adapters, |logits, targets| {
            [log_softmax(logits).gather(1, targets)]
        })?;
        Ok((logps.squeeze_dim::<2>(2), mask))
    }

    /// Applies `of` to the logits of completion tokens, in chunks, so that the logits of all tokens
    /// never exist at once. In training, adapters have [noise](crate::LoraConfig::lora_noise),
    /// drawn once for all completions. Returns the results and a mask of completion tokens. The caller must
    /// not hold the locks that [`completion_logps`](Self::completion_logps) describes.
    ///
    /// # Shapes
    /// - `of`: takes f32 logits, `[n, vocab]`, and the tokens that follow, `[n, 1]`; gives `[n,
    ///   columns]` each
    /// - output: each `[completions, tokens, columns]`, zero at padding; the mask is `[completions,
    ///   tokens]`
    ///
    /// # Errors
    /// Those of [`completion_logps`](Self::completion_logps).
    pub fn at_completion_tokens<const N: usize>(
        &self,
        batch: &ScoreBatch,
        adapters: Adapters,
        of: impl Fn(Tensor<2>, Tensor<2, Int>) -> [Tensor<2>; N],
    ) -> Result<([Tensor<3>; N], Tensor<2, Bool>), ModelError> {
        let perturbed = self.perturbed(adapters);
        let model = perturbed.as_ref().unwrap_or(self);
        let hidden = in_pool(&self.device(), || model.completion_states(batch, adapters))?;
        Ok(model.map_head(batch, hidden, adapters, of))
    }

    /// Vision features of the images.
    fn features(&self, batch: &ScoreBatch, adapters: Adapters) -> Option<PackedFeatures> {
        match &batch.features {
            Some(known) if self.device().is_autodiff() => Some(known.map(Tensor::from_inner)),
            Some(known) => Some(known.clone()),
            None => self.encode_images(&batch.images.iter().collect::<Vec<_>>(), adapters),
        }
    }

    /// Returns the batch with the vision features of its images. Forward passes of this model, of
    /// its [valid](burn::module::Module::valid) form, and of itself with adapters off do not
    /// compute them again.
    ///
    /// Returns `None` if the vision tower is trained or has adapters, if there is no image, and for
    /// a model on a device without autodiff, which does not know what is trained.
    pub fn with_features(&self, batch: &ScoreBatch) -> Option<ScoreBatch> {
        if !self.device().is_autodiff() || self.changes_vision() {
            return None;
        }
        let features = self.features(batch, Adapters::Off)?.map(Tensor::inner);
        Some(ScoreBatch { features: Some(features), ..batch.clone() })
    }

    /// Hidden states of the completions' rows, `[completions, width, hidden]`.
    fn completion_states(&self, batch: &ScoreBatch, adapters: Adapters) -> Result<Tensor<3>, ModelError> {
        if batch.is_empty() {
            return Err(ModelError::NoCompletion);
        }
        let (device, dtype) = (self.device(), self.dtype());
        let features = self.features(batch, adapters);
        let features = features.map(|features| self.project(&features, &batch.layouts(), adapters));
        let batch = &batch.tokens;

        let inputs: Vec<_> = batch.rows.iter().map(|row| row.inputs.clone()).collect();
        let (rows, nothing) = self.embed(&inputs, &vec![&[][..]; inputs.len()], None)?;
        let lens: Vec<_> = batch.rows.iter().map(|row| batch.prefix_lens[row.group]).collect();
        let tables = |positions: &[Positions]| self.rope().tables(positions, dtype, &device);
        // completions follow the prefix of their group, which is computed once
        let before = batch.prefixes.first().map_or(0, Vec::len);
        let positions = batch.rows.iter().map(|row| {
            let prefix = &batch.positions[row.group];
            Positions::sequential(prefix.next(), batch.width)
        });
        let masks = |lens: &[usize], sizes| Masks::new(&self.language_model, lens, sizes, &[], &device);
        let row_masks = masks(&lens, [before, 0, batch.width]);
        if before == 0 {
            let tables = tables(&positions.collect::<Vec<_>>());
            let decoder = &self.language_model;
            return Ok(decoder.forward(rows, &nothing, &tables, &row_masks, &mut NoKv, adapters));
        }
        let images: Vec<_> = batch.images_of_group.iter().map(Vec::as_slice).collect();
        let (prefix, deepstack) = self.embed(&batch.prefixes, &images, features.as_ref())?;
        let of_prefixes = batch.positions.iter().map(|positions| positions.padded(before));
        let prefix_of_row: Vec<_> = batch.rows.iter().map(|row| row.group as u32).collect();
        let tables = tables(&of_prefixes.chain(positions).collect::<Vec<_>>());
        let layout = PrefixLayout {
            prefixes: batch.prefixes.len(),
            before,
            rows: batch.rows.len(),
            tokens: batch.width,
            full: batch.prefix_lens.iter().all(|len| *len == before),
            causal: true,
            each: batch.rows_of_each_prefix(),
            scale: tables.score_scale(),
        };
        let shared = Shared {
            tables,
            // padding is at the end, so all prefixes have the same mask
            prefix_masks: masks(&[0], [0, 0, before]),
            row_masks,
            prefix_of_row: ids(&prefix_of_row, &device),
            layout,
            adapters,
        };
        let recompute = self.uses_gradient_checkpointing();
        Ok(self.language_model.forward_shared(prefix, &deepstack, rows, shared, recompute))
    }

    /// Applies the head to completion tokens only, in chunks.
    fn map_head<const N: usize>(
        &self,
        batch: &ScoreBatch,
        hidden: Tensor<3>,
        adapters: Adapters,
        of: impl Fn(Tensor<2>, Tensor<2, Int>) -> [Tensor<2>; N],
    ) -> ([Tensor<3>; N], Tensor<2, Bool>) {
        self.map_states(batch, [hidden], |[hidden], targets| {
            let targets = if hidden.is_autodiff() { Tensor::from_inner(targets) } else { targets };
            of(self.head(hidden, adapters), targets)
        })
    }

    /// Applies `of` to the hidden states of completion tokens in chunks, given the states of the
    /// rows of one or several models.
    ///
    /// # Shapes
    /// - `states`: each `[completions, width, hidden]`
    /// - `of`: takes `[n, hidden]` of each model and the tokens that follow, `[n, 1]`, off the tape;
    ///   gives `[n, columns]` each
    /// - output: as that of [`at_completion_tokens`](Self::at_completion_tokens)
    fn map_states<const M: usize, const N: usize>(
        &self,
        batch: &ScoreBatch,
        states: [Tensor<3>; M],
        of: impl Fn([Tensor<2>; M], Tensor<2, Int>) -> [Tensor<2>; N],
    ) -> ([Tensor<3>; N], Tensor<2, Bool>) {
        let (device, batch) = (self.device(), &batch.tokens);
        let (rows, width) = (batch.rows.len(), batch.width);
        let states = states.map(|states| {
            let size = states.dims()[2];
            states.reshape([rows * width, size])
        });
        let tokens = batch.rows.iter().map(|row| row.targets.len() - row.first).max().unwrap_or(0);
        let total = batch.completion_tokens();

        // where each completion token's hidden state lies, and where its log-probability goes
        let mut sources = Vec::with_capacity(total);
        let mut targets = Vec::with_capacity(total);
        let mut places = vec![total as u32; rows * tokens];
        let mut mask = vec![false; rows * tokens];
        for (r, row) in batch.rows.iter().enumerate() {
            for (t, position) in (row.first..row.targets.len()).enumerate() {
                places[r * tokens + t] = sources.len() as u32;
                mask[r * tokens + t] = true;
                sources.push((r * width + position) as u32);
                targets.push(row.targets[position]);
            }
        }

        let mut chunks: [Vec<Tensor<2>>; N] = std::array::from_fn(|_| Vec::new());
        for (sources, targets) in sources.chunks(HEAD_CHUNK).zip(targets.chunks(HEAD_CHUNK)) {
            let at_tokens = |states: &Tensor<2>| states.clone().select(0, ids(sources, &states.device()));
            let targets: Tensor<2, Int> = ids(targets, &device.clone().inner()).unsqueeze_dim(1);
            let results = of(std::array::from_fn(|model| at_tokens(&states[model])), targets);
            chunks.iter_mut().zip(results).for_each(|(chunks, chunk)| chunks.push(chunk));
        }
        let spread = chunks.map(|mut chunks| {
            let Some(first) = chunks.first() else { return Tensor::zeros([rows, tokens, 0], &device) };
            let (columns, device) = (first.dims()[1], first.device());
            // what padding gets
            chunks.push(Tensor::zeros([1, columns], (&device, first.dtype())));
            Tensor::cat(chunks, 0).select(0, ids(&places, &device)).reshape([rows, tokens, columns])
        });
        (spread, Tensor::from_data(TensorData::new(mask, [rows, tokens]), &device))
    }
}

#[cfg(test)]
mod tests;
