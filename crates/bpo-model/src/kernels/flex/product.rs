//! Matrix products of strided matrices.

use std::ops::RangeInclusive;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Number of multiplications from which threads pay off.
const WORTH_THREADS: usize = 1 << 21;
/// Numbers of rows for which the product reads the weights once, in place. For a single row gemm
/// does that as well.
pub(super) const FEW: RangeInclusive<usize> = 2..=16;

/// The threads of a product.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Threads {
    /// The caller's thread; the caller runs several products on several threads.
    One,
    /// As many threads as the size of the product justifies.
    All,
}

impl Threads {
    fn are_worth(self, multiplications: usize) -> bool {
        self == Self::All && multiplications >= WORTH_THREADS
    }
}

/// A matrix to read.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    /// Strides of rows and of columns.
    strides: [usize; 2],
}

/// A matrix to write, with contiguous columns.
pub(super) struct MatrixMut<'a> {
    values: &'a mut [f32],
    shape: [usize; 2],
    /// Stride of rows.
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If the matrix does not lie in the slice.
    pub(super) fn new(values: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(span(shape, strides) <= values.len(), "{shape:?} by {strides:?} in {}", values.len());
        Self { values, shape, strides }
    }

    pub(super) fn shape(self) -> [usize; 2] {
        self.shape
    }

    /// Its values in row-major order, if it is contiguous.
    pub(super) fn contiguous(self) -> Option<&'a [f32]> {
        let [rows, columns] = self.shape;
        (self.strides == [columns, 1]).then(|| &self.values[..rows * columns])
    }

    /// A row-major copy, times `scale`.
    pub(super) fn scaled(self, scale: f32) -> Vec<f32> {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        let row =
            |row: usize| (0..columns).map(move |column| scale * self.values[row * down + column * right]);
        (0..rows).flat_map(row).collect()
    }

    /// The transposed matrix.
    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [down, right]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [right, down], ..self }
    }
}

impl<'a> MatrixMut<'a> {
    /// # Panics
    /// If the matrix does not lie in the slice, or its rows overlap.
    pub(super) fn new(values: &'a mut [f32], shape: [usize; 2], stride: usize) -> Self {
        assert!(span(shape, [stride, 1]) <= values.len(), "{shape:?} by {stride} in {}", values.len());
        assert!(stride >= shape[1], "rows of {} by {stride}", shape[1]);
        Self { values, shape, stride }
    }
}

/// Number of values from the first of a matrix to its last.
fn span(shape: [usize; 2], strides: [usize; 2]) -> usize {
    if shape.contains(&0) { 0 } else { (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1] + 1 }
}

/// Computes `out = scale a b`, or `out += scale a b`.
///
/// # Panics
/// If the shapes do not fit together.
pub(super) fn product(
    out: MatrixMut<'_>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    adds: bool,
    threads: Threads,
) {
    let ([m, k], [_, n]) = (a.shape, b.shape);
    let threads =
        if threads.are_worth(m * n * k) { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    assert!(b.shape[0] == k && out.shape == [m, n], "{:?} = {:?} {:?}", out.shape, a.shape, b.shape);
    let strides = |matrix: Matrix<'_>| matrix.strides.map(|stride| stride as isize);
    let ([a_down, a_right], [b_down, b_right]) = (strides(a), strides(b));
    #[allow(unsafe_code, reason = "gemm takes pointers")]
    // SAFETY: `Matrix` and `MatrixMut` guarantee that all places of these shapes and strides lie in
    // their slices, and that rows of the output do not overlap. The output is borrowed mutably, so
    // it overlaps neither input.
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

/// Computes `x w^T` for few rows `x`, `[rows, width]`, and many rows of `w`, `[outputs, width]`,
/// both contiguous: `[rows, outputs]`.
pub(super) fn narrow(out: &mut [f32], x: &[f32], w: &[f32], width: usize, threads: Threads) {
    /// Outputs that a thread computes at a time.
    const PART: usize = 96;
    if out.is_empty() {
        return;
    }
    let outputs = w.len() / width;
    let rows = out.len() / outputs;
    let mut parts: Vec<_> = w.chunks(PART * width).map(|w| (w, Vec::with_capacity(rows))).collect();
    for row in out.chunks_mut(outputs) {
        parts.iter_mut().zip(row.chunks_mut(PART)).for_each(|((_, out), row)| out.push(row));
    }
    let part = |(w, out): (&[f32], Vec<&mut [f32]>)| Arch::new().dispatch(Narrow { out, x, w, width });
    if threads.are_worth(x.len() * outputs) {
        parts.into_par_iter().for_each(part);
    } else {
        parts.into_iter().for_each(part);
    }
}

/// A part of [`narrow`], with the piece of each row that it writes.
struct Narrow<'a> {
    out: Vec<&'a mut [f32]>,
    x: &'a [f32],
    w: &'a [f32],
    width: usize,
}

impl WithSimd for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut out, x, w, width } = self;
        let eights = out.len() / 8 * 8;
        let x8 = side_by_side::<S, 8>(simd, &x[..eights * width], width);
        let x4 = side_by_side::<S, 4>(simd, &x[eights * width..], width);
        let vectors = width.div_ceil(S::F32_LANES);
        let (of_eights, of_fours) = out.split_at_mut(eights);
        for (column, w) in w.chunks(width).enumerate() {
            for (out, x) in of_eights.chunks_mut(8).zip(x8.chunks(vectors)) {
                dots(simd, x, w, out, column);
            }
            for (out, x) in of_fours.chunks_mut(4).zip(x4.chunks(vectors)) {
                dots(simd, x, w, out, column);
            }
        }
    }
}

/// Packs rows in blocks of `M`, the last one filled up with zeros. A block has the first vectors of
/// all of its rows, then the second vectors, and so on.
#[inline(always)]
fn side_by_side<S: Simd, const M: usize>(simd: S, x: &[f32], width: usize) -> Vec<[S::f32s; M]> {
    let vectors = width.div_ceil(S::F32_LANES);
    let mut blocks = vec![[simd.splat_f32s(0.0); M]; x.len().div_ceil(M * width) * vectors];
    for (block, x) in blocks.chunks_mut(vectors).zip(x.chunks(M * width)) {
        for (m, row) in x.chunks(width).enumerate() {
            let (whole, rest) = S::as_simd_f32s(row);
            block.iter_mut().zip(whole).for_each(|(vectors, whole)| vectors[m] = *whole);
            if let Some(last) = block.get_mut(whole.len()) {
                last[m] = simd.partial_load_f32s(rest);
            }
        }
    }
    blocks
}

/// How far ahead a row of weights is prefetched, in values; processors do not prefetch that far by
/// themselves.
const AHEAD: usize = 1024;

/// Prefetches the weights that are `AHEAD`, which may be any address.
#[inline(always)]
fn ask_ahead(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "as the hint is declared")]
    // SAFETY: a prefetch reads nothing, and may be given any address
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Multiplies a row of weights with the rows of a block, and writes a column of the output.
#[inline(always)]
fn dots<S: Simd, const M: usize>(
    simd: S,
    x: &[[S::f32s; M]],
    w: &[f32],
    out: &mut [&mut [f32]],
    column: usize,
) {
    let (whole, rest) = S::as_simd_f32s(w);
    let mut sums = [simd.splat_f32s(0.0); M];
    for (x, w) in x.iter().zip(whole) {
        ask_ahead(std::ptr::from_ref(w).cast());
        for m in 0..M {
            sums[m] = simd.mul_add_e_f32s(x[m], *w, sums[m]);
        }
    }
    if let Some(x) = x.get(whole.len()) {
        let w = simd.partial_load_f32s(rest);
        for m in 0..M {
            sums[m] = simd.mul_add_e_f32s(x[m], w, sums[m]);
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        out[column] = simd.reduce_sum_f32s(sums);
    }
}
