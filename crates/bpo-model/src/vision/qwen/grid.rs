//! The grid of an image's patches, and the order in which the tower takes them.

use super::config::WindowConfig;

/// The grid of an image: time, rows and columns, in image tokens. Each token stands for a square of
/// patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenGrid {
    /// Steps of time. A still image has one.
    pub time: usize,
    /// Rows of tokens.
    pub rows: usize,
    /// Columns of tokens.
    pub columns: usize,
}

impl TokenGrid {
    /// The grid of a still image.
    pub fn still(rows: usize, columns: usize) -> Self {
        Self { time: 1, rows, columns }
    }

    /// Number of image tokens.
    pub fn tokens(&self) -> usize {
        self.time * self.rows * self.columns
    }

    /// The place of each token in time, row and column, in the order of a text.
    pub(crate) fn cells(self) -> impl Iterator<Item = [usize; 3]> {
        let of_row = move |(time, row)| (0..self.columns).map(move |column| [time, row, column]);
        (0..self.time).flat_map(move |time| (0..self.rows).map(move |row| (time, row))).flat_map(of_row)
    }
}

/// The tokens of several images in the order in which the tower takes them, and which of them
/// attend to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// The place of each token among the tokens of all images in the order of texts.
    pub(super) tokens: Vec<usize>,
    /// Tokens of each step of time of each image.
    pub(super) images: Vec<Run>,
    /// Tokens of each window. Empty for towers without windows.
    pub(super) windows: Vec<Run>,
}

/// Segments of one length that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first token.
    pub(super) start: usize,
    /// Number of segments.
    pub(super) count: usize,
    /// Tokens of a segment.
    pub(super) len: usize,
}

impl Order {
    /// Orders the tokens of images. With windows, those of a window follow each other, and windows
    /// of one size do, as far as they are of one step of time.
    pub(super) fn new(grids: &[TokenGrid], windows: Option<&WindowConfig>) -> Self {
        let mut order = Self::default();
        for grid in grids {
            for _ in 0..grid.time {
                let first = order.tokens.len();
                let area = grid.rows * grid.columns;
                push(&mut order.images, first, area);
                let Some(config) = windows else {
                    order.tokens.extend(first..first + area);
                    continue;
                };
                let mut boxes = boxes(*grid, config.side);
                boxes.sort_by_key(|[rows, columns]| std::cmp::Reverse(rows.len() * columns.len()));
                for [rows, columns] in boxes {
                    push(&mut order.windows, order.tokens.len(), rows.len() * columns.len());
                    let place = |row, column| first + row * grid.columns + column;
                    let of_row = |row| columns.clone().map(move |column| place(row, column));
                    order.tokens.extend(rows.clone().flat_map(of_row));
                }
            }
        }
        order
    }

    /// The place in this order of each token in the order of texts. `None` if they are the same.
    pub(super) fn back(&self) -> Option<Vec<u32>> {
        if self.tokens.iter().enumerate().all(|(place, token)| place == *token) {
            return None;
        }
        let mut back = vec![0; self.tokens.len()];
        for (place, token) in (0..).zip(&self.tokens) {
            back[*token] = place;
        }
        Some(back)
    }
}

/// Rows and columns of the windows of a grid. Those at the edges may be smaller.
fn boxes(grid: TokenGrid, side: usize) -> Vec<[std::ops::Range<usize>; 2]> {
    let spans = |len: usize| (0..len).step_by(side.max(1)).map(move |at| at..len.min(at + side.max(1)));
    spans(grid.rows)
        .flat_map(|rows| spans(grid.columns).map(move |columns| [rows.clone(), columns]))
        .collect()
}

/// Appends a segment that begins at `start`, behind all others.
fn push(runs: &mut Vec<Run>, start: usize, len: usize) {
    match runs.last_mut() {
        Some(last) if last.len == len => last.count += 1,
        _ => runs.push(Run { start, count: 1, len }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_are_squares_of_tokens() {
        let window = WindowConfig { side: 2, full_layers: Vec::new() };
        let order = Order::new(&[TokenGrid::still(3, 5)], Some(&window));
        assert_eq!(order.tokens, [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]);
        let run = |start, count, len| Run { start, count, len };
        assert_eq!(order.windows, [run(0, 2, 4), run(8, 3, 2), run(14, 1, 1)]);
        assert_eq!(order.images, [run(0, 1, 15)]);
        assert_eq!(Order::new(&[TokenGrid::still(3, 5)], None).back(), None);
    }

    proptest! {
        #[test]
        fn each_token_is_in_one_window_and_one_image(
            sizes in prop::collection::vec((1usize..3, 1usize..9, 1usize..9), 1..4), side in 1usize..5,
        ) {
            let grids: Vec<_> =
                sizes.iter().map(|(time, rows, columns)| TokenGrid { time: *time, rows: *rows, columns: *columns }).collect();
            let window = WindowConfig { side, full_layers: Vec::new() };
            let order = Order::new(&grids, Some(&window));
            let tokens = grids.iter().map(TokenGrid::tokens).sum::<usize>();
            for runs in [&order.windows, &order.images] {
                let mut end = 0;
                for run in runs {
                    prop_assert_eq!(run.start, end);
                    end += run.count * run.len;
                }
                prop_assert_eq!(end, tokens);
            }
            let back = order.back().unwrap_or_else(|| (0..tokens as u32).collect());
            for (token, place) in back.into_iter().enumerate() {
                prop_assert_eq!(order.tokens[place as usize], token);
            }
            let cells: Vec<_> = grids.iter().flat_map(|grid| grid.cells()).collect();
            for run in &order.windows {
                for segment in order.tokens[run.start..run.start + run.count * run.len].chunks(run.len) {
                    let window = |token: &usize| cells[*token].map(|at| at / side)[1..].to_vec();
                    prop_assert!(segment.iter().all(|token| window(token) == window(&segment[0])));
                }
            }
        }
    }
}
