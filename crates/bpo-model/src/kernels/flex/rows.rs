//! Row by row changes of f32 values, on several threads, compiled for the vector registers of the
//! processor.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Number of elements below which threads cost more than they save.
pub(super) const WORTH_A_THREAD: usize = 1 << 15;
/// Row length of data without rows.
const PIECE: usize = 1024;

/// The values that a kernel changes: in place, or as copies of other values.
pub(super) struct Changed<'a> {
    out: &'a mut [f32],
    from: Option<&'a [f32]>,
}

impl<'a> Changed<'a> {
    /// As many values as `out` has.
    pub(super) fn copies(out: &'a mut [f32], from: &'a [f32]) -> Self {
        Self { out, from: Some(from) }
    }

    /// A row length for values without rows.
    pub(super) fn piece(&self) -> usize {
        self.out.len().clamp(1, PIECE)
    }
}

impl<'a> From<&'a mut [f32]> for Changed<'a> {
    fn from(out: &'a mut [f32]) -> Self {
        Self { out, from: None }
    }
}

/// The values, unchanged.
pub(super) fn copied(x: Changed<'_>) {
    if x.from.is_some() {
        let width = x.piece();
        rows(
            x,
            width,
            #[inline(always)]
            |_, _| (),
        );
    }
}

/// Runs `each` on the rows of an output with their indices, on several threads where that pays off.
pub(super) fn rows<'a>(
    changed: impl Into<Changed<'a>>,
    width: usize,
    each: impl Fn(usize, &mut [f32]) + Sync,
) {
    rows_made_of(width, changed, width, each);
}

/// Runs `each` on rows that are each computed from `read` values, which decide on the number of
/// threads.
pub(super) fn rows_made_of<'a>(
    read: usize,
    changed: impl Into<Changed<'a>>,
    width: usize,
    each: impl Fn(usize, &mut [f32]) + Sync,
) {
    if width == 0 {
        return;
    }
    let Changed { out, from } = changed.into();
    let per_part = (WORTH_A_THREAD / read.max(1)).max(1);
    let part = |(part, out): (usize, &mut [f32])| {
        Arch::new().dispatch(Rows { out, from, width, first: part * per_part, each: &each });
    };
    if out.len() <= per_part * width {
        part((0, out));
    } else {
        out.par_chunks_mut(per_part * width).enumerate().for_each(part);
    }
}

/// A part of [`rows`], from row `first` on.
///
/// This is a struct because a closure may become a function of its own, compiled for the baseline
/// registers. For the same reason the closures passed to it are inlined.
struct Rows<'a, F> {
    out: &'a mut [f32],
    from: Option<&'a [f32]>,
    width: usize,
    first: usize,
    each: &'a F,
}

impl<F: Fn(usize, &mut [f32])> WithSimd for Rows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { out, from, width, first, each } = self;
        for (number, row) in (first..).zip(out.chunks_mut(width)) {
            if let Some(from) = from {
                row.copy_from_slice(&from[number * width..][..row.len()]);
            }
            each(number, row);
        }
    }
}

/// As [`rows`], with two outputs of one shape.
pub(super) fn rows_of_two(
    a: &mut [f32],
    b: &mut [f32],
    width: usize,
    each: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    if width == 0 {
        return;
    }
    let per_part = (WORTH_A_THREAD / width).max(1);
    let parts = a.par_chunks_mut(per_part * width).zip(b.par_chunks_mut(per_part * width)).enumerate();
    parts.for_each(|(part, (a, b))| {
        Arch::new().dispatch(RowsOfTwo { a, b, width, first: part * per_part, each: &each });
    });
}

/// A part of [`rows_of_two`], as [`Rows`].
struct RowsOfTwo<'a, F> {
    a: &'a mut [f32],
    b: &'a mut [f32],
    width: usize,
    first: usize,
    each: &'a F,
}

impl<F: Fn(usize, &mut [f32], &mut [f32])> WithSimd for RowsOfTwo<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { a, b, width, first, each } = self;
        for (number, (a, b)) in (first..).zip(a.chunks_mut(width).zip(b.chunks_mut(width))) {
            each(number, a, b);
        }
    }
}
