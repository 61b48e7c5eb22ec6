//! Pixel shuffle: squares of neighbouring patches become one feature each.

use burn::tensor::Tensor;

/// Puts the features of squares of patches side by side: `pixel_shuffle` of transformers'
/// `models/idefics3/modeling_idefics3.py`.
///
/// # Shapes
/// - `values`: `[tiles * side * side, width]`, the patches of each tile row by row
/// - output: `[tiles * (side / scale)^2, scale * scale * width]`
pub(crate) fn pixel_shuffle(values: Tensor<2>, tiles: usize, side: usize, scale: usize) -> Tensor<2> {
    let [_, width] = values.dims();
    let squares = side / scale;
    values
        // the columns of a square and their features stay together
        .reshape([tiles * squares, scale, squares, scale * width])
        .swap_dims(1, 2)
        .reshape([tiles * squares * squares, scale * scale * width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Two tiles of 4 x 4 patches, whose features are their numbers.
    #[test]
    fn a_square_of_patches_becomes_one_feature() {
        let values: Vec<f32> = (0..32).map(|patch| patch as f32).collect();
        let values = Tensor::from_data(TensorData::new(values, [32, 1]), &Device::default());
        let found = pixel_shuffle(values, 2, 4, 2);
        assert_eq!(found.dims(), [8, 4]);
        let expected = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
        let expected: Vec<_> =
            expected.iter().chain(&expected.map(|patch| patch + 16)).map(|x| *x as f32).collect();
        assert_eq!(found.into_data().try_into_vec::<f32>().unwrap(), expected);
    }
}
