//! Comparison of the guide with the code.

use std::path::Path;

use bpo_distort::{AllowedValues, Family, Parameter};

fn described(parameter: &Parameter) -> String {
    let values = match parameter.expected() {
        AllowedValues::Number { low, high } => format!(" from {low} to {high}"),
        AllowedValues::Whole { low, high } => format!(", whole, from {low} to {high}"),
        AllowedValues::Word(words) => format!(": {}", words.join(", ")),
        _ => unreachable!(),
    };
    let default = parameter.default().map(|default| format!(" ({default})")).unwrap_or_default();
    format!("`{}`{values}{default}", parameter.name())
}

#[test]
fn the_table_of_parameters_matches_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/distortions.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let row = |family: &Family| {
        let parameters: Vec<_> = family.parameters().iter().map(described).collect();
        let parameters = if parameters.is_empty() { "none".to_owned() } else { parameters.join("; ") };
        let levels = if family.severity(bpo_distort::Severity::MIN).is_some() { "yes" } else { "no" };
        format!("| `{}` | {parameters} | {levels} |\n", family.name())
    };
    let table: String = Family::all().map(row).collect();
    assert!(guide.contains(&table), "the guide lacks\n{table}");
}
