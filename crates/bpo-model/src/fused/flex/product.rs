//! Products of matrices that lie anywhere in a slice.

use std::ops::RangeInclusive;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Multiplications from which on threads are worth their start.
const WORTH_THREADS: usize = 1 << 21;
/// Rows of which a product is a walk over the weights: they are read once, and where they lie. For fewer, gemm does that, too.
pub(super) const FEW: RangeInclusive<usize> = 4..=16;

/// A matrix to read.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    /// From a row, and from a column, to the next.
    strides: [usize; 2],
}

/// A matrix to write, with its columns side by side.
pub(super) struct MatrixMut<'a> {
    values: &'a mut [f32],
    shape: [usize; 2],
    /// From a row to the next.
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If it does not lie in the slice.
    pub(super) fn new(values: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(span(shape, strides) <= values.len(), "{shape:?} by {strides:?} in {}", values.len());
        Self { values, shape, strides }
    }

    pub(super) fn shape(self) -> [usize; 2] {
        self.shape
    }

    /// Rows as columns.
    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [right, down], ..self }
    }
}

impl<'a> MatrixMut<'a> {
    /// # Panics
    /// If it does not lie in the slice, or its rows overlap.
    pub(super) fn new(values: &'a mut [f32], shape: [usize; 2], stride: usize) -> Self {
        assert!(span(shape, [stride, 1]) <= values.len(), "{shape:?} by {stride} in {}", values.len());
        assert!(stride >= shape[1], "rows of {} by {stride}", shape[1]);
        Self { values, shape, stride }
    }
}

/// Values from the first of a matrix to its last.
fn span(shape: [usize; 2], strides: [usize; 2]) -> usize {
    match shape.contains(&0) {
        true => 0,
        false => (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1] + 1,
    }
}

/// `out = scale a b`, or `out += scale a b`, on as many threads as it is large.
///
/// # Panics
/// If the shapes do not fit together.
pub(super) fn product(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, scale: f32, adds: bool) {
    let ([m, k], [_, n]) = (a.shape, b.shape);
    let threads = match m * n * k >= WORTH_THREADS && rayon::current_thread_index().is_none() {
        true => gemm::Parallelism::Rayon(0),
        false => gemm::Parallelism::None,
    };
    assert!(b.shape[0] == k && out.shape == [m, n], "{:?} = {:?} {:?}", out.shape, a.shape, b.shape);
    let strides = |matrix: Matrix<'_>| matrix.strides.map(|stride| stride as isize);
    let ([a_down, a_right], [b_down, b_right]) = (strides(a), strides(b));
    #[allow(unsafe_code, reason = "gemm takes pointers")]
    // SAFETY: `Matrix` and `MatrixMut` hold that all places by these shapes and strides lie in their slices, and that rows of the
    // output do not overlap; being borrowed for writing, it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.values.as_mut_ptr(),
            1,
            out.stride as isize,
            adds,
            a.values.as_ptr(),
            a_right,
            a_down,
            b.values.as_ptr(),
            b_right,
            b_down,
            1.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

/// `x w^T` for few rows `x`, `[rows, width]`, and many of `w`, `[outputs, width]`, both contiguous. `[rows, outputs]`
pub(super) fn narrow(out: &mut [f32], x: &[f32], w: &[f32], width: usize) {
    /// Outputs that a thread takes at a time.
    const PART: usize = 96;
    let rows = x.len() / width;
    let outputs = w.len() / width;
    // a part's results side by side
    let mut columns = vec![0.0; outputs * rows];
    let part = |(part, columns): (usize, &mut [f32])| {
        let w = &w[part * PART * width..][..columns.len() / rows * width];
        Arch::new().dispatch(Narrow { columns, x, w, width });
    };
    if w.len() * rows < WORTH_THREADS {
        columns.chunks_mut(PART * rows).enumerate().for_each(part);
    } else {
        columns.par_chunks_mut(PART * rows).enumerate().for_each(part);
    }
    for (row, out) in out.chunks_mut(outputs).enumerate() {
        for (out, column) in out.iter_mut().zip(columns.chunks(rows)) {
            *out = column[row];
        }
    }
}

/// A part of [`narrow`]: `columns` are `[outputs, rows]`.
struct Narrow<'a> {
    columns: &'a mut [f32],
    x: &'a [f32],
    w: &'a [f32],
    width: usize,
}

impl WithSimd for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { columns, x, w, width } = self;
        let rows = x.len() / width;
        for (columns, w) in columns.chunks_mut(3 * rows).zip(w.chunks(3 * width)) {
            match columns.len() / rows {
                3 => dots_of_rows::<S, 3>(simd, columns, x, w, width),
                2 => dots_of_rows::<S, 2>(simd, columns, x, w, width),
                _ => dots_of_rows::<S, 1>(simd, columns, x, w, width),
            }
        }
    }
}

/// `N` outputs of all rows.
#[inline(always)]
fn dots_of_rows<S: Simd, const N: usize>(simd: S, columns: &mut [f32], x: &[f32], w: &[f32], width: usize) {
    let rows = x.len() / width;
    let w: [&[f32]; N] = std::array::from_fn(|n| &w[n * width..][..width]);
    let row = |row: usize| &x[row * width..][..width];
    let whole = rows / 4 * 4;
    for first in (0..whole).step_by(4) {
        let sums = dots::<S, 4, N>(simd, std::array::from_fn(|m| row(first + m)), w);
        for (m, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                columns[n * rows + first + m] = *sum;
            }
        }
    }
    for first in whole..rows {
        for (n, sum) in dots::<S, 1, N>(simd, [row(first)], w)[0].iter().enumerate() {
            columns[n * rows + first] = *sum;
        }
    }
}

/// Each of `x` with each of `w`, as many sums as registers hold.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "two dimensions at once")]
fn dots<S: Simd, const M: usize, const N: usize>(simd: S, x: [&[f32]; M], w: [&[f32]; N]) -> [[f32; N]; M] {
    let (x, w) = (x.map(S::as_simd_f32s), w.map(S::as_simd_f32s));
    let whole = w[0].0.len();
    let x = x.map(|(x, rest)| (&x[..whole], rest));
    let w = w.map(|(w, rest)| (&w[..whole], rest));
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for at in 0..whole {
        for m in 0..M {
            for n in 0..N {
                sums[m][n] = simd.mul_add_e_f32s(x[m].0[at], w[n].0[at], sums[m][n]);
            }
        }
    }
    // loops, for closures are compiled without the vector registers where they are not inlined
    let mut dots = [[0.0; N]; M];
    for m in 0..M {
        for n in 0..N {
            let mut rest = 0.0;
            for (x, w) in x[m].1.iter().zip(w[n].1) {
                rest += x * w;
            }
            dots[m][n] = simd.reduce_sum_f32s(sums[m][n]) + rest;
        }
    }
    dots
}
