//! Tests that are run once more without the crate's vector code.

use std::process::Command;

/// Set for the second run, by the first.
const NARROW: &str = "BPO_DISTORT_TEST_NARROW";

/// To be called before anything is computed: takes the vector code away where this is the second run.
pub fn as_told() {
    if std::env::var_os(NARROW).is_some() {
        assert!(bpo_distort::simd::narrow(), "a test has computed something and not called as_told before");
    }
}

/// Runs all other tests of this file in another process without the crate's vector code.
pub fn run_without_vectors(this: &str, others: usize) {
    let narrow = Command::new(std::env::current_exe().unwrap())
        .args(["--skip", this])
        .env(NARROW, "1")
        .output()
        .unwrap();
    let output = String::from_utf8(narrow.stdout).unwrap();
    assert!(narrow.status.success(), "{output}");
    assert!(output.contains(&format!("test result: ok. {others} passed")), "{output}");
}
