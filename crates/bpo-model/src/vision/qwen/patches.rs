//! Patches of images as rows, and what the tower knows of their places.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::config::QwenVisionConfig;
use super::grid::{Order, TokenGrid};
use crate::decoder::Positions;
use crate::input::ImageInput;
use crate::processor::PixelValues;

/// Red, green and blue.
const CHANNELS: usize = 3;

/// A patch: its image, its step of time, and its row and column among the patches of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    image: usize,
    time: usize,
    row: usize,
    column: usize,
}

/// The patches of images, in the order of the tower: those of a token follow each other.
pub(super) fn patches(grids: &[TokenGrid], order: &Order, merge: usize) -> Vec<Patch> {
    let of_image = |(image, grid): (usize, &TokenGrid)| grid.cells().map(move |cell| (image, cell));
    let cells: Vec<_> = grids.iter().enumerate().flat_map(of_image).collect();
    let of_token = |token: &usize| {
        let (image, [time, row, column]) = cells[*token];
        let square = (0..merge).flat_map(move |down| (0..merge).map(move |right| (down, right)));
        square.map(move |(down, right)| Patch {
            image,
            time,
            row: row * merge + down,
            column: column * merge + right,
        })
    };
    order.tokens.iter().flat_map(of_token).collect()
}

/// Rotary positions of patches: row and column.
pub(super) fn positions(patches: &[Patch]) -> Positions {
    Positions::new(patches.iter().map(|patch| [patch.row, patch.column, 0]).collect(), 0)
}

/// The pixels of patches, `[patches, channels x frames x side x side]`, in f32.
///
/// A still image has one tile, which fills all frames of a patch; it is copied to them on the
/// device.
pub(super) fn pixels(
    images: &[&ImageInput],
    patches: &[Patch],
    config: &QwenVisionConfig,
    device: &Device,
) -> Tensor<2> {
    let (side, frames) = (config.patch_size, config.temporal_patch_size);
    let still = images.iter().all(|image| image.tiles.len() == 1);
    let stored = if still { 1 } else { frames };
    let area = side * side;
    let mut values = Vec::with_capacity(patches.len() * CHANNELS * stored * area);
    for patch in patches {
        let tiles = &images[patch.image].tiles;
        for channel in 0..CHANNELS {
            for frame in 0..stored {
                let tile = &tiles[(patch.time * stored + frame).min(tiles.len() - 1)];
                for row in patch.row * side..(patch.row + 1) * side {
                    values.extend_from_slice(part(tile, channel, row, patch.column * side, side));
                }
            }
        }
    }
    let shape = [patches.len(), CHANNELS, stored, area];
    let pixels: Tensor<4> = Tensor::from_data(TensorData::new(values, shape), (device, DType::F32));
    pixels.expand([patches.len(), CHANNELS, frames, area]).reshape([patches.len(), CHANNELS * frames * area])
}

/// Pixels of a row of a tile.
fn part(tile: &PixelValues, channel: usize, row: usize, column: usize, count: usize) -> &[f32] {
    let start = (channel * tile.height + row) * tile.width + column;
    &tile.data[start..start + count]
}

/// The entries of a square table of positions that a patch lies between, and their weights: for
/// each of four neighbours, `[patches]` and `[patches, 1]` in f32.
///
/// The corners of the table are at the centres of the corner patches (`align_corners`).
pub(super) fn neighbours(
    patches: &[Patch],
    grids: &[TokenGrid],
    merge: usize,
    side: usize,
    device: &Device,
) -> [(Tensor<1, Int>, Tensor<2>); 4] {
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, right)| {
        let (mut entries, mut weights) = (Vec::new(), Vec::new());
        for patch in patches {
            let grid = grids[patch.image];
            let (row, of_row) = neighbour(patch.row, grid.rows * merge, side, down);
            let (column, of_column) = neighbour(patch.column, grid.columns * merge, side, right);
            entries.push((row * side + column) as i64);
            weights.push(of_row * of_column);
        }
        let count = patches.len();
        let weights: Tensor<2> =
            Tensor::from_data(TensorData::new(weights, [count, 1]), (device, DType::F32));
        (Tensor::from_data(TensorData::new(entries, [count]), device), weights)
    })
}

/// The entry before (`step` 0) or behind (1) a place on an axis of `size` patches, and its weight.
fn neighbour(place: usize, size: usize, side: usize, step: usize) -> (usize, f32) {
    let at = place as f32 * (side - 1) as f32 / (size.max(2) - 1) as f32;
    let before = at.floor();
    let weight = (1.0 - (at - before - step as f32).abs()).max(0.0);
    ((before as usize + step).min(side - 1), weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_a_token_are_a_square() {
        let grids = [TokenGrid::still(1, 2)];
        let found = patches(&grids, &Order::new(&grids, None), 2);
        let places: Vec<_> = found.iter().map(|patch| (patch.row, patch.column)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
    }

    #[test]
    fn the_corners_of_the_table_are_those_of_the_image() {
        assert_eq!(neighbour(0, 5, 3, 0), (0, 1.0));
        assert_eq!(neighbour(4, 5, 3, 0), (2, 1.0));
        assert_eq!(neighbour(4, 5, 3, 1), (2, 0.0));
        assert_eq!(neighbour(1, 5, 3, 1), (1, 0.5));
        assert_eq!(neighbour(0, 1, 8, 0), (0, 1.0));
    }
}
