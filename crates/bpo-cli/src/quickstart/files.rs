//! Files of the report, written atomically.

use std::io::Write;
use std::path::Path;

use bpo::BpoError;
use bpo::pairs::{PairsError, write_atomic};

/// Creates a directory and its parents.
pub fn create_dir(dir: &Path) -> Result<(), BpoError> {
    let io = |source| BpoError::Io { action: "create the directory", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(io)
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BpoError> {
    let failed = |source| PairsError::Io { action: "write", path: path.to_owned(), source };
    Ok(write_atomic(path, |writer| writer.write_all(bytes).map_err(failed))?)
}

/// Writes a value as indented JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), BpoError> {
    let json = serde_json::to_vec_pretty(value);
    let mut json = json.map_err(|source| BpoError::Json { path: path.to_owned(), source })?;
    json.push(b'\n');
    write(path, &json)
}
