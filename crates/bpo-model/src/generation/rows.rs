//! The rows of a batch on the device: runs prompts at once, then one token of each row at a time.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::decoder::{CollectKv, Deepstack, KvCache, Masks, Placed, Positions, RopeTables};
use crate::error::ModelError;
use crate::input::{ImageInput, ModelInput};
use crate::lora::Adapters;
use crate::vlm::{PackedFeatures, Vlm, ids};

/// Keys and values of all rows so far, with what masks and positions need.
pub(super) struct Rows<'a> {
    model: &'a Vlm,
    adapters: Adapters,
    cache: KvCache,
    /// Tokens of each row when rows were last arranged.
    lens: Vec<usize>,
    /// The position of the token after each row then.
    next: Vec<usize>,
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
        let text = model.config().decoder();
        let empty = [1, text.kv_heads(), 1, text.head_dim()];
        let cache = KvCache::new(text.num_hidden_layers, empty, model.dtype().into(), &model.device());
        Self {
            model,
            adapters,
            cache,
            lens: Vec::new(),
            next: Vec::new(),
            width: 0,
            hidden: Vec::new(),
            steps: 0,
        }
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
        let kept_next = kept.iter().map(|row| self.next[*row] + self.steps);
        let new_next = prompts.iter().map(|input| self.positions(input).next());
        self.next = kept_next.chain(new_next).collect();
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
        let Prefill { x, deepstack, tables, masks } = self.embedded(prompts)?;
        let (decoder, device, width) = (&self.model.language_model, self.model.device(), x.dims()[1]);
        let mut kv = CollectKv::default();
        let hidden = decoder.forward(x, &deepstack, &tables, &masks, &mut kv, self.adapters);
        let ends = prompts.iter().enumerate().map(|(row, input)| (row * width + input.ids.len() - 1) as u32);
        let (ends, size) = (ends.collect::<Vec<_>>(), hidden.dims()[2]);
        let hidden = hidden.reshape([prompts.len() * width, size]).select(0, ids(&ends, &device));
        Ok((rows_of(self.model.head(hidden, self.adapters))?, kv))
    }

    /// The attention of the last token of a prompt to each of its tokens, in the decoder layer with an
    /// index: the mean over heads, `[tokens]`.
    pub(super) fn last_attention(&self, prompt: &ModelInput, layer: usize) -> Result<Vec<f32>, ModelError> {
        let Prefill { x, deepstack, tables, masks } = self.embedded(&[prompt])?;
        let decoder = &self.model.language_model;
        let attention = decoder.last_attention(x, &deepstack, &tables, &masks, layer, self.adapters);
        let attention: Vec<f32> = attention.into_data().try_into_vec().expect("attention is in f32");
        if !attention.iter().all(|share| share.is_finite()) {
            return Err(ModelError::NotFinite { what: "attention".into() });
        }
        Ok(attention)
    }

    /// The input of the decoder for prompts.
    fn embedded(&self, prompts: &[&ModelInput]) -> Result<Prefill, ModelError> {
        let model = self.model;
        let (device, dtype) = (model.device(), model.dtype());
        let width = prompts.iter().map(|input| input.ids.len()).max().unwrap_or(0);
        let image_token = model.config().image_token();
        let hidden_places: Vec<_> = prompts.iter().map(|input| input.hidden_places(image_token)).collect();
        let (images_of_row, features) = self.images(prompts);
        let images_of_row: Vec<_> = images_of_row.iter().map(Vec::as_slice).collect();
        let padded: Vec<_> = prompts
            .iter()
            .map(|input| {
                let mut row = input.ids.clone();
                row.resize(width, model.config().padding());
                row
            })
            .collect();

        let (x, deepstack) = model.embed(&padded, &images_of_row, features.as_ref())?;
        let positions: Vec<_> = prompts.iter().map(|input| self.positions(input).padded(width)).collect();
        let tables = model.rope().tables(&positions, dtype, &device);
        let (decoder, lens) = (&model.language_model, vec![0; prompts.len()]);
        let masks = Masks::new(decoder, &lens, [0, 0, width], &hidden_places, &device);
        Ok(Prefill { x, deepstack, tables, masks })
    }

    /// The positions of the tokens of a prompt.
    fn positions(&self, input: &ModelInput) -> Positions {
        self.model.config().family().positions(&input.ids, &input.layouts())
    }

    /// Runs one new token of each row. Returns the logits of the next.
    pub(super) fn step(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let model = self.model;
        let (device, dtype) = (model.device(), model.dtype());
        let x = model.language_model.embed(ids(tokens, &device)).unsqueeze_dim::<3>(1);
        let positions: Vec<_> =
            self.next.iter().map(|next| Positions::sequential(next + self.steps, 1)).collect();
        let tables = model.rope().tables(&positions, dtype, &device);
        let (decoder, nothing) = (&model.language_model, Deepstack::default());
        let sizes = [self.width, self.steps, 1];
        let masks = Masks::new(decoder, &self.lens, sizes, &self.hidden, &device);
        let hidden = decoder.forward(x, &nothing, &tables, &masks, &mut self.cache, self.adapters);
        self.cache.advance(1);
        self.steps += 1;
        rows_of(model.head(hidden, self.adapters).squeeze_dim(1))
    }

    /// The features of the images of each row, as indices, and these features. Images that are seen
    /// alike have the same features. Each image goes through the vision tower once, however much
    /// noise is added to its features.
    fn images(&self, rows: &[&ModelInput]) -> (Vec<Vec<usize>>, Option<PackedFeatures>) {
        let (mut images, mut views): (Vec<&ImageInput>, Vec<&ImageInput>) = (Vec::new(), Vec::new());
        let mut image_of_view = Vec::new();
        let mut view_of = |view| {
            let same = |known: &&ImageInput| same_image(known, view) && known.noise == view.noise;
            views.iter().position(same).unwrap_or_else(|| {
                image_of_view.push(place_of(view, &mut images));
                views.push(view);
                views.len() - 1
            })
        };
        let views_of_row = rows.iter().map(|row| row.images.iter().map(&mut view_of).collect()).collect();
        let features = self.model.encode_images(&images, self.adapters).map(|mut features| {
            // without noise, views and images are the same list
            if views.iter().any(|view| !view.noise.is_empty()) {
                features = noised(&features.select(&image_of_view), &views);
            }
            let layouts: Vec<_> = views.iter().map(|view| &view.layout).collect();
            self.model.project(&features, &layouts, self.adapters)
        });
        (views_of_row, features)
    }
}

/// The input of the decoder for right-padded prompts.
struct Prefill {
    /// `[rows, tokens, hidden]`
    x: Tensor<3>,
    deepstack: Deepstack,
    tables: RopeTables,
    masks: Masks,
}

/// Adds noise to the features of each view. The noise is drawn on the host, so it is the same on
/// every device.
fn noised(features: &PackedFeatures, views: &[&ImageInput]) -> PackedFeatures {
    features.map(|values| {
        let (shape, dtype, device) = (values.dims(), values.dtype(), values.device());
        let mut values: Vec<f32> = values.into_data().iter::<f32>().collect();
        for (number, view) in views.iter().enumerate() {
            let rows = features.rows(number);
            view.add_noise(&mut values[rows.start * shape[1]..rows.end * shape[1]]);
        }
        Tensor::from_data(TensorData::new(values, shape), (&device, dtype))
    })
}

/// Whether two images have the same pixels in the same layout.
fn same_image(one: &ImageInput, other: &ImageInput) -> bool {
    one.layout == other.layout && one.tiles == other.tiles
}

/// The index of an image in `images`, which is appended if it is new.
fn place_of<'a>(image: &'a ImageInput, images: &mut Vec<&'a ImageInput>) -> usize {
    images.iter().position(|known| same_image(known, image)).unwrap_or_else(|| {
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
