//! Features of several images, one after the other.

use std::ops::Range;

use burn::tensor::Tensor;

use super::ids;

/// Features of several images as rows of one tensor. Images may have different numbers of rows.
#[derive(Clone, Debug)]
pub struct PackedFeatures {
    values: Tensor<2>,
    /// The first row of each image, and the number of all rows.
    offsets: Vec<usize>,
}

impl PackedFeatures {
    /// Packs `[rows, width]`, given the number of rows of each image.
    ///
    /// # Panics
    /// If the numbers do not add up to `rows`.
    pub(crate) fn new(values: Tensor<2>, rows: impl Iterator<Item = usize>) -> Self {
        let mut offsets = vec![0];
        for rows in rows {
            offsets.push(offsets[offsets.len() - 1] + rows);
        }
        assert_eq!(offsets.last(), Some(&values.dims()[0]), "the rows are those of the images");
        Self { values, offsets }
    }

    /// The features of all images, `[rows, width]`.
    pub fn values(&self) -> Tensor<2> {
        self.values.clone()
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The rows of an image.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn rows(&self, image: usize) -> Range<usize> {
        self.offsets[image]..self.offsets[image + 1]
    }

    /// Applies a function that keeps the rows.
    pub(crate) fn map(&self, of: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        Self { values: of(self.values.clone()), offsets: self.offsets.clone() }
    }

    /// The features of the given images, which may repeat.
    pub(crate) fn select(&self, images: &[usize]) -> Self {
        let rows: Vec<u32> =
            images.iter().flat_map(|image| self.rows(*image)).map(|row| row as u32).collect();
        let values = self.values.clone().select(0, ids(&rows, &self.values.device()));
        Self::new(values, images.iter().map(|image| self.rows(*image).len()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn images_keep_their_rows() {
        let values = TensorData::new((0..6).map(|row| row as f32).collect::<Vec<_>>(), [6, 1]);
        let packed =
            PackedFeatures::new(Tensor::from_data(values, &Device::default()), [2, 0, 3, 1].into_iter());
        assert_eq!((packed.images(), packed.rows(2)), (4, 2..5));
        let chosen = packed.select(&[3, 0, 0]);
        assert_eq!([0, 1, 2].map(|image| chosen.rows(image)), [0..1, 1..3, 3..5]);
        assert_eq!(chosen.values().into_data().try_into_vec::<f32>().unwrap(), [5.0, 0.0, 1.0, 0.0, 1.0]);
    }
}
