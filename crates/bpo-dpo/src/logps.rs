//! Log-probabilities of whole completions, in pairs.

use burn::tensor::{Device, Int, Tensor};

use crate::policy::TokenLogps;

/// Which completion of a batch is the chosen and which the rejected one of each pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairRows {
    /// Row of the chosen completion of each pair.
    pub chosen: Vec<usize>,
    /// Row of the rejected completion of each pair.
    pub rejected: Vec<usize>,
}

impl PairRows {
    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }
}

/// Log-probabilities of both completions of each pair, summed over their tokens, in nats.
#[derive(Clone, Debug)]
pub struct PairLogps {
    /// Of the chosen completions. `[pairs]`
    pub chosen: Tensor<1>,
    /// Of the rejected completions. `[pairs]`
    pub rejected: Tensor<1>,
    /// Numbers of tokens that the sums are of, which some losses need.
    pub lengths: Option<PairLengths>,
}

/// Numbers of tokens of both completions of each pair, on no autodiff tape.
#[derive(Clone, Debug)]
pub struct PairLengths {
    /// Of the chosen completions. `[pairs]`
    pub chosen: Tensor<1>,
    /// Of the rejected completions. `[pairs]`
    pub rejected: Tensor<1>,
}

impl PairLogps {
    /// Sums without lengths, for the losses that need none: [`Loss::Sft`](crate::loss::Loss::Sft) panics without them. Both
    /// `[pairs]`.
    pub fn new(chosen: Tensor<1>, rejected: Tensor<1>) -> Self {
        Self { chosen, rejected, lengths: None }
    }

    /// The sums and lengths of pairs of completions.
    ///
    /// # Panics
    /// As [`select`](Self::select).
    pub fn of_tokens(tokens: &TokenLogps, rows: &PairRows) -> Self {
        let counts = Self::select(tokens.counts(), rows);
        let lengths = PairLengths { chosen: counts.chosen, rejected: counts.rejected };
        Self { lengths: Some(lengths), ..Self::select(tokens.sum(), rows) }
    }

    /// Picks the completions of each pair; one completion may be in several pairs.
    ///
    /// # Shapes
    /// - `sums`: `[completions]`, see [`TokenLogps::sum`](crate::policy::TokenLogps::sum)
    /// - both fields: `[pairs]`
    ///
    /// # Panics
    /// If a row is not less than the number of completions.
    pub fn select(sums: Tensor<1>, rows: &PairRows) -> Self {
        let completions = sums.dims()[0];
        assert!(
            rows.chosen.iter().chain(&rows.rejected).all(|&row| row < completions),
            "rows {rows:?} must be less than the number of completions, {completions}"
        );
        let device = sums.device();
        Self::new(
            sums.clone().select(0, index(&rows.chosen, &device)),
            sums.select(0, index(&rows.rejected, &device)),
        )
    }

    /// The same values as constants: on no autodiff tape.
    pub fn inner(self) -> Self {
        Self { chosen: self.chosen.inner(), rejected: self.rejected.inner(), lengths: self.lengths }
    }
}

fn index(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    Tensor::from_data(rows.as_slice(), device)
}
