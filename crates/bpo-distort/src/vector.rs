//! Loops over numbers, compiled for the vector registers that the processor has.
//!
//! The compiler makes vector code of plain loops. How wide the vectors are changes no result: integers are exact, each
//! lane rounds `+ - * /` and the square root of floats as IEEE 754 says, and Rust neither fuses a product with a sum nor
//! reorders a sum.

/// Loops with what they work on.
pub(crate) trait Kernel {
    /// What they give.
    type Output;

    /// Runs them. To be marked `#[inline(always)]`, or it is not compiled anew for each kind of processor.
    fn run(self) -> Self::Output;
}

/// Runs the kernel's code for AVX2 where there is AVX2, else that for any processor.
#[inline]
pub(crate) fn widest<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        // SAFETY: the processor has AVX2, as was just asked.
        #[allow(unsafe_code, reason = "the compiler cannot know what was asked")]
        return unsafe { avx2(kernel) };
    }
    kernel.run()
}
