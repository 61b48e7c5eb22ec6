//! The grid of tiles that an image is split into.
//!
//! This is the arithmetic of transformers' `image_processing_pil_got_ocr2.py`
//! (`get_all_supported_aspect_ratios`, `get_optimal_tiled_canvas`). Ratios are computed in f64, as in
//! Python.

use std::sync::Arc;

/// Rows and columns of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The grids that an image may be split into.
#[derive(Clone, Debug)]
pub(super) struct Grids {
    /// By their number of tiles, and grids of as many tiles by their columns.
    all: Arc<[Grid]>,
    /// Side of a tile, in pixels.
    side: usize,
}

impl Grid {
    /// An image that is not split.
    pub(super) const WHOLE: Self = Self { rows: 1, columns: 1 };

    /// Number of tiles of an image: the cells of the grid, and a copy of the whole image behind
    /// several cells.
    pub(super) fn tiles(self) -> usize {
        match self.rows * self.columns {
            1 => 1,
            cells => cells + 1,
        }
    }

    fn aspect_ratio(self) -> f64 {
        self.columns as f64 / self.rows as f64
    }
}

impl Grids {
    /// The grids with at least `min` and at most `max` cells, of tiles with a side in pixels.
    pub(super) fn new(min: usize, max: usize, side: usize) -> Self {
        let of_columns = |columns: usize| (1..=max / columns).map(move |rows| Grid { rows, columns });
        let mut all: Vec<_> =
            (1..=max).flat_map(of_columns).filter(|grid| grid.rows * grid.columns >= min).collect();
        // stable, so grids of as many cells stay in the order of their columns
        all.sort_by_key(|grid| grid.rows * grid.columns);
        Self { all: all.into(), side }
    }

    /// The same tiles, for images that are not split.
    pub(super) fn whole(&self) -> Self {
        Self { all: Arc::new([]), side: self.side }
    }

    /// The grid whose shape is nearest to that of an image with at least one pixel. Of equally near
    /// ones it is the largest that has less than twice the pixels of the image.
    pub(super) fn nearest(&self, width: u32, height: u32) -> Grid {
        let ratio = f64::from(width) / f64::from(height);
        let area = f64::from(width) * f64::from(height);
        let tile = (self.side * self.side) as f64;
        let (mut best, mut least) = (Grid::WHOLE, f64::INFINITY);
        for grid in self.all.iter().copied() {
            let difference = (ratio - grid.aspect_ratio()).abs();
            let is_better = if difference == least {
                area > 0.5 * tile * (grid.rows * grid.columns) as f64
            } else {
                difference < least
            };
            if is_better {
                (best, least) = (grid, difference);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Width and height of an image, least and most cells, side of a tile; then columns and rows of
    /// `get_optimal_tiled_canvas` in transformers 5.23.
    type Case = (u32, u32, usize, usize, usize, [usize; 2]);

    #[rustfmt::skip]
    const CASES: &[Case] = &[
        (640, 427, 1, 12, 448, [3, 2]),
        (427, 640, 1, 12, 448, [2, 3]),
        (448, 448, 1, 12, 448, [1, 1]),
        (634, 634, 1, 12, 448, [2, 2]),
        (633, 633, 1, 12, 448, [1, 1]),
        (895, 896, 1, 12, 448, [2, 2]),
        (1, 1, 1, 12, 448, [1, 1]),
        (5000, 1, 1, 12, 448, [12, 1]),
        (1, 5000, 1, 12, 448, [1, 12]),
        (8000, 6000, 1, 12, 448, [4, 3]),
        (1365, 1024, 1, 12, 448, [4, 3]),
        (100, 37, 1, 12, 448, [5, 2]),
        (2048, 2048, 1, 12, 448, [3, 3]),
        (1600, 900, 1, 12, 448, [4, 2]),
        (336, 1000, 1, 12, 448, [1, 3]),
        (1100, 1100, 1, 12, 448, [3, 3]),
        (1552, 1552, 1, 12, 448, [3, 3]),
        (448, 448, 1, 6, 448, [1, 1]),
        (448, 448, 3, 8, 448, [2, 2]),
        (448, 448, 0, 2, 448, [1, 1]),
        (900, 900, 1, 6, 448, [2, 2]),
        (900, 900, 3, 8, 448, [2, 2]),
        (900, 900, 0, 2, 448, [1, 1]),
        (3000, 2000, 1, 6, 448, [3, 2]),
        (3000, 2000, 3, 8, 448, [3, 2]),
        (3000, 2000, 0, 2, 448, [2, 1]),
        (7, 4000, 1, 6, 448, [1, 6]),
        (7, 4000, 3, 8, 448, [1, 8]),
        (7, 4000, 0, 2, 448, [1, 2]),
        (500, 400, 5, 4, 448, [1, 1]),
        (500, 400, 1, 1, 448, [1, 1]),
        (1500, 400, 40, 40, 448, [10, 4]),
        (1500, 1400, 1, 100, 224, [10, 9]),
        (56, 28, 1, 6, 28, [2, 1]),
        (57, 28, 1, 6, 28, [2, 1]),
        (64, 64, 1, 6, 28, [2, 2]),
        (150, 67, 1, 6, 28, [2, 1]),
        (41, 118, 1, 6, 28, [1, 3]),
        (211, 180, 1, 6, 28, [2, 2]),
        (2552, 1047, 2, 24, 448, [5, 2]),
        (3443, 1908, 1, 6, 448, [2, 1]),
        (464, 1523, 1, 12, 336, [2, 6]),
        (2228, 418, 2, 12, 448, [5, 1]),
        (2995, 888, 1, 24, 448, [7, 2]),
        (3754, 3554, 1, 12, 448, [3, 3]),
        (569, 2532, 2, 40, 448, [2, 9]),
        (542, 8, 1, 12, 448, [12, 1]),
        (3933, 680, 1, 24, 336, [12, 2]),
        (3939, 815, 2, 12, 448, [5, 1]),
        (3855, 3968, 2, 12, 336, [3, 3]),
        (1224, 89, 1, 40, 448, [14, 1]),
    ];

    #[test]
    fn grids_are_those_of_transformers() {
        for (width, height, min, max, side, expected) in CASES {
            let found = Grids::new(*min, *max, *side).nearest(*width, *height);
            assert_eq!([found.columns, found.rows], *expected, "{width} x {height}, {min} to {max}, {side}");
        }
    }

    #[test]
    fn a_copy_of_the_image_follows_several_cells() {
        assert_eq!(Grid::WHOLE.tiles(), 1);
        assert_eq!(Grid { rows: 2, columns: 3 }.tiles(), 7);
        assert_eq!(Grids::new(1, 12, 448).whole().nearest(4000, 30), Grid::WHOLE);
    }

    proptest! {
        #[test]
        fn cells_are_within_their_limits(
            width in 1u32..100_000, height in 1u32..100_000, min in 0usize..20, more in 0usize..20
        ) {
            let max = min + more;
            let grid = Grids::new(min, max, 448).nearest(width, height);
            // no grid has the number of cells where the most is zero
            prop_assert!((min.max(1)..=max.max(1)).contains(&(grid.rows * grid.columns)));
            // a longer side has no fewer cells
            prop_assert!(width < height || min > 1 || grid.columns >= grid.rows);
        }
    }
}
