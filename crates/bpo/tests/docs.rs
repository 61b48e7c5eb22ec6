//! What the guide shows must be what the code reads.

use std::path::Path;

use bpo::config::RunConfig;

/// The TOML of docs/src/configuration.md is a whole configuration, and where it names a default it is the default.
#[test]
fn the_documented_configuration_is_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/configuration.md");
    let text = std::fs::read_to_string(page).unwrap();
    let toml = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let documented = RunConfig::parse(Path::new(page), toml).unwrap();
    documented.validate().unwrap();

    let mut expected = RunConfig::default();
    expected.model.path = documented.model.path.clone();
    expected.data = documented.data.clone();
    expected.inject.server = documented.inject.server.clone();
    expected.train.lr_groups = documented.train.lr_groups.clone();
    assert_eq!(documented, expected);
}
