//! Dependencies between the crates, as in docs/src/design.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace, with the crates that it may depend on.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("bpo-distort", &[]),
    ("bpo-pairs", &[]),
    ("bpo-world", &["bpo-pairs"]),
    ("bpo-inject", &["bpo-pairs"]),
    ("bpo-dpo", &["bpo-pairs"]),
    ("bpo-eval", &["bpo-pairs"]),
    ("bpo-server", &["bpo-pairs", "bpo-inject"]),
    ("bpo-model", &["bpo-distort", "bpo-pairs", "bpo-dpo"]),
    ("bpo", &["bpo-distort", "bpo-inject", "bpo-pairs", "bpo-dpo", "bpo-model", "bpo-eval", "bpo-server"]),
    ("bpo-cli", &["bpo", "bpo-world"]),
    ("bpo-examples", &["bpo", "bpo-world"]),
    ("bpo-benches", &["bpo"]),
];

/// Crates that must not depend on a tensor library.
const WITHOUT_BURN: [&str; 6] =
    ["bpo-distort", "bpo-inject", "bpo-pairs", "bpo-eval", "bpo-server", "bpo-world"];

/// Crates that a build without the feature `model` must not depend on.
const OF_MODELS: [&str; 5] = ["burn", "bpo-dpo", "bpo-model", "gemm", "tokenizers"];

#[test]
fn crates_have_only_allowed_dependencies() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();

    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the list of crates"));
        seen.insert(name);
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if allowed.contains_key(on) && dependency["kind"].is_null() {
                assert!(may.contains(&on), "{name} must not depend on {on}");
            }
            let is_burn = on == "burn" || on.starts_with("burn-");
            assert!(!(is_burn && WITHOUT_BURN.contains(&name)), "{name} must not depend on {on}");
        }
    }
    assert_eq!(seen, allowed.keys().copied().collect());
}

/// Without their feature `model`, `bpo` and `bpo-cli` do not depend on a tensor library.
#[test]
fn pair_making_crates_do_not_depend_on_burn() {
    for package in ["bpo", "bpo-cli"] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(["--package", package, "--no-default-features", "--features", "server"])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains("bpo-server") && names.contains("bpo-pairs"), "{tree}");
        for name in names {
            let of_model = OF_MODELS.contains(&name) || name.starts_with("burn-") || name == "safetensors";
            assert!(!of_model, "{package} without `model` must not depend on {name}");
        }
    }
}
