//! Checks that destructive file operations have one implementation in the workspace.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns name and text of the Rust sources of all crates, sorted by name.
fn sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pending: Vec<PathBuf> =
        fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path().join("src")).collect();
    let mut sources = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(crates).unwrap().to_string_lossy().replace('\\', "/");
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 100);
    sources.sort();
    sources
}

/// Returns the files that contain one of the words outside of comments.
fn files_with(words: &[&str]) -> Vec<String> {
    let has =
        |line: &str| !line.trim_start().starts_with("//") && words.iter().any(|word| line.contains(word));
    sources().into_iter().filter(|(_, text)| text.lines().any(has)).map(|(name, _)| name).collect()
}

#[test]
fn destructive_file_operations_are_in_one_module() {
    let words = ["fs::rename", "remove_dir_all", "fs::remove_file", "fs::remove_dir", "set_len"];
    assert_eq!(files_with(&words), ["bpo-pairs/src/files/destructive.rs"]);
}
