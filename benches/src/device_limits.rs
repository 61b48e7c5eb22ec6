//! Measured limits of a device: the rates of large matrix products and of copies.

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use bpo::DeviceSpec;
use bpo::burn::tensor::{Device, Distribution, FloatDType, Tensor};

use crate::median;

/// Rates of a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLimits {
    /// Operations per second in products of square matrices. A multiplication and an addition are
    /// two operations.
    pub matmul: f64,
    /// Side of the matrices.
    pub side: usize,
    /// Bytes per second, read and written, in copies of a tensor.
    pub copy: f64,
}

impl DeviceLimits {
    /// Measures a device, which takes a few seconds.
    ///
    /// # Panics
    /// Panics if the device cannot be opened.
    pub fn of(spec: DeviceSpec, dtype: FloatDType) -> Self {
        let device = &spec.open().expect("a device");
        let random = |side: usize| {
            let random: Tensor<2> = Tensor::random([side, side], Distribution::Normal(0.0, 1.0), device);
            random.cast(dtype)
        };
        // a product must take much longer than its launch on a GPU
        let (mut side, mut matmul) = (1024, 0.0);
        while matmul < 1e-3 && side < 16384 {
            side *= 2;
            let (a, b) = (random(side), random(side));
            matmul = middle(device, || drop(black_box(a.clone().matmul(b.clone()))));
        }
        let copy = match spec {
            DeviceSpec::Flex | DeviceSpec::LibTorch => copy_of_cores(),
            _ => {
                let wide: Tensor<2> = Tensor::cat(vec![random(side); 8], 0);
                let seconds = middle(device, || drop(black_box(wide.clone().mul_scalar(2.0))));
                (2 * 8 * side * side * wide.dtype().size()) as f64 / seconds
            }
        };
        Self { matmul: 2.0 * (side as f64).powi(3) / matmul, side, copy }
    }
}

impl fmt::Display for DeviceLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matmul, side, copy } = self;
        let (matmul, copy) = (matmul / 1e9, copy / 1e9);
        write!(
            f,
            "device limits: {matmul:.0} GFLOP/s in products of {side} x {side}, {copy:.1} GB/s in copies"
        )
    }
}

/// Returns the bytes per second, read and written, that all cores copy between initialized buffers.
fn copy_of_cores() -> f64 {
    const BYTES: usize = 1 << 28;
    let (from, mut to) = (vec![1_u8; BYTES], vec![2_u8; BYTES]);
    let part = BYTES.div_ceil(std::thread::available_parallelism().map_or(1, usize::from));
    let seconds = median(&mut [(); 9].map(|()| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (to, from) in to.chunks_mut(part).zip(from.chunks(part)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        black_box(&mut to);
        start.elapsed().as_secs_f64()
    }));
    (2 * BYTES) as f64 / seconds
}

/// Returns the median time of nine runs in seconds, after one warm-up run.
fn middle(device: &Device, mut run: impl FnMut()) -> f64 {
    let mut timed = || {
        let start = Instant::now();
        run();
        device.sync().expect("the device works");
        start.elapsed().as_secs_f64()
    };
    timed();
    median(&mut (0..9).map(|_| timed()).collect::<Vec<_>>())
}
