//! Images that are split into tiles: the resolution that fits an image best, and the patches of the
//! tiles that show the image.
//!
//! The arithmetic is that of transformers in every rounding, because it decides on the number of
//! tokens: `select_best_resolution` and `get_patch_output_size` in `image_processing_utils.py`,
//! `unpad_image` and `pack_image_features` in `modeling_llava_next.py` and
//! `modeling_llava_onevision.py`.

use super::ProcessorError;

/// How images are split into square tiles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tiling {
    /// Resolutions that an image may be resized to, `[height, width]` in pixels. Both are multiples
    /// of `side`.
    pub(crate) resolutions: Vec<[usize; 2]>,
    /// Side of a tile, in pixels.
    pub(crate) side: usize,
    /// Patches along a side of a tile.
    pub(crate) patches: usize,
    /// Features of more tiles are resized to about the features of this many.
    pub(crate) max_tiles: Option<usize>,
}

/// The tiles of an image, and the patches of them that become tokens.
///
/// The first tile shows the whole image. The others are the cells of a grid, row by row. Each row of
/// patches of the grid that shows the image ends with a token for a new line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileGrid {
    /// Tiles of the grid, `[rows, columns]`. Without tiles, one token for a new line follows the
    /// first tile.
    pub(crate) tiles: [usize; 2],
    /// Patches along a side of a tile.
    pub(crate) patches: usize,
    /// The first row and column of patches that shows the image.
    pub(crate) first: [usize; 2],
    /// Rows and columns of patches that show the image.
    pub(crate) shown: [usize; 2],
    /// Rows and columns that the features of these patches are resized to.
    pub(crate) resized: Option<[usize; 2]>,
}

impl Tiling {
    /// The tiles of an image of a size in pixels.
    ///
    /// # Errors
    /// [`ProcessorError::EmptyImage`]; [`ProcessorError::NoResolution`] for an image that is so long
    /// that nothing is left of its other side.
    pub(crate) fn grid(&self, width: u32, height: u32) -> Result<TileGrid, ProcessorError> {
        if width == 0 || height == 0 {
            return Err(ProcessorError::EmptyImage { width, height });
        }
        let size = [height as usize, width as usize];
        let too_long = || ProcessorError::NoResolution { width, height };
        let tiles = self.best_resolution(size).ok_or_else(too_long)?.map(|pixels| pixels / self.side);
        let (first, shown) = unpadded(tiles.map(|count| count * self.patches), size);
        let resized = self.resized(shown);
        if resized.is_some_and(|size| size.contains(&0)) {
            return Err(too_long());
        }
        Ok(TileGrid { tiles, patches: self.patches, first, shown, resized })
    }

    /// The resolution that keeps most pixels of an image of a size, and of these the one with the
    /// least padding. `None` if there are no resolutions. Sizes are `[height, width]`.
    fn best_resolution(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut best: Option<(usize, i128, [usize; 2])> = None;
        for resolution in &self.resolutions {
            let scale = scale(size, *resolution);
            let [height, width] = size.map(|side| (side as f64 * scale) as usize);
            let kept = (height * width).min(size[0] * size[1]);
            let wasted = (resolution[0] * resolution[1]) as i128 - kept as i128;
            let better = match best {
                None => true,
                Some((most, least, _)) => kept > most || (kept == most && wasted < least),
            };
            if better {
                best = Some((kept, wasted, *resolution));
            }
        }
        best.map(|(_, _, resolution)| resolution)
    }

    /// The size that features are resized to, if there are too many.
    fn resized(&self, shown: [usize; 2]) -> Option<[usize; 2]> {
        let most = self.max_tiles? * self.patches * self.patches;
        let ratio = ((shown[0] * shown[1]) as f64 / most as f64).sqrt();
        (ratio > 1.1).then(|| shown.map(|side| floor_div(side as f64, ratio)))
    }
}

impl TileGrid {
    /// The grid of an image that is not split.
    pub(crate) fn whole(patches: usize) -> Self {
        Self { tiles: [0, 0], patches, first: [0, 0], shown: [1, 0], resized: None }
    }

    /// Number of tiles, that of the whole image included.
    pub(crate) fn tiles(&self) -> usize {
        1 + self.tiles[0] * self.tiles[1]
    }

    /// Number of tokens: patches of the first tile, patches of the grid, and new lines.
    pub(crate) fn tokens(&self) -> usize {
        let [rows, columns] = self.resized.unwrap_or(self.shown);
        self.patches * self.patches + rows * (columns + 1)
    }

    /// The features of the patches of the grid that show the image, row by row, as numbers of
    /// features of all tiles.
    pub(crate) fn shown_features(&self) -> impl Iterator<Item = usize> + use<> {
        let Self { tiles: [_, across], patches, first: [top, left], shown: [rows, columns], .. } = *self;
        let places = (top..top + rows).flat_map(move |y| (left..left + columns).map(move |x| (y, x)));
        places.map(move |(y, x)| {
            let tile = 1 + y / patches * across + x / patches;
            (tile * patches + y % patches) * patches + x % patches
        })
    }
}

/// The size of an image after it is resized to fit into a resolution, as `[height, width]`.
pub(crate) fn fitted(size: [usize; 2], resolution: [usize; 2]) -> [usize; 2] {
    let [down, across] = [0, 1].map(|axis| resolution[axis] as f64 / size[axis] as f64);
    let rounded =
        |axis: usize, scale: f64| ((size[axis] as f64 * scale).ceil() as usize).min(resolution[axis]);
    if across < down { [rounded(0, across), resolution[1]] } else { [resolution[0], rounded(1, down)] }
}

/// The factor by which an image grows to fit into a resolution.
fn scale(size: [usize; 2], resolution: [usize; 2]) -> f64 {
    let [down, across] = [0, 1].map(|axis| resolution[axis] as f64 / size[axis] as f64);
    across.min(down)
}

/// The part of a padded grid of patches that shows an image of a size: its first row and column, and
/// its rows and columns.
fn unpadded(grid: [usize; 2], size: [usize; 2]) -> ([usize; 2], [usize; 2]) {
    let ratio = |[height, width]: [usize; 2]| width as f64 / height as f64;
    // the axis along which there is padding
    let axis = usize::from(ratio(size) <= ratio(grid));
    let scale = grid[1 - axis] as f64 / size[1 - axis] as f64;
    let filled = round_7(size[axis] as f64 * scale) as usize;
    let padding = grid[axis].saturating_sub(filled) / 2;
    let (mut first, mut shown) = ([0, 0], grid);
    first[axis] = padding;
    shown[axis] -= 2 * padding;
    (first, shown)
}

/// Python's `round(value, 7)`: to the nearest decimal, not to the nearest product with 1e-7.
fn round_7(value: f64) -> f64 {
    format!("{value:.7}").parse().unwrap_or(value)
}

/// Python's `int(a // b)` for positive numbers, which goes by the exact remainder.
fn floor_div(a: f64, b: f64) -> usize {
    let quotient = (a - a % b) / b;
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }) as usize
}

#[cfg(test)]
#[path = "tiles_tests.rs"]
mod tests;
