//! Checks of the documentation against the code.
#![cfg(all(feature = "model", feature = "server"))]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bpo::RunConfig;

/// The TOML of docs/src/configuration.md is a complete configuration that has the defaults.
#[test]
fn documented_configuration_is_valid() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/configuration.md");
    let text = std::fs::read_to_string(page).unwrap();
    let toml = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let documented = RunConfig::parse(Path::new(page), toml).unwrap();
    documented.validate().unwrap();
    // commented-out keys are valid too
    let whole: String =
        toml.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
    let whole = RunConfig::parse(Path::new(page), &whole).unwrap();
    // a model behind a server takes no contrastive decoding, one model rewrites the answers, and a ground
    // truth or a judge decides which answers are right
    let (mut local, mut remote) = (whole.clone(), whole);
    (local.weaken.server, local.inject.server, local.inject.model) = (None, None, None);
    local.judge = Default::default();
    local.validate().unwrap();
    remote.weaken.contrast = None;
    (remote.inject.with_model, remote.inject.model) = (false, None);
    remote.truth = Default::default();
    remote.validate().unwrap();

    let mut expected = RunConfig::default();
    expected.model.path = documented.model.path.clone();
    expected.data = documented.data.clone();
    assert_eq!(documented, expected);
}

/// Returns a page without code. It has as many lines as the page.
fn prose(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut prose = String::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            // every second part is between backticks
            prose.extend(line.split('`').step_by(2));
        }
        prose.push('\n');
    }
    prose
}

/// Returns the targets of the links of a page.
fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()).collect()
}

/// Returns the anchors of the headings of a page, as GitHub and mdBook name them.
fn anchors(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
        .map(|heading| {
            let kept = heading.trim().to_lowercase().replace(' ', "-");
            kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
        })
        .collect()
}

/// Collects all Markdown pages below a directory.
fn pages(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn links_in_docs_have_targets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut found = Vec::new();
    pages(&root, &mut found);
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in &found {
        // `::` is a rustdoc link, in a page that is also the front page of a crate
        let prose = prose(page);
        for link in links(&prose).into_iter().filter(|link| !link.contains("://") && !link.contains("::")) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            if !to.exists() || !(anchor.is_empty() || anchors(&to).iter().any(|name| name == anchor)) {
                wrong.push(format!("{}: {link}", page.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(count > 30, "{count} links in {} pages", found.len());
    assert!(wrong.is_empty(), "dead links:\n{}", wrong.join("\n"));
}

#[test]
fn book_lists_every_page() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let summary = prose(&src.join("SUMMARY.md"));
    let listed: BTreeSet<&str> = links(&summary).into_iter().collect();
    let mut found = Vec::new();
    pages(&src, &mut found);
    let names = found.iter().map(|page| page.strip_prefix(&src).unwrap().to_str().unwrap());
    assert_eq!(names.filter(|name| *name != "SUMMARY.md").collect::<BTreeSet<_>>(), listed);
}
