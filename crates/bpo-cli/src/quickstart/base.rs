//! The small LLaVA that the program carries: see `base/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use bpo::BpoError;
use bpo::pairs::Fingerprint;

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

/// Fingerprint of the checkpoint.
pub fn fingerprint() -> String {
    let files: Vec<u8> = FILES.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes].concat()).collect();
    Fingerprint::of(files).to_string()
}

/// Writes the checkpoint into a directory, which it gives back, in the form that any program for Hugging Face checkpoints reads.
///
/// # Errors
/// [`BpoError::Io`]; [`BpoError::NotOurs`] if a file of another checkpoint is there.
pub fn write(dir: &Path) -> Result<PathBuf, BpoError> {
    create_dir(dir)?;
    for (name, bytes) in FILES {
        let path = dir.join(name);
        match fs::read(&path) {
            // what is there already stays as it is, and its fingerprint with it
            Ok(there) if there == *bytes => {}
            Ok(_) => return Err(BpoError::NotOurs { path }),
            Err(_) => write_file(&path, bytes)?,
        }
    }
    Ok(dir.to_owned())
}
