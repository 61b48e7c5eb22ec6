//! Training of the vision tower: predict kind and colour at every patch of scenes without
//! co-occurrences.

use std::error::Error;

use bpo::burn;
use bpo::model::{Adapters, ImageInput, Vlm};
use bpo_world::{CELL_SIDE, Colour, Kind, Scene};
use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::files::{IMAGE, PATCH, VISION};

const KINDS: usize = Kind::ALL.len() + 1;
const COLOURS: usize = Colour::ALL.len() + 1;

/// A model with a linear probe on its vision tower. The probe is discarded after training.
#[derive(Module, Debug)]
pub struct Probed {
    pub model: Vlm,
    /// `[vision, kinds + colours]`; the last kind and the last colour are "nothing".
    probe: Param<Tensor<2>>,
}

impl Probed {
    pub fn new(model: Vlm) -> Self {
        let device = model.device();
        // a single linear layer on trained features can start from zeros
        Self { model, probe: Param::from_tensor(Tensor::zeros([VISION, KINDS + COLOURS], &device)) }
    }

    /// Mean cross-entropy of kind and colour over all patches, and the share of object patches
    /// whose kind is right.
    pub fn loss(&self, images: &[ImageInput], scenes: &[Scene]) -> Result<(Tensor<1>, f32), Box<dyn Error>> {
        let images: Vec<_> = images.iter().collect();
        let features = self.model.encode_images(&images, Adapters::Off).ok_or("no images")?.values();
        let [rows, _] = features.dims();
        let logits = features.matmul(self.probe.val());
        let labels: Vec<(usize, usize)> = scenes.iter().flat_map(labels).collect();
        let device = logits.device();
        let kinds: Vec<i64> = labels.iter().map(|(kind, _)| *kind as i64).collect();
        let colours: Vec<i64> = labels.iter().map(|(_, colour)| *colour as i64).collect();
        let part = |from: usize, count: usize| logits.clone().slice([0..rows, from..from + count]);
        let entropy = |logits: Tensor<2>, targets: &[i64]| {
            let targets = column(targets, &device);
            log_softmax(logits, 1).gather(1, targets).mean().neg()
        };
        let right = {
            let found: Vec<i64> = part(0, KINDS).argmax(1).into_data().iter::<i64>().collect();
            let objects = kinds.iter().zip(found).filter(|(kind, _)| **kind != KINDS as i64 - 1);
            let (mut all, mut hits) = (0, 0);
            for (kind, found) in objects {
                all += 1;
                hits += i32::from(*kind == found);
            }
            hits as f32 / all.max(1) as f32
        };
        Ok((entropy(part(0, KINDS), &kinds) + entropy(part(KINDS, COLOURS), &colours), right))
    }
}

fn column(values: &[i64], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), device)
}

/// Kind and colour at each patch, row by row. Objects stand in cells of whole patches, up to a
/// pixel.
fn labels(scene: &Scene) -> Vec<(usize, usize)> {
    let side = IMAGE / PATCH;
    let per_cell = CELL_SIDE as usize / PATCH;
    let mut labels = vec![(KINDS - 1, COLOURS - 1); side * side];
    for thing in &scene.things {
        let (column, row) = (usize::from(thing.cell.0) * per_cell, usize::from(thing.cell.1) * per_cell);
        for y in row..row + per_cell {
            for x in column..column + per_cell {
                labels[y * side + x] = (thing.kind as usize, thing.colour as usize);
            }
        }
    }
    labels
}
