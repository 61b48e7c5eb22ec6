//! The batch of TRL's collator for the golden pairs.

use bpo_dpo::loss::PairRows;
use bpo_model::ScoreBatch;
use bpo_model::Vlm;
use bpo_model::{PixelValues, TokenizedCompletion};

use crate::support::{input, root, tensor_floats, tensor_ints};

/// The collated batch: rows are all chosen, then all rejected completions.
pub struct Batch {
    pub bytes: Vec<u8>,
    pub sequences: Vec<TokenizedCompletion>,
    pub images: Vec<PixelValues>,
}

impl Batch {
    pub fn open() -> Self {
        let bytes = std::fs::read(root().join("trl/batch.safetensors")).unwrap();
        let (ids, shape) = tensor_ints(&bytes, "input_ids");
        let (attention, _) = tensor_ints(&bytes, "attention_mask");
        let (completion, _) = tensor_ints(&bytes, "completion_mask");
        let row = |r: usize| r * shape[1]..(r + 1) * shape[1];
        let sequences = (0..shape[0])
            .map(|r| {
                let kept: Vec<_> = row(r).filter(|at| attention[*at] == 1).collect();
                let start = kept.iter().position(|at| completion[*at] == 1).unwrap();
                TokenizedCompletion::new(kept.iter().map(|at| ids[*at] as u32).collect(), start)
            })
            .collect();
        let (pixels, shape) = tensor_floats(&bytes, "pixel_values");
        let images = pixels
            .chunks(shape[1..].iter().product())
            .map(|data| PixelValues {
                data: data.to_vec(),
                channels: shape[1],
                height: shape[2],
                width: shape[3],
            })
            .collect();
        Self { bytes, sequences, images }
    }

    pub fn pairs(&self) -> usize {
        self.sequences.len() / 2
    }

    /// One group per pair, with its image once.
    pub fn grouped(&self, model: &Vlm) -> ScoreBatch {
        let n = self.pairs();
        let groups: Vec<_> = (0..n)
            .map(|i| (vec![i], vec![self.sequences[i].clone(), self.sequences[n + i].clone()]))
            .collect();
        self.score_batch(model, self.images[..n].to_vec(), &groups)
    }

    /// One group per completion, with nothing shared.
    pub fn apart(&self, model: &Vlm) -> ScoreBatch {
        let n = self.pairs();
        let order = (0..n).flat_map(|i| [i, n + i]);
        let groups: Vec<_> = order
            .clone()
            .enumerate()
            .map(|(at, row)| (vec![at], vec![self.sequences[row].clone()]))
            .collect();
        self.score_batch(model, order.map(|row| self.images[row].clone()).collect(), &groups)
    }

    pub fn score_batch(
        &self,
        model: &Vlm,
        images: Vec<PixelValues>,
        groups: &[(Vec<usize>, Vec<TokenizedCompletion>)],
    ) -> ScoreBatch {
        let images = images.iter().map(|image| input(model, image)).collect();
        ScoreBatch::new(model.config(), images, groups).unwrap()
    }

    pub fn rows(&self) -> PairRows {
        let pairs = 0..self.pairs();
        PairRows::new(pairs.clone().map(|i| 2 * i).collect(), pairs.map(|i| 2 * i + 1).collect())
    }
}
