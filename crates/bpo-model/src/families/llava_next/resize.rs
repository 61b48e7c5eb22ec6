//! Bilinear resizing of features.

use burn::tensor::{DType, Tensor, TensorData};

use crate::vlm::ids;

/// Resizes a grid of features as PyTorch's `interpolate(mode="bilinear")` does, without aligned
/// corners.
///
/// # Shapes
/// - `grid`: `[height, width, hidden]`
/// - output: `[size[0], size[1], hidden]`
pub(super) fn bilinear(grid: Tensor<3>, size: [usize; 2]) -> Tensor<3> {
    let dtype = grid.dtype();
    along(along(grid.cast(DType::F32), 0, size[0]), 1, size[1]).cast(dtype)
}

/// Resizes one axis.
fn along(grid: Tensor<3>, axis: usize, to: usize) -> Tensor<3> {
    let (from, device) = (grid.dims()[axis], grid.device());
    let (mut low, mut high, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for place in 0..to {
        let (index, share) = source(place, from, to);
        low.push(index as u32);
        high.push((index + 1).min(from - 1) as u32);
        shares.push(share);
    }
    let mut shape = [1; 3];
    shape[axis] = to;
    let share = Tensor::from_data(TensorData::new(shares, shape), (&device, DType::F32));
    let low = grid.clone().select(axis, ids(&low, &device));
    let high = grid.select(axis, ids(&high, &device));
    low.clone() + (high - low) * share
}

/// The value that a place of the result begins at, and the share of the next value.
fn source(place: usize, from: usize, to: usize) -> (usize, f32) {
    let scale = from as f32 / to as f32;
    let center = (scale * (place as f32 + 0.5) - 0.5).max(0.0);
    let index = (center as usize).min(from - 1);
    (index, (center - index as f32).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Sizes, and `torch.nn.functional.interpolate(torch.arange(15.).view(1, 1, 3, 5) ** 2, size,
    /// mode="bilinear")`.
    const TORCH: [([usize; 2], &[f32]); 2] = [
        ([2, 3], &[7.41667, 15.25, 29.08333, 87.41666, 120.25, 159.08333]),
        ([4, 2], &[0.75, 10.75, 21.0625, 46.6875, 64.1875, 108.5625, 115.75, 175.75]),
    ];

    #[test]
    fn features_are_resized_as_in_pytorch() {
        let values: Vec<f32> = (0..15).map(|value| (value * value) as f32).collect();
        let grid = Tensor::<3>::from_data(TensorData::new(values, [3, 5, 1]), &Device::default());
        for (size, expected) in TORCH {
            let resized = bilinear(grid.clone(), size);
            assert_eq!(resized.dims(), [size[0], size[1], 1]);
            let found = resized.into_data().try_to_vec::<f32>().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{size:?}: {found} and {expected}");
            }
        }
    }
}
