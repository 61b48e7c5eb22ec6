//! Fingerprints of checkpoint and adapter directories.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use bpo_pairs::{Fingerprint, fingerprint_file};

use crate::error::BpoError;

/// PEFT configuration of an adapter. It is written last, so that it marks a complete adapter.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Checks that the directory of a checkpoint exists.
///
/// # Errors
/// Returns [`BpoError::NoCheckpoint`] if it does not.
pub fn check_checkpoint(dir: &Path) -> Result<(), BpoError> {
    if dir.is_dir() { Ok(()) } else { Err(BpoError::NoCheckpoint { path: dir.to_owned() }) }
}

/// Checks that a directory holds an adapter.
///
/// # Errors
/// Returns [`BpoError::AdapterInside`] if the subdirectory `adapter` holds one, or
/// [`BpoError::NoAdapter`].
pub(crate) fn check_is_adapter(dir: &Path) -> Result<(), BpoError> {
    let is_adapter = |dir: &Path| dir.join(ADAPTER_CONFIG).exists();
    let inside = dir.join("adapter");
    if is_adapter(dir) {
        Ok(())
    } else if is_adapter(&inside) {
        Err(BpoError::AdapterInside { path: dir.to_owned(), inside })
    } else {
        Err(BpoError::NoAdapter { path: dir.to_owned() })
    }
}

/// Computes the fingerprint of a checkpoint or adapter directory from its `json`, `jinja` and
/// `safetensors` files.
///
/// Files of weights larger than 1 MiB enter with their size and 256 evenly spaced blocks of 4 KiB,
/// because reading all weights would take minutes. Such samples distinguish two trainings, but not
/// weights that differ only between the samples.
///
/// # Errors
/// Returns an error if the directory or a file cannot be read.
pub fn fingerprint_checkpoint(dir: &Path) -> Result<Fingerprint, BpoError> {
    fingerprint(dir, &["safetensors", "json", "jinja"])
}

/// Computes the fingerprint of the weights of a checkpoint directory.
#[cfg(feature = "model")]
pub(crate) fn fingerprint_weights(dir: &Path) -> Result<Fingerprint, BpoError> {
    fingerprint(dir, &["safetensors"])
}

/// Computes the fingerprint of the files in a directory that have one of the extensions `kinds`.
fn fingerprint(dir: &Path, kinds: &[&str]) -> Result<Fingerprint, BpoError> {
    check_checkpoint(dir)?;
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BpoError::io("list", dir))? {
        let path = entry.map_err(BpoError::io("list", dir))?.path();
        // dangling links are ignored
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let wanted = metadata.is_file() && kinds.contains(&kind);
        let Some(name) = path.file_name().filter(|_| wanted) else { continue };
        let content = match kind {
            "safetensors" => sampled(&path, metadata.len())?,
            _ => fingerprint_file(&path)?.to_string(),
        };
        entries.push(format!("{} {content}\n", name.to_string_lossy()));
    }
    entries.sort();
    Ok(Fingerprint::of(entries.concat()))
}

/// Returns the size of a file and the fingerprint of 256 evenly spaced blocks of 4 KiB. For a file
/// of at most 1 MiB, returns the fingerprint of the whole file.
fn sampled(path: &Path, size: u64) -> Result<String, BpoError> {
    const BLOCK: u64 = 4096;
    const BLOCKS: u64 = 256;
    if size <= BLOCK * BLOCKS {
        return Ok(fingerprint_file(path)?.to_string());
    }
    let mut file = File::open(path).map_err(BpoError::io("read", path))?;
    let mut bytes = vec![0; (BLOCK * BLOCKS) as usize];
    for (i, block) in bytes.chunks_mut(BLOCK as usize).enumerate() {
        let at = (size - BLOCK) / (BLOCKS - 1) * i as u64;
        file.seek(SeekFrom::Start(at)).map_err(BpoError::io("read", path))?;
        file.read_exact(block).map_err(BpoError::io("read", path))?;
    }
    Ok(format!("{size} {}", Fingerprint::of(bytes)))
}
