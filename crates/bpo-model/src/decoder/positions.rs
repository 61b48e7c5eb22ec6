//! Rotary positions of tokens.

/// The position of a token on each axis: time, rows and columns. Tokens of text have one position
/// on all axes, and models with one axis read the first.
pub(crate) type Position = [usize; 3];

/// The positions of the tokens of a row, and that of the token after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    tokens: Vec<Position>,
    next: usize,
}

impl Positions {
    /// Positions that count from `first`, the same on all axes.
    pub(crate) fn sequential(first: usize, tokens: usize) -> Self {
        Self { tokens: counted(first, tokens).collect(), next: first + tokens }
    }

    /// Positions of tokens, and that of the token after them on all axes.
    pub(crate) fn new(tokens: Vec<Position>, next: usize) -> Self {
        Self { tokens, next }
    }

    /// The position of each token.
    pub(crate) fn tokens(&self) -> &[Position] {
        &self.tokens
    }

    /// The position of the token after the row.
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// The positions of the row padded to `width` tokens. No token attends to the padding, so its
    /// positions have no effect.
    pub(crate) fn padded(&self, width: usize) -> Self {
        let behind = width.saturating_sub(self.tokens.len());
        let tokens = self.tokens.iter().copied().chain(counted(self.next, behind)).collect();
        Self { tokens, next: self.next }
    }
}

/// Positions of text that count from `first`.
fn counted(first: usize, tokens: usize) -> impl Iterator<Item = Position> {
    (first..first + tokens).map(|position| [position; 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_moves_no_later_token() {
        let row = Positions::sequential(3, 2);
        assert_eq!((row.tokens(), row.next()), (&[[3; 3], [4; 3]][..], 5));
        let padded = row.padded(4);
        assert_eq!((padded.tokens(), padded.next()), (&[[3; 3], [4; 3], [5; 3], [6; 3]][..], 5));
        assert_eq!(row.padded(1), row);
        // the row may end before the highest position plus one
        let grid = Positions::new(vec![[2, 2, 2], [2, 2, 3]], 4);
        assert_eq!(grid.padded(3).tokens(), [[2, 2, 2], [2, 2, 3], [4; 3]]);
    }
}
