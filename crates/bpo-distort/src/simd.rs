//! Loops over numbers, compiled for the vector registers that the processor has.
//!
//! The compiler makes vector code of plain loops. How wide the vectors are changes no result: integers are exact, each
//! lane rounds `+ - * /` and the square root of floats as IEEE 754 says, and Rust neither fuses a product with a sum nor
//! reorders a sum. Tests hold it to that, see
//! [`narrow`].

use std::sync::OnceLock;

/// Whether the loops run on AVX2. Chosen once in a process, by the first of them.
static AVX2: OnceLock<bool> = OnceLock::new();

/// For tests: has all loops of this process run on the vectors that every processor has, and tells whether they do. They do
/// not where one has run before on others.
pub fn narrow() -> bool {
    !*AVX2.get_or_init(|| false)
}

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
    if *AVX2.get_or_init(|| std::arch::is_x86_feature_detected!("avx2")) {
        #[target_feature(enable = "avx2")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        // SAFETY: nobody says that there is AVX2 without having asked the processor.
        #[allow(unsafe_code, reason = "the compiler cannot know what was asked")]
        return unsafe { avx2(kernel) };
    }
    kernel.run()
}
