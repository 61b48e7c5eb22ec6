//! The rows of a batch on the device: runs prompts at once, then one token of each row at a time.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::decoder::causal_mask;
use crate::decoder::{CollectKv, KvCache, Placed};
use crate::error::ModelError;
use crate::input::{ImageInput, ModelInput};
use crate::lora::Adapters;
use crate::processor::PixelValues;
use crate::vlm::{Vlm, ids, pixel_tensor};

/// Keys and values of all rows so far, with what masks and positions need.
pub(super) struct Rows<'a> {
    model: &'a Vlm,
    adapters: Adapters,
    cache: KvCache,
    /// Tokens of each row when rows were last arranged.
    lens: Vec<usize>,
    /// Width of the padded rows then.
    width: usize,
    /// Positions of each row that no token attends to.
    hidden: Vec<Vec<usize>>,
    /// New tokens of each row since then.
    steps: usize,
}

impl<'a> Rows<'a> {
    /// Creates an empty batch.
    pub(super) fn new(model: &'a Vlm, adapters: Adapters) -> Self {
        let text = &model.config().text_config;
        let empty = [1, text.kv_heads(), 1, text.head_dim()];
        let cache = KvCache::new(text.num_hidden_layers, empty, model.dtype().into(), &model.device());
        Self { model, adapters, cache, lens: Vec::new(), width: 0, hidden: Vec::new(), steps: 0 }
    }

    /// Keeps the rows `kept`, adds rows for `prompts` behind them, and makes room for `room` more
    /// tokens. Returns the logits of the first new token of each prompt.
    pub(super) fn arrange(
        &mut self,
        kept: &[usize],
        prompts: &[&ModelInput],
        room: usize,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let (logits, prefilled) =
            if prompts.is_empty() { (Vec::new(), CollectKv::default()) } else { self.prefill(prompts)? };
        let mut placed = Vec::new();
        for (to, &from) in kept.iter().enumerate() {
            let (len, new) = (self.lens[from], self.width..self.width + self.steps);
            let piece = |tokens, at| Placed { from_others: false, from, tokens, to, at };
            placed.extend([piece(0..len, 0), piece(new, len)]);
        }
        for (from, input) in prompts.iter().enumerate() {
            let (tokens, to) = (0..input.ids.len(), kept.len() + from);
            placed.push(Placed { from_others: true, from, tokens, to, at: 0 });
        }
        placed.retain(|piece| !piece.tokens.is_empty());

        let image_token = self.model.config().image_token();
        let kept_lens = kept.iter().map(|row| self.lens[*row] + self.steps);
        self.lens = kept_lens.chain(prompts.iter().map(|input| input.ids.len())).collect();
        let kept_hidden = kept.iter().map(|row| self.hidden[*row].clone());
        self.hidden =
            kept_hidden.chain(prompts.iter().map(|input| input.hidden_places(image_token))).collect();
        (self.width, self.steps) = (self.lens.iter().copied().max().unwrap_or(0), 0);
        let sizes = [self.width + room, self.width];
        self.cache.rearrange(self.lens.len(), sizes, &placed, &prefilled);
        Ok(logits)
    }

    /// Runs prompts. Returns the logits of the first new token of each, and keys and values.
    fn prefill(&self, prompts: &[&ModelInput]) -> Result<(Vec<Vec<f32>>, CollectKv), ModelError> {
        let model = self.model;
        let (device, dtype) = (model.device(), model.dtype());
        let width = prompts.iter().map(|input| input.ids.len()).max().unwrap_or(0);
        let image_token = model.config().image_token();
        let hidden_places: Vec<_> = prompts.iter().map(|input| input.hidden_places(image_token)).collect();
        let (image_of_row, features) = self.images(prompts);
        let padded: Vec<_> = prompts
            .iter()
            .map(|input| {
                let mut row = input.ids.clone();
                row.resize(width, model.config().padding());
                row
            })
            .collect();

        let mut kv = CollectKv::default();
        let x = model.embed(&padded, &image_of_row, features.as_ref())?;
        let tables = model.rope().tables(&vec![(0..width).collect(); prompts.len()], dtype, &device);
        let mask = causal_mask(&vec![0; prompts.len()], 0, 0, width, &hidden_places, &device);
        let hidden = model.language_model.forward(x, &tables, &mask, &mut kv, self.adapters);
        let ends = prompts.iter().enumerate().map(|(row, input)| (row * width + input.ids.len() - 1) as u32);
        let (ends, size) = (ends.collect::<Vec<_>>(), hidden.dims()[2]);
        let hidden = hidden.reshape([prompts.len() * width, size]).select(0, ids(&ends, &device));
        Ok((rows_of(model.head(hidden, self.adapters))?, kv))
    }

    /// Runs one new token of each row. Returns the logits of the next.
    pub(super) fn step(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let model = self.model;
        let (device, dtype) = (model.device(), model.dtype());
        let x = model.language_model.embed(ids(tokens, &device)).unsqueeze_dim::<3>(1);
        let positions: Vec<_> = self.lens.iter().map(|len| vec![len + self.steps]).collect();
        let tables = model.rope().tables(&positions, dtype, &device);
        let mask = causal_mask(&self.lens, self.width, self.steps, 1, &self.hidden, &device);
        let hidden = model.language_model.forward(x, &tables, &mask, &mut self.cache, self.adapters);
        self.cache.advance(1);
        self.steps += 1;
        rows_of(model.head(hidden, self.adapters).squeeze_dim(1))
    }

    /// Which features belong to each row, and these: several rows that see the same have the same.
    /// Each image goes through the vision tower once, however much noise is added to its features.
    /// `[views, tokens, hidden]`
    fn images(&self, rows: &[&ModelInput]) -> (Vec<Option<usize>>, Option<Tensor<3>>) {
        let (mut images, mut views): (Vec<&PixelValues>, Vec<&ImageInput>) = (Vec::new(), Vec::new());
        let mut image_of_view = Vec::new();
        let view_of_row: Vec<_> = rows
            .iter()
            .map(|ModelInput { image: view, .. }| {
                let pixels = view.pixels.as_ref()?;
                let same = |known: &&ImageInput| known.pixels == view.pixels && known.noise == view.noise;
                Some(views.iter().position(same).unwrap_or_else(|| {
                    image_of_view.push(place_of(pixels, &mut images) as u32);
                    views.push(view);
                    views.len() - 1
                }))
            })
            .collect();
        let device = self.model.device();
        let Some(pixels) = pixel_tensor(&images, &device) else { return (view_of_row, None) };
        let mut features = self.model.encode_images(pixels, self.adapters);
        // without noise, views and images are the same list
        if views.iter().any(|view| !view.noise.is_empty()) {
            features = noised(features.select(0, ids(&image_of_view, &device)), &views);
        }
        (view_of_row, Some(self.model.project(features, self.adapters)))
    }
}

/// Adds noise to the features of each view, `[views, tokens, width]`. The noise is drawn on the
/// host, so it is the same on every device.
fn noised(features: Tensor<3>, views: &[&ImageInput]) -> Tensor<3> {
    let (shape, dtype, device) = (features.dims(), features.dtype(), features.device());
    let mut values: Vec<f32> = features.into_data().iter::<f32>().collect();
    for (view, features) in views.iter().zip(values.chunks_mut(shape[1] * shape[2])) {
        view.add_noise(features);
    }
    Tensor::from_data(TensorData::new(values, shape), (&device, dtype))
}

/// The index of an image in `images`, which is appended if it is new.
fn place_of<'a>(image: &'a PixelValues, images: &mut Vec<&'a PixelValues>) -> usize {
    images.iter().position(|known| *known == image).unwrap_or_else(|| {
        images.push(image);
        images.len() - 1
    })
}

/// Reads logits `[rows, vocab]` to the host in f32.
fn rows_of(logits: Tensor<2>) -> Result<Vec<Vec<f32>>, ModelError> {
    let [_, vocab] = logits.dims();
    let values: Vec<f32> = logits.into_data().try_into_vec().expect("the head gives f32");
    if !values.par_iter().all(|logit| logit.is_finite()) {
        return Err(ModelError::NotFinite { what: "logits".into() });
    }
    Ok(values.par_chunks(vocab).map(<[f32]>::to_vec).collect())
}
