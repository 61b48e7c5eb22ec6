//! Log-probabilities of whole completions, in pairs.

use burn::tensor::{Device, Int, Tensor};

use crate::gradients::widen;
use crate::policy::TokenLogps;
use crate::tensors::off_tape;

/// Which completion of a batch is the chosen and which the rejected one of each pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairRows {
    /// Row of the chosen completion of each pair.
    pub chosen: Vec<usize>,
    /// Row of the rejected completion of each pair.
    pub rejected: Vec<usize>,
    /// Row of the chosen completion of each pair behind its weakened image; empty where nobody asks.
    pub weakened: Vec<usize>,
}

impl PairRows {
    /// Without rows behind weakened images.
    pub fn new(chosen: Vec<usize>, rejected: Vec<usize>) -> Self {
        Self { chosen, rejected, weakened: Vec::new() }
    }

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
    /// Of the chosen completions given the weakened image, where it is computed. `[pairs]`
    pub weakened: Option<Tensor<1>>,
    /// Numbers of tokens that the sums are of, which some losses need.
    pub lengths: Option<PairLengths>,
    /// What of the sums lies behind the shorter completion's length, which length desensitization needs.
    pub tails: Option<PairTails>,
}

/// Numbers of tokens of both completions of each pair, on no autodiff tape.
#[derive(Clone, Debug)]
pub struct PairLengths {
    /// Of the chosen completions. `[pairs]`
    pub chosen: Tensor<1>,
    /// Of the rejected completions. `[pairs]`
    pub rejected: Tensor<1>,
}

/// Log-probabilities of the tokens of each completion that lie behind the length of the shorter one of its pair, summed, in
/// nats. One of both is zero.
#[derive(Clone, Debug)]
pub struct PairTails {
    /// Of the chosen completions. `[pairs]`
    pub chosen: Tensor<1>,
    /// Of the rejected completions. `[pairs]`
    pub rejected: Tensor<1>,
}

impl PairLogps {
    /// Sums without lengths and without weakened images, for the losses that [need none](crate::loss::Loss::needs_lengths). Both `[pairs]`.
    pub fn new(chosen: Tensor<1>, rejected: Tensor<1>) -> Self {
        Self { chosen, rejected, weakened: None, lengths: None, tails: None }
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

    /// The sums and lengths of pairs of completions, and what lies behind the shorter one's length.
    ///
    /// # Panics
    /// As [`select`](Self::select).
    pub fn with_tails(tokens: &TokenLogps, rows: &PairRows) -> Self {
        let logps = Self::of_tokens(tokens, rows);
        let counts = tokens.counts();
        let device = counts.device();
        // position of each token in its completion, from 1; anything at padding
        let places = off_tape(tokens.mask.clone().int().cumsum(1));
        let shorter = |one: &[usize], other: &[usize]| {
            let [one, other] = [one, other].map(|rows| counts.clone().select(0, index(rows, &device)));
            one.min_pair(other)
        };
        let tail = |rows: &[usize], shared: Tensor<1>| {
            let behind = places.clone().select(0, index(rows, &device)).float();
            let behind = behind.greater(shared.unsqueeze_dim::<2>(1));
            let sums = widen(tokens.logps.clone()).select(0, index(rows, &tokens.logps.device()));
            let behind = if sums.is_autodiff() { Tensor::from_inner(behind) } else { behind };
            sums.mask_fill(behind.bool_not(), 0.0).sum_dim(1).squeeze_dim::<1>(1)
        };
        let shared = shorter(&rows.chosen, &rows.rejected);
        let tails =
            PairTails { chosen: tail(&rows.chosen, shared.clone()), rejected: tail(&rows.rejected, shared) };
        Self { tails: Some(tails), ..logps }
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
            rows.chosen.iter().chain(&rows.rejected).chain(&rows.weakened).all(|&row| row < completions),
            "rows {rows:?} must be less than the number of completions, {completions}"
        );
        let device = sums.device();
        let of = |rows: &[usize]| sums.clone().select(0, index(rows, &device));
        let weakened = (!rows.weakened.is_empty()).then(|| of(&rows.weakened));
        Self { weakened, ..Self::new(of(&rows.chosen), of(&rows.rejected)) }
    }

    /// The same values as constants: on no autodiff tape.
    pub fn inner(self) -> Self {
        Self {
            chosen: off_tape(self.chosen),
            rejected: off_tape(self.rejected),
            weakened: self.weakened.map(off_tape),
            lengths: self.lengths,
            tails: self.tails.map(|tails| PairTails {
                chosen: off_tape(tails.chosen),
                rejected: off_tape(tails.rejected),
            }),
        }
    }
}

fn index(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    Tensor::from_data(rows.as_slice(), device)
}
