//! The small checkpoint that the program contains; `base/README.md` describes it.

use std::path::{Path, PathBuf};

use bpo::BpoError;
use bpo::pairs::Fingerprint;
use bpo::pairs::files::{FileError, read_bytes};

use super::files::{create_dir, write as write_file};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../base/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The fingerprint of the checkpoint.
pub fn fingerprint() -> Fingerprint {
    let files: Vec<u8> = FILES.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes].concat()).collect();
    Fingerprint::of(files)
}

/// Writes the checkpoint to a directory in Hugging Face form, and returns the directory.
///
/// # Errors
/// Returns [`BpoError::NotOurs`] if the directory has a file of another checkpoint, or
/// [`BpoError::Io`] if a file cannot be written.
pub fn write(dir: &Path) -> Result<PathBuf, BpoError> {
    create_dir(dir)?;
    for (name, bytes) in FILES {
        let path = dir.join(name);
        match read_bytes(&path, bytes.len() as u64) {
            // a file that is there already keeps its modification time
            Ok(there) if there == *bytes => {}
            Ok(_) | Err(FileError::TooLarge { .. }) => return Err(BpoError::NotOurs { path }),
            Err(_) => write_file(&path, bytes)?,
        }
    }
    Ok(dir.to_owned())
}
