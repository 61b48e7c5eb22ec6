//! Files that the tests write.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

/// A temporary folder of test files.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a file with these lines.
    pub fn write_lines(&self, name: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) -> PathBuf {
        let text: String = lines.into_iter().map(|line| line.as_ref().to_owned() + "\n").collect();
        self.write(name, &text)
    }
}
