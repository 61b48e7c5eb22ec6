//! Files of the report, each whole or not there.

use std::path::Path;

use bpo::BpoError;
use bpo::pairs::files::write_bytes;

/// Makes a directory.
pub fn create_dir(dir: &Path) -> Result<(), BpoError> {
    let io = |source| BpoError::Io { action: "create the directory", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(io)
}

/// Writes bytes.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BpoError> {
    Ok(write_bytes(path, bytes)?)
}

/// Writes JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), BpoError> {
    let json = serde_json::to_vec_pretty(value);
    let mut json = json.map_err(|source| BpoError::Json { path: path.to_owned(), source })?;
    json.push(b'\n');
    write(path, &json)
}
