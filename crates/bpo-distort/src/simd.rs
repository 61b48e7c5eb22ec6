//! Loops that are compiled for AVX2 and chosen at run time.
//!
//! The compiler vectorizes plain loops. The vector width changes no result: integers are exact,
//! each lane computes `+ - * /` and square roots by IEEE 754, and Rust neither fuses multiply-adds
//! nor reorders sums. Tests check this, see
//! [`disable_avx2`].

use std::sync::OnceLock;

/// Whether the loops use AVX2. Decided once per process, by the first loop.
static AVX2: OnceLock<bool> = OnceLock::new();

/// For tests: disables AVX2 in this process. Returns `false` if a loop has already used AVX2.
pub fn disable_avx2() -> bool {
    !*AVX2.get_or_init(|| false)
}

/// A loop with its data.
pub(crate) trait Kernel {
    /// The result.
    type Output;

    /// Runs the loop. Implementations must be `#[inline(always)]`, else they are not compiled for
    /// AVX2.
    fn run(self) -> Self::Output;
}

/// Runs a kernel with AVX2 if the processor has it, else with the baseline instructions.
#[inline]
pub(crate) fn widest<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if *AVX2.get_or_init(|| std::arch::is_x86_feature_detected!("avx2")) {
        #[target_feature(enable = "avx2")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        // SAFETY: `AVX2` is true only if the processor reports AVX2.
        #[allow(unsafe_code, reason = "calls a function with a target feature after its detection")]
        return unsafe { avx2(kernel) };
    }
    kernel.run()
}
