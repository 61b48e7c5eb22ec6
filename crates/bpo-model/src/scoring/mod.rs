//! Log-probabilities of completions. Each image and prompt is computed once for all of its
//! completions.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::decoder::{NoKv, Shared, causal_mask};
use crate::error::ModelError;
use crate::families::llava::LlavaConfig;
use crate::kernels::{PrefixLayout, log_softmax};
use crate::lora::Adapters;
use crate::memory::BatchShape;
use crate::pool::in_pool;
use crate::processor::{PixelValues, TokenizedCompletion};
use crate::vlm::{Vlm, ids, pixel_tensor};

/// Rows of the head that are computed at a time.
pub(crate) const HEAD_CHUNK: usize = 512;

/// Prompts and their completions, tokenized and split into a shared prefix and the rest of each
/// completion.
#[derive(Clone, Debug)]
pub struct ScoreBatch {
    pixels: Arc<[PixelValues]>,
    /// Vision features of the images, if they were computed already; on no tape. `[images, tokens,
    /// vision hidden]`
    features: Option<Tensor<3>>,
    /// Right-padded token ids, by group.
    prefixes: Vec<Vec<u32>>,
    prefix_lens: Vec<usize>,
    image_of_group: Vec<Option<usize>>,
    /// One per completion.
    rows: Vec<Row>,
    width: usize,
}

/// The tokens that one completion adds to its prefix.
#[derive(Clone, Debug)]
struct Row {
    group: usize,
    /// Input ids, right-padded. Each predicts the target at the same index.
    inputs: Vec<u32>,
    /// The inputs shifted by one, not padded.
    targets: Vec<u32>,
    /// Index of the first target that belongs to the completion.
    first: usize,
}

impl ScoreBatch {
    /// Prepares groups of completions.
    ///
    /// `groups` has, for each prompt, its image (an index into `pixels`) and its completions,
    /// tokenized with the prompt.
    ///
    /// # Errors
    /// [`ModelError::ContextTooShort`], [`ModelError::EmptyPrompt`], [`ModelError::EmptyAnswer`],
    /// [`ModelError::ImageTokens`], [`ModelError::ImageTokenBehind`], [`ModelError::ImageSize`] or
    /// [`ModelError::TokenOutside`] for the first sequence or image that does not fit the model.
    pub fn new(
        config: &LlavaConfig,
        pixels: Vec<PixelValues>,
        groups: &[(Option<usize>, Vec<TokenizedCompletion>)],
    ) -> Result<Self, ModelError> {
        let context = config.text_config.max_position_embeddings;
        pixels.iter().try_for_each(|pixels| config.check_input(&[], Some(pixels)))?;
        let mut batch = Self {
            pixels: pixels.into(),
            features: None,
            prefixes: Vec::new(),
            prefix_lens: Vec::new(),
            image_of_group: groups.iter().map(|(image, _)| *image).collect(),
            rows: Vec::new(),
            width: 0,
        };
        for (group, (image, completions)) in groups.iter().enumerate() {
            let shared = shared_len(completions);
            for TokenizedCompletion { ids, answer_start, .. } in completions {
                config.check_input(ids, None)?;
                if *answer_start == 0 {
                    return Err(ModelError::EmptyPrompt);
                }
                if ids.len() > context {
                    let wanted = ids.len().saturating_sub(*answer_start);
                    return Err(ModelError::ContextTooShort { prompt: *answer_start, wanted, context });
                }
                if ids.len() <= *answer_start {
                    return Err(ModelError::EmptyAnswer { prompt: *answer_start });
                }
                check_image_tokens(config, image.is_some(), &ids[..shared], &ids[shared..])?;
            }
            batch.prefixes.push(completions.first().map_or(Vec::new(), |first| first.ids[..shared].to_vec()));
            batch.prefix_lens.push(shared);
            batch.rows.extend(completions.iter().map(|TokenizedCompletion { ids, answer_start, .. }| Row {
                group,
                inputs: ids[shared..ids.len() - 1].to_vec(),
                targets: ids[shared + 1..].to_vec(),
                first: answer_start - shared - 1,
            }));
        }
        pad(batch.prefixes.iter_mut(), config.padding());
        batch.width = pad(batch.rows.iter_mut().map(|row| &mut row.inputs), config.padding());
        Ok(batch)
    }

    /// Number of completions.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no completion.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The images of the batch.
    pub fn pixels(&self) -> &[PixelValues] {
        &self.pixels
    }

    /// The image of each completion, as an index, and all its token ids, prompt included.
    pub fn sequences(&self) -> impl Iterator<Item = (Option<usize>, Vec<u32>)> + '_ {
        self.rows.iter().map(|row| {
            let prefix = &self.prefixes[row.group][..self.prefix_lens[row.group]];
            let first = row.inputs.first().copied();
            (
                self.image_of_group[row.group],
                prefix.iter().copied().chain(first).chain(row.targets.iter().copied()).collect(),
            )
        })
    }

    /// Number of tokens of each completion with its prompt, image features included.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.sequences().map(|(_, ids)| ids.len())
    }

    /// The sizes of the batch.
    pub fn shape(&self) -> BatchShape {
        BatchShape {
            images: self.pixels.len(),
            prompts: self.prefixes.len(),
            prompt_tokens: self.prefixes.first().map_or(0, Vec::len),
            completions: self.rows.len(),
            completion_tokens: self.width,
            targets: self.completion_tokens(),
        }
    }

    /// Number of completions per prompt, where all prompts have the same number.
    fn rows_of_each_prefix(&self) -> Option<usize> {
        let each = self.rows.len() / self.prefixes.len().max(1);
        let even = self.rows.iter().enumerate().all(|(at, row)| at.checked_div(each) == Some(row.group));
        (even && each * self.prefixes.len() == self.rows.len()).then_some(each)
    }

    /// Number of completion tokens, end tokens included.
    pub fn completion_tokens(&self) -> usize {
        self.rows.iter().map(|row| row.targets.len() - row.first).sum()
    }
}

/// Length of the prefix that all completions share, without the last token of the prompt. That
/// token predicts the first token of each completion, so it belongs to their rows.
fn shared_len(completions: &[TokenizedCompletion]) -> usize {
    let start = completions.iter().map(|completion| completion.answer_start).min().unwrap_or(0);
    let Some((first, rest)) = completions.split_first() else { return 0 };
    let same = rest.iter().fold(start, |same, completion| {
        first.ids.iter().zip(&completion.ids).take(same).take_while(|(a, b)| a == b).count()
    });
    same.saturating_sub(1)
}

/// Checks that all image tokens belong to the shared prefix, one for each feature.
fn check_image_tokens(
    config: &LlavaConfig,
    has_image: bool,
    prefix: &[u32],
    rest: &[u32],
) -> Result<(), ModelError> {
    let count = |ids: &[u32]| ids.iter().filter(|id| **id == config.image_token()).count();
    let expected = if has_image { config.image_tokens() } else { 0 };
    let found = count(prefix) + count(rest);
    if found != expected {
        return Err(ModelError::ImageTokens { expected, found });
    }
    if count(rest) > 0 { Err(ModelError::ImageTokenBehind) } else { Ok(()) }
}

/// Pads rows on the right to one length, which is returned. No token attends to the padding.
fn pad<'a>(rows: impl Iterator<Item = &'a mut Vec<u32>>, padding: u32) -> usize {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    rows.into_iter().for_each(|row| row.resize(width, padding));
    width
}

impl Vlm {
    /// Computes the logits of a whole sequence in f32, `[tokens, vocab]`: the plain forward pass,
    /// with nothing shared or left out.
    ///
    /// # Errors
    /// [`ModelError::ImageTokens`] if there is another number of image tokens than of image
    /// features.
    pub fn logits(
        &self,
        sequence: &[u32],
        pixels: Option<&PixelValues>,
        adapters: Adapters,
    ) -> Result<Tensor<2>, ModelError> {
        let device = self.device();
        let pixels: Vec<_> = pixels.into_iter().collect();
        let features = pixel_tensor(&pixels, &device)
            .map(|pixels| self.project(self.encode_images(pixels, adapters), adapters));
        let x = self.embed(&[sequence.to_vec()], &[features.as_ref().map(|_| 0)], features.as_ref())?;
        let tables = self.rope().tables(&[(0..sequence.len()).collect()], self.dtype(), &device);
        let mask = causal_mask(&[0], 0, 0, sequence.len(), &[], &device);
        let hidden = self.language_model.forward(x, &tables, &mask, &mut NoKv, adapters);
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
    /// [`ModelError::ImageTokens`], [`ModelError::NoSuchImage`] or [`ModelError::NoCompletion`].
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
    /// never exist at once. Returns the results and a mask of completion tokens. The caller must
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
        let hidden = in_pool(&self.device(), || self.completion_states(batch, adapters))?;
        Ok(self.map_head(batch, hidden, adapters, of))
    }

    /// Vision features of the images, `[images, tokens, vision hidden]`.
    fn features(&self, batch: &ScoreBatch, adapters: Adapters) -> Option<Tensor<3>> {
        let device = self.device();
        match &batch.features {
            Some(known) if device.is_autodiff() => Some(Tensor::from_inner(known.clone())),
            Some(known) => Some(known.clone()),
            None => {
                let pixels: Vec<_> = batch.pixels.iter().collect();
                pixel_tensor(&pixels, &device).map(|pixels| self.encode_images(pixels, adapters))
            }
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
        let features = self.features(batch, Adapters::Off)?.inner();
        Some(ScoreBatch { features: Some(features), ..batch.clone() })
    }

    /// Hidden states of the completions' rows, `[completions, width, hidden]`.
    fn completion_states(&self, batch: &ScoreBatch, adapters: Adapters) -> Result<Tensor<3>, ModelError> {
        let images = batch.pixels.len();
        if batch.rows.is_empty() {
            return Err(ModelError::NoCompletion);
        }
        if let Some(image) = batch.image_of_group.iter().flatten().copied().find(|image| *image >= images) {
            return Err(ModelError::NoSuchImage { image, images });
        }
        let (device, dtype) = (self.device(), self.dtype());
        let features = self.features(batch, adapters).map(|features| self.project(features, adapters));

        let inputs: Vec<_> = batch.rows.iter().map(|row| row.inputs.clone()).collect();
        let rows = self.embed(&inputs, &vec![None; inputs.len()], None)?;
        let lens: Vec<_> = batch.rows.iter().map(|row| batch.prefix_lens[row.group]).collect();
        let tables = |positions: &[Vec<usize>]| self.rope().tables(positions, dtype, &device);
        // completions follow the prefix of their group, which is computed once
        let before = batch.prefixes.first().map_or(0, Vec::len);
        let positions = lens.iter().map(|len| (*len..len + batch.width).collect());
        let row_mask = causal_mask(&lens, before, 0, batch.width, &[], &device);
        if before == 0 {
            let tables = tables(&positions.collect::<Vec<_>>());
            return Ok(self.language_model.forward(rows, &tables, &row_mask, &mut NoKv, adapters));
        }
        let prefix = self.embed(&batch.prefixes, &batch.image_of_group, features.as_ref())?;
        let of_prefixes = batch.prefixes.iter().map(|_| (0..before).collect());
        let prefix_of_row: Vec<_> = batch.rows.iter().map(|row| row.group as u32).collect();
        let tables = tables(&of_prefixes.chain(positions).collect::<Vec<_>>());
        let layout = PrefixLayout {
            prefixes: batch.prefixes.len(),
            before,
            rows: batch.rows.len(),
            tokens: batch.width,
            full: batch.prefix_lens.iter().all(|len| *len == before),
            each: batch.rows_of_each_prefix(),
            scale: tables.score_scale(),
        };
        let shared = Shared {
            tables,
            // padding is at the end, so all prefixes have the same mask
            prefix_mask: causal_mask(&[0], 0, 0, before, &[], &device),
            row_mask,
            prefix_of_row: ids(&prefix_of_row, &device),
            layout,
            adapters,
        };
        Ok(self.language_model.forward_shared(prefix, rows, shared, self.uses_gradient_checkpointing()))
    }

    /// Applies the head to completion tokens only, in chunks.
    fn map_head<const N: usize>(
        &self,
        batch: &ScoreBatch,
        hidden: Tensor<3>,
        adapters: Adapters,
        of: impl Fn(Tensor<2>, Tensor<2, Int>) -> [Tensor<2>; N],
    ) -> ([Tensor<3>; N], Tensor<2, Bool>) {
        let device = self.device();
        let [rows, width, size] = hidden.dims();
        let hidden = hidden.reshape([rows * width, size]);
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
            let logits = self.head(hidden.clone().select(0, ids(sources, &device)), adapters);
            let targets: Tensor<2, Int> = ids(targets, &device).unsqueeze_dim(1);
            chunks.iter_mut().zip(of(logits, targets)).for_each(|(chunks, chunk)| chunks.push(chunk));
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
