//! Log-probabilities of the completions of each pair.

use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::tensors::{widen, without_tape};
use super::{Contrasted, TokenLogps, TokenStatistics};

/// Rows of each pair's chosen and rejected completions in a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairRows {
    /// Row of the chosen completion of each pair.
    pub chosen: Vec<usize>,
    /// Row of the rejected completion of each pair.
    pub rejected: Vec<usize>,
    /// Rows of the chosen completion of each pair given its weakened image, one list for each
    /// weakened form of the images; empty for a loss that does not need them.
    pub weakened: Vec<Vec<usize>>,
    /// Rows of the contrast of each pair; `None` for a loss that does not need them.
    pub contrast: Option<Contrasted<Vec<usize>>>,
}

impl PairRows {
    /// Creates rows without weakened images and contrasts.
    pub fn new(chosen: Vec<usize>, rejected: Vec<usize>) -> Self {
        Self { chosen, rejected, ..Self::default() }
    }

    /// Returns the rows besides those of the chosen and rejected completions, a list for each further
    /// completion of a pair.
    pub(crate) fn further(&self) -> impl Iterator<Item = &Vec<usize>> {
        self.weakened.iter().chain(self.contrast.iter().flat_map(Contrasted::values))
    }

    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Returns whether there is no pair.
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
    /// Log-probabilities of the chosen completions given the weakened image, `[pairs]` for each
    /// weakened form of the images, for losses that need them; otherwise empty.
    pub weakened: Vec<Tensor<1>>,
    /// Log-probabilities of the contrast of each pair, all `[pairs]`, for losses that need them.
    pub contrast: Option<Contrasted<Tensor<1>>>,
    /// Numbers of tokens in the sums.
    pub lengths: Option<PairLengths>,
    /// The part of the sums that exceeds the length of the shorter completion, for length
    /// desensitization.
    pub tails: Option<PairTails>,
    /// The part of the sums of the tokens in which the completions of a pair differ, for
    /// [`Objective::changed_token_weight`](super::Objective::changed_token_weight).
    pub changed: Option<PairChanged>,
    /// Statistics of the distributions, for losses that [need
    /// them](super::LossProperties::statistics).
    pub statistics: Option<PairStatistics>,
    /// Divergences from the reference, for losses that [need
    /// them](super::LossProperties::token_divergences). Those of a reference are not read.
    pub divergences: Option<PairDivergences>,
}

/// Divergences between the distributions of policy and reference, `KL(p_ref || p)` in nats, summed
/// over the tokens of each completion. Both tensors are `[pairs]`.
#[derive(Clone, Debug)]
pub struct PairDivergences {
    /// Sums of the chosen completions.
    pub chosen: Tensor<1>,
    /// Sums of the rejected completions.
    pub rejected: Tensor<1>,
}

impl PairDivergences {
    /// Sums the divergences of both completions of each pair, given those of all tokens,
    /// `[completions, tokens]`.
    ///
    /// # Panics
    /// Panics as [`PairLogps::select`] does.
    pub fn new(divergences: Tensor<2>, rows: &PairRows) -> Self {
        let PairLogps { chosen, rejected, .. } =
            PairLogps::select(divergences.sum_dim(1).squeeze_dim::<1>(1), rows);
        Self { chosen, rejected }
    }

    /// Returns the divergences of a policy that equals its reference, which are zero. `logps` are
    /// those of any model for the same pairs.
    pub(crate) fn of_equal(logps: &PairLogps) -> Self {
        let zeros = without_tape(logps.chosen.clone()).zeros_like();
        Self { chosen: zeros.clone(), rejected: zeros }
    }
}

/// [`TokenStatistics`] of the completions of each pair, summed over their tokens. All tensors are
/// `[pairs]`, without an autodiff tape.
#[derive(Clone, Debug)]
pub struct PairStatistics {
    /// Sums of the chosen completions.
    pub chosen: StatisticSums,
    /// Sums of the rejected completions.
    pub rejected: StatisticSums,
}

/// [`TokenStatistics`] summed over the tokens of one completion per pair. All tensors are
/// `[pairs]`.
#[derive(Clone, Debug)]
pub struct StatisticSums {
    /// Sum of the entropies, in nats.
    pub entropy: Tensor<1>,
    /// Sum of the mean logits.
    pub mean_logit: Tensor<1>,
    /// Sum of `log sum_v p_v^2`.
    pub log_sum_squares: Tensor<1>,
    /// Number of tokens that have the highest probability.
    pub top1: Tensor<1>,
}

impl PairStatistics {
    /// Sums the statistics of both completions of each pair.
    ///
    /// # Panics
    /// Panics as [`PairLogps::select`] does.
    pub fn new(statistics: &TokenStatistics, rows: &PairRows) -> Self {
        let sums =
            |values: &Tensor<2>| PairLogps::select(values.clone().sum_dim(1).squeeze_dim::<1>(1), rows);
        let entropy = sums(&statistics.entropy);
        let mean_logit = sums(&statistics.mean_logit);
        let log_sum_squares = sums(&statistics.log_sum_squares);
        let top1 = sums(&statistics.top1);
        Self {
            chosen: StatisticSums {
                entropy: entropy.chosen,
                mean_logit: mean_logit.chosen,
                log_sum_squares: log_sum_squares.chosen,
                top1: top1.chosen,
            },
            rejected: StatisticSums {
                entropy: entropy.rejected,
                mean_logit: mean_logit.rejected,
                log_sum_squares: log_sum_squares.rejected,
                top1: top1.rejected,
            },
        }
    }
}

/// Numbers of tokens of both completions of each pair, without an autodiff tape.
#[derive(Clone, Debug)]
pub struct PairLengths {
    /// Of the chosen completions. `[pairs]`
    pub chosen: Tensor<1>,
    /// Of the rejected completions. `[pairs]`
    pub rejected: Tensor<1>,
}

/// Sums of the log-probabilities of the tokens that exceed the length of the shorter completion of
/// the pair, in nats. The sum of the shorter completion is zero.
#[derive(Clone, Debug)]
pub struct PairTails {
    /// Of the chosen completions. `[pairs]`
    pub chosen: Tensor<1>,
    /// Of the rejected completions. `[pairs]`
    pub rejected: Tensor<1>,
}

/// The tokens in which the completions of each pair differ, as ranges of the tokens of the
/// completion. One entry for each pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedTokens {
    /// Of the chosen completions.
    pub chosen: Vec<Vec<Range<usize>>>,
    /// Of the rejected completions.
    pub rejected: Vec<Vec<Range<usize>>>,
}

/// Sums of the log-probabilities of the [tokens in which the completions of a pair
/// differ](ChangedTokens), in nats. All tensors are `[pairs]`.
#[derive(Clone, Debug)]
pub struct PairChanged {
    /// Of the chosen completions.
    pub chosen: Tensor<1>,
    /// Of the rejected completions.
    pub rejected: Tensor<1>,
    /// Of the chosen completions given the weakened image, for each weakened form.
    pub weakened: Vec<Tensor<1>>,
}

impl PairLogps {
    /// Creates log-probabilities, both `[pairs]`, for losses whose
    /// [properties](super::LossProperties) require nothing else.
    pub fn new(chosen: Tensor<1>, rejected: Tensor<1>) -> Self {
        Self {
            chosen,
            rejected,
            weakened: Vec::new(),
            contrast: None,
            lengths: None,
            tails: None,
            changed: None,
            statistics: None,
            divergences: None,
        }
    }

    /// Sums the log-probabilities of both completions of each pair, and counts their tokens.
    ///
    /// # Panics
    /// Panics as [`select`](Self::select) does.
    pub fn of_tokens(tokens: &TokenLogps, rows: &PairRows) -> Self {
        let counts = Self::select(tokens.counts(), rows);
        let lengths = PairLengths { chosen: counts.chosen, rejected: counts.rejected };
        Self { lengths: Some(lengths), ..Self::select(tokens.sum(), rows) }
    }

    /// Returns [`of_tokens`](Self::of_tokens) with the [tails](PairTails).
    ///
    /// # Panics
    /// Panics as [`select`](Self::select) does.
    pub fn with_tails(tokens: &TokenLogps, rows: &PairRows) -> Self {
        let logps = Self::of_tokens(tokens, rows);
        let counts = tokens.counts();
        let device = counts.device();
        // position of each token in its completion, from 1; anything at padding
        let places = without_tape(tokens.mask.clone().int().cumsum(1));
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

    /// Returns [`of_tokens`](Self::of_tokens) with the sums of the [changed](PairChanged) tokens.
    ///
    /// # Panics
    /// Panics as [`select`](Self::select) does.
    pub fn with_changed(tokens: &TokenLogps, rows: &PairRows, changed: &ChangedTokens) -> Self {
        let logps = Self::of_tokens(tokens, rows);
        let values = widen(tokens.logps.clone());
        let [_, width] = values.dims();
        let sums = |rows: &[usize], ranges: &[Vec<Range<usize>>]| {
            let is_changed = |ranges: &Vec<Range<usize>>, at| ranges.iter().any(|range| range.contains(&at));
            let mask: Vec<bool> =
                ranges.iter().flat_map(|ranges| (0..width).map(move |at| is_changed(ranges, at))).collect();
            let mask: Tensor<2, Bool> =
                Tensor::from_data(TensorData::new(mask, [rows.len(), width]), &values.device());
            let of_rows = values.clone().select(0, index(rows, &values.device()));
            of_rows.mask_fill(mask.bool_not(), 0.0).sum_dim(1).squeeze_dim::<1>(1)
        };
        let changed = PairChanged {
            chosen: sums(&rows.chosen, &changed.chosen),
            rejected: sums(&rows.rejected, &changed.rejected),
            weakened: rows.weakened.iter().map(|rows| sums(rows, &changed.chosen)).collect(),
        };
        Self { changed: Some(changed), ..logps }
    }

    /// Selects the completions of each pair. A completion may be in several pairs.
    ///
    /// # Shapes
    /// - `sums`: `[completions]`, see [`TokenLogps::sum`](super::TokenLogps::sum)
    /// - both fields: `[pairs]`
    ///
    /// # Panics
    /// Panics if a row is not less than the number of completions.
    pub fn select(sums: Tensor<1>, rows: &PairRows) -> Self {
        let completions = sums.dims()[0];
        assert!(
            rows.chosen
                .iter()
                .chain(&rows.rejected)
                .chain(rows.further().flatten())
                .all(|&row| row < completions),
            "rows {rows:?} must be less than the number of completions, {completions}"
        );
        let device = sums.device();
        let of = |rows: &[usize]| sums.clone().select(0, index(rows, &device));
        let weakened = rows.weakened.iter().map(|rows| of(rows)).collect();
        let contrast = rows.contrast.as_ref().map(|rows| rows.as_ref().map(|rows| of(rows)));
        Self { weakened, contrast, ..Self::new(of(&rows.chosen), of(&rows.rejected)) }
    }

    /// Returns the same values without an autodiff tape.
    pub fn inner(self) -> Self {
        Self {
            chosen: without_tape(self.chosen),
            rejected: without_tape(self.rejected),
            weakened: self.weakened.into_iter().map(without_tape).collect(),
            contrast: self.contrast.map(|contrast| contrast.map(without_tape)),
            lengths: self.lengths,
            tails: self.tails.map(|tails| PairTails {
                chosen: without_tape(tails.chosen),
                rejected: without_tape(tails.rejected),
            }),
            changed: self.changed.map(|changed| PairChanged {
                chosen: without_tape(changed.chosen),
                rejected: without_tape(changed.rejected),
                weakened: changed.weakened.into_iter().map(without_tape).collect(),
            }),
            statistics: self.statistics,
            divergences: self.divergences.map(|divergences| PairDivergences {
                chosen: without_tape(divergences.chosen),
                rejected: without_tape(divergences.rejected),
            }),
        }
    }
}

fn index(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    Tensor::from_data(rows.as_slice(), device)
}
