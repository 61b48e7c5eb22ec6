//! Rotary positions of tokens.

/// The positions of the tokens of a row, and that of the token after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    tokens: Vec<usize>,
    next: usize,
}

impl Positions {
    /// Positions that count from `first`.
    pub(crate) fn sequential(first: usize, tokens: usize) -> Self {
        Self { tokens: (first..first + tokens).collect(), next: first + tokens }
    }

    /// The position of each token.
    pub(crate) fn tokens(&self) -> &[usize] {
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
        let tokens = self.tokens.iter().copied().chain(self.next..self.next + behind).collect();
        Self { tokens, next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_moves_no_later_token() {
        let row = Positions::sequential(3, 2);
        assert_eq!((row.tokens(), row.next()), (&[3, 4][..], 5));
        let padded = row.padded(4);
        assert_eq!((padded.tokens(), padded.next()), (&[3, 4, 5, 6][..], 5));
        assert_eq!(row.padded(1), row);
    }
}
