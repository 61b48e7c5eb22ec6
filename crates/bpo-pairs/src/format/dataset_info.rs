//! LLaMA-Factory's list of data sets, `dataset_info.json`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::PairsError;
use crate::files::{lock_file, read_bytes, write_bytes};
use crate::limits::Limits;

/// Returns the path of LLaMA-Factory's list of data sets beside a file of pairs.
pub fn dataset_info_beside(file: &Path) -> PathBuf {
    file.with_file_name("dataset_info.json")
}

/// Adds the description of a file of pairs to the list beside it, under the name of the file without
/// its extensions. Other entries are kept.
///
/// # Errors
/// Returns an error if the list cannot be written, or if there is one that is not a JSON object.
pub(super) fn add(file: &Path) -> Result<(), PairsError> {
    let path = dataset_info_beside(file);
    let _lock = lock_file(&path)?;
    let mut list = if path.exists() { read(&path)? } else { Map::new() };
    let file_name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = file_name.split('.').find(|part| !part.is_empty()).unwrap_or_default();
    let columns = json!({
        "messages": "conversations",
        "chosen": "chosen",
        "rejected": "rejected",
        "system": "system",
        "images": "images",
    });
    let entry =
        json!({"file_name": file_name, "formatting": "sharegpt", "ranking": true, "columns": columns});
    list.insert(name.to_owned(), entry);
    let mut text = serde_json::to_vec_pretty(&list).map_err(|source| PairsError::Encode {
        path: path.clone(),
        record: name.to_owned(),
        source,
    })?;
    text.push(b'\n');
    Ok(write_bytes(&path, &text)?)
}

fn read(path: &Path) -> Result<Map<String, Value>, PairsError> {
    let bytes = read_bytes(path, Limits::DEFAULT.settings_bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| PairsError::json(path, 1, error.line(), "", error))
}
