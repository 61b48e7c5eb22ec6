//! Which crate may depend on which, as docs/src/design.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace with all that it may use.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("bpo-distort", &[]),
    ("bpo-inject", &[]),
    ("bpo-pairs", &["bpo-distort", "bpo-inject"]),
    ("bpo-dpo", &["bpo-pairs"]),
    ("bpo-model", &["bpo-distort", "bpo-inject", "bpo-pairs", "bpo-dpo"]),
    ("bpo-eval", &["bpo-pairs"]),
    ("bpo-world", &[]),
    ("bpo", &["bpo-distort", "bpo-inject", "bpo-pairs", "bpo-dpo", "bpo-model", "bpo-eval"]),
    ("bpo-cli", &["bpo", "bpo-world"]),
    ("bpo-examples", &["bpo", "bpo-world"]),
    ("bpo-benches", &["bpo"]),
];

/// Crates that must stay usable without a tensor library.
const WITHOUT_BURN: [&str; 5] = ["bpo-distort", "bpo-inject", "bpo-pairs", "bpo-eval", "bpo-world"];

#[test]
fn crates_depend_only_on_what_they_may() {
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

/// What a default build of a data crate must not drag in, however the features are set.
#[test]
fn optional_arrows_are_optional() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../bpo-pairs/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    for name in ["bpo-distort", "bpo-inject"] {
        assert_eq!(manifest["dependencies"][name]["optional"].as_bool(), Some(true), "{name}");
    }
}
