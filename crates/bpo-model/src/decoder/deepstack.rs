//! Features of several depths of the vision tower, which are added to the hidden states of image
//! tokens behind the first layers (DeepStack; Meng et al., 2024, arXiv 2406.04334).

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// What is added behind the first layers. Empty for families that add nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deepstack {
    /// The image tokens among the tokens of all rows, `[image tokens]`.
    places: Option<Tensor<1, Int>>,
    /// For each of the first layers, `[image tokens, hidden]`.
    layers: Vec<Tensor<2>>,
}

impl Deepstack {
    /// Adds `layers`, each `[image tokens, hidden]`, at the given places.
    pub(crate) fn new(places: Tensor<1, Int>, layers: Vec<Tensor<2>>) -> Self {
        Self { places: Some(places), layers }
    }

    /// Adds the features behind a layer to hidden states, `[.., hidden]`.
    pub(super) fn add<const D: usize>(&self, layer: usize, x: Tensor<D>) -> Tensor<D> {
        let (Some(places), Some(features)) = (&self.places, self.layers.get(layer)) else { return x };
        let shape = x.dims();
        let tokens = shape[..D - 1].iter().product::<usize>();
        let x: Tensor<2> = x.reshape([tokens, shape[D - 1]]);
        x.select_assign(0, places.clone(), features.clone(), IndexingUpdateOp::Add).reshape(shape)
    }
}
