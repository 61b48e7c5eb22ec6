//! A second run of some tests without AVX2.

use std::process::Command;

/// Set in the process of the second run.
const WITHOUT_AVX2: &str = "BPO_DISTORT_TEST_WITHOUT_AVX2";

/// The modules of the second run. Their tests call [`select_vectors`] first.
const MODULES: [&str; 3] = ["known_bytes::", "pillow::", "resize::"];

/// Number of tests in [`MODULES`].
const TESTS: usize = 8;

/// Disables AVX2 in the second run. Tests call this before they compute anything.
pub fn select_vectors() {
    if std::env::var_os(WITHOUT_AVX2).is_some() {
        assert!(bpo_distort::simd::disable_avx2(), "a test used AVX2 before it called select_vectors");
    }
}

#[test]
fn results_do_not_depend_on_avx2() {
    let run =
        Command::new(std::env::current_exe().unwrap()).args(MODULES).env(WITHOUT_AVX2, "1").output().unwrap();
    let output = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{output}");
    assert!(output.contains(&format!("test result: ok. {TESTS} passed")), "{output}");
}
