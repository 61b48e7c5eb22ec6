//! The sizes that an image is resized to, and the tiles that it is split into.
//!
//! This is the arithmetic of transformers' `image_processing_pil_idefics3.py`. Sizes are computed in
//! f64, as in Python.

/// The longest edge that an image is resized to, whatever the settings say (`MAX_IMAGE_SIZE`).
const MAX_EDGE: usize = 4096;

/// A height and a width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// The size of the first resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The longest edge gets this length, and the shape is kept.
    LongestEdge(usize),
    /// Exactly this size.
    Exact(Size),
}

/// Rows and columns of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Size {
    pub(super) fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    fn aspect_ratio(self) -> f64 {
        self.width as f64 / self.height as f64
    }
}

impl Grid {
    /// Number of tiles.
    pub(super) fn tiles(self) -> usize {
        self.rows * self.columns
    }
}

impl Target {
    /// The size after the first resize: `get_resize_output_image_size`.
    pub(super) fn of(self, from: Size) -> Size {
        match self {
            Self::Exact(size) => size,
            Self::LongestEdge(edge) => at_most(scaled(from, edge), MAX_EDGE),
        }
    }
}

/// Scales the longest edge to `edge`, and rounds the other up to an even number:
/// `_resize_output_size_rescale_to_max_len`.
fn scaled(from: Size, edge: usize) -> Size {
    let ratio = from.aspect_ratio();
    let even = |side: f64| (side as usize).next_multiple_of(2).max(1);
    if from.width >= from.height {
        Size { height: even(edge as f64 / ratio), width: edge }
    } else {
        Size { height: edge, width: even(edge as f64 * ratio) }
    }
}

/// Scales a size down to an edge of at most `limit`: `_resize_output_size_scale_below_upper_bound`.
fn at_most(from: Size, limit: usize) -> Size {
    let ratio = from.aspect_ratio();
    if from.width >= from.height && from.width > limit {
        Size { height: ((limit as f64 / ratio) as usize).max(1), width: limit }
    } else if from.height > from.width && from.height > limit {
        Size { height: limit, width: ((limit as f64 * ratio) as usize).max(1) }
    } else {
        from
    }
}

/// The size before an image is split into tiles, whose sides are multiples of `tile`:
/// `resize_for_vision_encoder`.
pub(super) fn tiled(from: Size, tile: usize) -> Size {
    let ratio = from.aspect_ratio();
    if from.width >= from.height {
        let width = from.width.next_multiple_of(tile);
        Size { height: ((width as f64 / ratio) as usize).next_multiple_of(tile), width }
    } else {
        let height = from.height.next_multiple_of(tile);
        Size { height, width: ((height as f64 * ratio) as usize).next_multiple_of(tile) }
    }
}

/// The tiles of an image whose sides are multiples of `tile`. `None` for an image of one tile, which
/// is not split: `split_images`.
pub(super) fn grid(size: Size, tile: usize) -> Option<Grid> {
    let grid = Grid { rows: size.height / tile, columns: size.width / tile };
    (grid.tiles() > 1).then_some(grid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Width and height of an image, longest edge (0 for no first resize), side of a tile; then height
    /// and width after the first and the second resize, and rows and columns of tiles, all from
    /// transformers 5.23.
    type Case = (usize, usize, usize, usize, [usize; 2], [usize; 2], [usize; 2]);

    /// Images and their splits.
    #[rustfmt::skip]
    const CASES: &[Case] = &[
        (640, 427, 2048, 512, [1366, 2048], [1536, 2048], [3, 4]),
        (427, 640, 2048, 512, [2048, 1366], [2048, 1536], [4, 3]),
        (512, 512, 2048, 512, [2048, 2048], [2048, 2048], [4, 4]),
        (1, 1, 2048, 512, [2048, 2048], [2048, 2048], [4, 4]),
        (2, 2, 2048, 512, [2048, 2048], [2048, 2048], [4, 4]),
        (5000, 1, 2048, 512, [1, 2048], [512, 2048], [1, 4]),
        (1, 5000, 2048, 512, [2048, 1], [2048, 512], [4, 1]),
        (3, 1000, 2048, 512, [2048, 6], [2048, 512], [4, 1]),
        (2048, 2048, 2048, 512, [2048, 2048], [2048, 2048], [4, 4]),
        (2049, 2047, 2048, 512, [2046, 2048], [2048, 2048], [4, 4]),
        (333, 4001, 2048, 512, [2048, 170], [2048, 512], [4, 1]),
        (8000, 6000, 2048, 512, [1536, 2048], [1536, 2048], [3, 4]),
        (1365, 1024, 2048, 512, [1536, 2048], [1536, 2048], [3, 4]),
        (512, 1, 2048, 512, [4, 2048], [512, 2048], [1, 4]),
        (100, 37, 2048, 512, [758, 2048], [1024, 2048], [2, 4]),
        (37, 100, 2048, 512, [2048, 758], [2048, 1024], [4, 2]),
        (4097, 4096, 2048, 512, [2048, 2048], [2048, 2048], [4, 4]),
        (16, 3000, 2048, 512, [2048, 10], [2048, 512], [4, 1]),
        (512, 512, 1536, 384, [1536, 1536], [1536, 1536], [4, 4]),
        (2, 2, 1536, 384, [1536, 1536], [1536, 1536], [4, 4]),
        (3, 1000, 1536, 384, [1536, 4], [1536, 384], [4, 1]),
        (8000, 6000, 1536, 384, [1152, 1536], [1152, 1536], [3, 4]),
        (37, 100, 1536, 384, [1536, 568], [1536, 768], [4, 2]),
        (16, 3000, 1536, 384, [1536, 8], [1536, 384], [4, 1]),
        (1101, 4663, 1536, 384, [1536, 362], [1536, 384], [4, 1]),
        (640, 427, 1456, 364, [972, 1456], [1092, 1456], [3, 4]),
        (1, 5000, 1456, 364, [1456, 1], [1456, 364], [4, 1]),
        (3, 1000, 1456, 364, [1456, 4], [1456, 364], [4, 1]),
        (2048, 2048, 1456, 364, [1456, 1456], [1456, 1456], [4, 4]),
        (37, 100, 1456, 364, [1456, 538], [1456, 728], [4, 2]),
        (16, 3000, 1456, 364, [1456, 8], [1456, 364], [4, 1]),
        (517, 2090, 1456, 364, [1456, 360], [1456, 364], [4, 1]),
        (2, 2, 5000, 512, [4096, 4096], [4096, 4096], [8, 8]),
        (1365, 1024, 5000, 512, [3072, 4096], [3072, 4096], [6, 8]),
        (37, 100, 5000, 512, [4096, 1515], [4096, 1536], [8, 3]),
        (16, 3000, 5000, 512, [4096, 21], [4096, 512], [8, 1]),
        (3683, 3869, 5000, 512, [4096, 3899], [4096, 4096], [8, 8]),
        (3110, 1720, 5000, 512, [2265, 4096], [2560, 4096], [5, 8]),
        (769, 3997, 5000, 512, [4096, 788], [4096, 1024], [8, 2]),
        (640, 427, 256, 64, [170, 256], [192, 256], [3, 4]),
        (512, 512, 256, 64, [256, 256], [256, 256], [4, 4]),
        (2, 2, 256, 64, [256, 256], [256, 256], [4, 4]),
        (3, 1000, 256, 64, [256, 1], [256, 64], [4, 1]),
        (1365, 1024, 256, 64, [192, 256], [192, 256], [3, 4]),
        (4097, 4096, 256, 64, [256, 256], [256, 256], [4, 4]),
        (966, 4059, 256, 64, [256, 60], [256, 64], [4, 1]),
        (640, 427, 364, 364, [242, 364], [364, 364], [0, 0]),
        (427, 640, 364, 364, [364, 242], [364, 364], [0, 0]),
        (5000, 1, 364, 364, [1, 364], [364, 364], [0, 0]),
        (2048, 2048, 364, 364, [364, 364], [364, 364], [0, 0]),
        (2049, 2047, 364, 364, [364, 364], [364, 364], [0, 0]),
        (37, 100, 364, 364, [364, 134], [364, 364], [0, 0]),
        (1101, 4663, 364, 364, [364, 86], [364, 364], [0, 0]),
        (2, 2, 100, 364, [100, 100], [364, 364], [0, 0]),
        (1365, 1024, 100, 364, [76, 100], [364, 364], [0, 0]),
        (512, 1, 100, 364, [1, 100], [364, 364], [0, 0]),
        (100, 37, 100, 364, [38, 100], [364, 364], [0, 0]),
        (1101, 4663, 100, 364, [100, 24], [364, 364], [0, 0]),
        (517, 2090, 100, 364, [100, 24], [364, 364], [0, 0]),
        (3110, 1720, 100, 364, [56, 100], [364, 364], [0, 0]),
        (640, 427, 0, 64, [427, 640], [448, 640], [7, 10]),
        (427, 640, 0, 64, [640, 427], [640, 448], [10, 7]),
        (512, 512, 0, 64, [512, 512], [512, 512], [8, 8]),
        (1, 1, 0, 64, [1, 1], [64, 64], [0, 0]),
        (5000, 1, 0, 64, [1, 5000], [64, 5056], [1, 79]),
        (3, 1000, 0, 64, [1000, 3], [1024, 64], [16, 1]),
        (517, 2090, 0, 64, [2090, 517], [2112, 576], [33, 9]),
    ];

    #[test]
    fn sizes_are_those_of_transformers() {
        for (width, height, edge, tile, first, second, tiles) in CASES {
            let case = (width, height, edge, tile);
            let from = Size { height: *height, width: *width };
            let target = (*edge > 0).then_some(Target::LongestEdge(*edge));
            let found = target.map_or(from, |target| target.of(from));
            assert_eq!([found.height, found.width], *first, "{case:?}");
            let found = tiled(found, *tile);
            assert_eq!([found.height, found.width], *second, "{case:?}");
            let found = grid(found, *tile).map_or([0, 0], |grid| [grid.rows, grid.columns]);
            assert_eq!(found, *tiles, "{case:?}");
        }
    }

    proptest! {
        /// Tiles cover the image exactly, whatever its shape.
        #[test]
        fn tiles_cover_the_image(
            height in 1usize..100_000, width in 1usize..100_000, edge in 1usize..10_000, tile in 1usize..2000
        ) {
            let first = Target::LongestEdge(edge).of(Size { height, width });
            prop_assert!(first.height.max(first.width) <= MAX_EDGE);
            prop_assert!(first.height.min(first.width) > 0);
            let second = tiled(first, tile);
            prop_assert!(second.height.is_multiple_of(tile) && second.width.is_multiple_of(tile));
            let tiles = second.height * second.width / (tile * tile);
            prop_assert_eq!(grid(second, tile).map_or(1, Grid::tiles), tiles);
        }
    }
}
