//! The rows of a batch on the device: prompts first, then a token of each row at a time.

use burn::tensor::{Tensor, TensorData};

use crate::error::ModelError;
use crate::llama::KvCache;
use crate::llava::{Llava, causal_mask, ids, pixel_tensor};
use crate::lora::Adapters;
use crate::processor::PixelValues;
use crate::seen::{Seen, View};

/// Keys and values of all rows so far.
pub(super) struct Decoder<'a> {
    model: &'a Llava,
    adapters: Adapters,
    cache: KvCache,
    /// Tokens of each prompt.
    lens: Vec<usize>,
    /// Of the longest one, which the others are padded to.
    width: usize,
    /// Places of each prompt that no token attends to.
    hidden: Vec<Vec<usize>>,
    /// New tokens of each row so far.
    steps: usize,
}

impl<'a> Decoder<'a> {
    /// With room for `steps` tokens behind each prompt.
    pub(super) fn new(model: &'a Llava, rows: &[&Seen], steps: usize, adapters: Adapters) -> Self {
        let lens: Vec<_> = rows.iter().map(|seen| seen.ids.len()).collect();
        let width = lens.iter().copied().max().unwrap_or(0);
        let image_token = model.config().image_token();
        let hidden = rows.iter().map(|seen| seen.hidden_places(image_token)).collect();
        let text = &model.config().text_config;
        let cache = KvCache::new(
            text.num_hidden_layers,
            [rows.len(), text.kv_heads(), width + steps, text.head_dim()],
            model.dtype().into(),
            &model.device(),
        );
        Self { model, adapters, cache, lens, width, hidden, steps: 0 }
    }

    /// Runs the prompts; gives the logits of each row's first new token.
    pub(super) fn prefill(&mut self, rows: &[&Seen]) -> Result<Vec<Vec<f32>>, ModelError> {
        let (model, width) = (self.model, self.width);
        let (device, dtype) = (model.device(), model.dtype());
        let (image_of_row, features) = self.images(rows);
        let padded: Vec<_> = rows
            .iter()
            .map(|seen| {
                let mut row = seen.ids.clone();
                row.resize(width, model.config().padding());
                row
            })
            .collect();

        let x = model.embed(&padded, &image_of_row, features.as_ref())?;
        let tables = model.rope().tables(&vec![(0..width).collect(); rows.len()], dtype, &device);
        let mask = causal_mask(&vec![0; rows.len()], 0, 0, width, &self.hidden, &device);
        let hidden = model.language_model.forward(x, &tables, &mask, &mut self.cache, self.adapters);
        self.cache.advance(width);
        let ends = self.lens.iter().enumerate().map(|(row, len)| (row * width + len - 1) as u32);
        let (ends, size) = (ends.collect::<Vec<_>>(), hidden.dims()[2]);
        let hidden = hidden.reshape([rows.len() * width, size]).select(0, ids(&ends, &device));
        rows_of(model.head(hidden))
    }

    /// Runs one new token of each row; gives the logits of the next.
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
        rows_of(model.head(hidden).squeeze_dim(1))
    }

    /// Which features belong to each row, and these: several rows that see the same have the same. Each image goes
    /// through the vision tower once, however much noise is added to its features. `[views, tokens, hidden]`
    fn images(&self, rows: &[&Seen]) -> (Vec<Option<usize>>, Option<Tensor<3>>) {
        let (mut images, mut views): (Vec<&PixelValues>, Vec<&View>) = (Vec::new(), Vec::new());
        let mut image_of_view = Vec::new();
        let view_of_row: Vec<_> = rows
            .iter()
            .map(|Seen { view, .. }| {
                let pixels = view.pixels.as_ref()?;
                let same = |known: &&View| known.pixels == view.pixels && known.noise == view.noise;
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
        // without noise there are as many views as images
        if views.iter().any(|view| !view.noise.is_empty()) {
            features = noised(features.select(0, ids(&image_of_view, &device)), &views);
        }
        (view_of_row, Some(self.model.project(features, self.adapters)))
    }
}

/// Features of each view with its noise, which is added on the host: the same on every device. `[views, tokens, width]`
fn noised(features: Tensor<3>, views: &[&View]) -> Tensor<3> {
    let (shape, dtype, device) = (features.dims(), features.dtype(), features.device());
    let mut values: Vec<f32> = features.into_data().iter::<f32>().collect();
    for (view, features) in views.iter().zip(values.chunks_mut(shape[1] * shape[2])) {
        view.add_noise(features);
    }
    Tensor::from_data(TensorData::new(values, shape), (&device, dtype))
}

/// Where an image is, after it was added if it was not there.
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
