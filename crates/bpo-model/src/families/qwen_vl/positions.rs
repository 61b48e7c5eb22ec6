//! Rotary positions of a sequence with images, as `get_rope_index` of transformers computes them.

use crate::decoder::{Position, Positions};
use crate::input::ImageLayout;

/// Computes the positions of tokens. Text counts on, the same on all axes. The tokens of an image
/// begin at the next position and count steps of time, rows and columns; text behind them begins
/// behind the longer side of the grid.
pub(super) fn positions(ids: &[u32], image_token: u32, images: &[&ImageLayout]) -> Positions {
    let mut tokens: Vec<Position> = Vec::with_capacity(ids.len());
    let mut next = 0;
    let mut images = images.iter().filter_map(|layout| layout.grid());
    while let Some(id) = ids.get(tokens.len()) {
        let grid = if *id == image_token { images.next() } else { None };
        match grid {
            Some(grid) => {
                // the ids may end before the image does
                let left = ids.len() - tokens.len();
                tokens.extend(grid.cells().take(left).map(|cell| cell.map(|at| next + at)));
                next += grid.rows.max(grid.columns);
            }
            None => {
                tokens.push([next; 3]);
                next += 1;
            }
        }
    }
    Positions::new(tokens, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::TokenGrid;

    const IMAGE: u32 = 9;

    /// Values of `get_rope_index` in transformers 5.23.
    #[test]
    fn images_count_rows_and_columns() {
        let layouts =
            [TokenGrid::still(2, 3), TokenGrid::still(1, 1)].map(|grid| ImageLayout::of_grid(IMAGE, grid));
        let ids = [1, 2, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, 3, IMAGE, 4, 5];
        let found = positions(&ids, IMAGE, &layouts.iter().collect::<Vec<_>>());
        let image = [[2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4]];
        let expected = [&[[0; 3], [1; 3]], &image[..], &[[5; 3], [6; 3], [7; 3], [8; 3]]].concat();
        assert_eq!((found.tokens(), found.next()), (expected.as_slice(), 9));
    }

    #[test]
    fn any_ids_have_as_many_positions() {
        let layouts = [ImageLayout::of_grid(IMAGE, TokenGrid { time: 2, rows: 2, columns: 2 })];
        for ids in [&[IMAGE; 3][..], &[IMAGE; 12], &[1, IMAGE, 1], &[]] {
            assert_eq!(positions(ids, IMAGE, &layouts.iter().collect::<Vec<_>>()).tokens().len(), ids.len());
        }
    }
}
