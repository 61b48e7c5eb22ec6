//! The two passes of a resize, as loops over integers.

use super::taps::Taps;
use super::{CHANNELS, Pixel};
use crate::simd::Kernel;

/// Fractional bits of a weight (`PRECISION_BITS` of Pillow). Sums of weight times level fit into 32
/// bits.
pub(super) const PRECISION: u32 = 32 - 8 - 2;

const HALF: i32 = 1 << (PRECISION - 1);

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Rounds sums to levels. A loop, because `map` would be compiled without AVX2.
#[inline(always)]
fn round<const N: usize>(sums: &[i32; N], levels: &mut [u8; N]) {
    for (level, sum) in levels.iter_mut().zip(sums) {
        *level = rounded(*sum);
    }
}

/// Adds levels, multiplied by a common weight.
#[inline(always)]
fn add<const N: usize>(sums: &mut [i32; N], levels: &[u8; N], weight: i32) {
    for (sum, level) in sums.iter_mut().zip(levels) {
        *sum += i32::from(*level) * weight;
    }
}

/// The pass along rows.
pub(super) struct Across<'a> {
    /// Rows of RGB. The first starts with the first pixel that the taps read.
    pub levels: &'a [u8],
    /// Number of levels from one row to the next.
    pub stride: usize,
    pub taps: &'a Taps,
    /// The output pixels, row by row.
    pub pixels: &'a mut [Pixel],
}

impl Kernel for Across<'_> {
    type Output = ();

    /// Processes eight rows at a time with interleaved pixels, so that all lanes of a vector have
    /// the same weight.
    #[inline(always)]
    fn run(self) {
        const ROWS: usize = 8;
        const LANES: usize = ROWS * size_of::<Pixel>();
        let Self { levels, stride, taps, pixels } = self;
        let (reach, width) = (taps.reach(), taps.len());
        let mut strip = vec![[0; LANES]; reach.len()];
        let mut summed = vec![[0; LANES]; width];
        for (group, pixels) in pixels.chunks_mut(width * ROWS).enumerate() {
            for lane in 0..pixels.len() / width {
                let row = &levels[(group * ROWS + lane) * stride..][..reach.len() * CHANNELS];
                spread(row, &mut strip, lane);
            }
            for ((first, weights), summed) in taps.iter().zip(&mut summed) {
                let mut sums = [HALF; LANES];
                for (levels, weight) in strip[first - reach.start..].iter().zip(weights) {
                    add(&mut sums, levels, *weight);
                }
                round(&sums, summed);
            }
            for (lane, row) in pixels.chunks_exact_mut(width).enumerate() {
                for (pixel, summed) in row.iter_mut().zip(&summed) {
                    *pixel = summed.as_chunks().0[lane];
                }
            }
        }
    }
}

/// Writes each pixel of a row to its lane.
#[inline(always)]
fn spread<const LANES: usize>(row: &[u8], strip: &mut [[u8; LANES]], lane: usize) {
    let at = lane * size_of::<Pixel>();
    // Copies four bytes at once, including one of the next pixel.
    for (pixel, strip) in row.windows(size_of::<Pixel>()).step_by(CHANNELS).zip(&mut *strip) {
        strip[at..at + size_of::<Pixel>()].copy_from_slice(pixel);
    }
    if let (Some(pixel), Some(strip)) = (row.last_chunk::<CHANNELS>(), strip.last_mut()) {
        strip[at..at + CHANNELS].copy_from_slice(pixel);
    }
}

/// The pass along columns, for one output row.
pub(super) struct Down<'a> {
    /// The first input row, and the rows after it.
    pub levels: &'a [u8],
    /// Number of levels from one row to the next.
    pub stride: usize,
    /// The weight of each row.
    pub weights: &'a [i32],
    pub row: &'a mut [u8],
}

impl Kernel for Down<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const LANES: usize = 32;
        let Self { levels, stride, weights, row } = self;
        let (blocks, rest) = row.as_chunks_mut::<LANES>();
        let whole = blocks.len() * LANES;
        for (block, at) in blocks.iter_mut().zip((0..).step_by(LANES)) {
            let mut sums = [HALF; LANES];
            for (levels, weight) in levels[at..].chunks(stride).zip(weights) {
                if let Some(levels) = levels.first_chunk() {
                    add(&mut sums, levels, *weight);
                }
            }
            round(&sums, block);
        }
        for (place, at) in rest.iter_mut().zip(whole..) {
            let levels = levels[at..].iter().step_by(stride);
            let sum: i32 = levels.zip(weights).map(|(level, weight)| i32::from(*level) * weight).sum();
            *place = rounded(HALF + sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resize::{Axis, Filter};
    use crate::simd::widest;

    #[test]
    fn avx2_gives_the_same_levels() {
        let (width, height) = (37, 29);
        let levels: Vec<u8> =
            (0..width * height * CHANNELS).map(|at| (at * at / 7 + at * 31) as u8).collect();
        let (stride, taps) = (width * CHANNELS, Taps::new(width, &Axis::whole(23), Filter::Lanczos));
        let (mut plain, mut wide) =
            (vec![Pixel::default(); 23 * height], vec![Pixel::default(); 23 * height]);
        Across { levels: &levels, stride, taps: &taps, pixels: &mut plain }.run();
        widest(Across { levels: &levels, stride, taps: &taps, pixels: &mut wide });
        assert_eq!(plain, wide);

        let (mut plain, mut wide) = (vec![0; stride], vec![0; stride]);
        for (first, weights) in Taps::new(height, &Axis::whole(50), Filter::Bicubic).iter() {
            let levels = &levels[first * stride..];
            Down { levels, stride, weights, row: &mut plain }.run();
            widest(Down { levels, stride, weights, row: &mut wide });
            assert_eq!(plain, wide);
        }
    }
}
