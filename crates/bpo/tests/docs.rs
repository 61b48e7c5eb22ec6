//! What the guide shows must be what the code reads.
#![cfg(all(feature = "model", feature = "server"))]

use std::path::Path;

use bpo::RunConfig;

/// The TOML of docs/src/configuration.md is a whole configuration, and where it names a default it is the default.
#[test]
fn the_documented_configuration_is_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/configuration.md");
    let text = std::fs::read_to_string(page).unwrap();
    let toml = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let documented = RunConfig::parse(Path::new(page), toml).unwrap();
    documented.validate().unwrap();
    // what is commented out is right too
    let whole: String =
        toml.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
    RunConfig::parse(Path::new(page), &whole).unwrap().validate().unwrap();

    let mut expected = RunConfig::default();
    expected.model.path = documented.model.path.clone();
    expected.data = documented.data.clone();
    assert_eq!(documented, expected);
}
