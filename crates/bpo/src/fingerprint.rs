//! Checkpoint directories and adapters by their files: what they are, and their fingerprints.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use bpo_pairs::{Fingerprint, fingerprint_file};

use crate::error::BpoError;

/// Written last into an adapter's directory.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// Checks that a checkpoint's directory is one, and no name of a model elsewhere.
///
/// # Errors
/// [`BpoError::NoCheckpoint`].
pub fn check_checkpoint(dir: &Path) -> Result<(), BpoError> {
    if dir.is_dir() { Ok(()) } else { Err(BpoError::NoCheckpoint { path: dir.to_owned() }) }
}

/// Checks that a directory holds an adapter.
///
/// # Errors
/// [`BpoError::NoAdapter`]; [`BpoError::AdapterInside`] if it is that of the run that made one.
pub(crate) fn check_is_adapter(dir: &Path) -> Result<(), BpoError> {
    let (is_adapter, inside) = (|dir: &Path| dir.join(ADAPTER_CONFIG).exists(), dir.join("adapter"));
    match (is_adapter(dir), is_adapter(&inside)) {
        (true, _) => Ok(()),
        (false, true) => Err(BpoError::AdapterInside { path: dir.to_owned(), inside }),
        (false, false) => Err(BpoError::NoAdapter { path: dir.to_owned() }),
    }
}

/// Fingerprint of a checkpoint directory: of the bytes of its small files, and of the size and samples of its weights.
///
/// Reading all weights would take minutes. Samples all over a file tell one training from another; a change of a few
/// weights between two samples is not noticed.
///
/// # Errors
/// If the directory or a file cannot be read.
pub fn fingerprint_checkpoint(dir: &Path) -> Result<Fingerprint, BpoError> {
    fingerprint(dir, &["safetensors", "json", "jinja"])
}

/// Fingerprint of the weights of a checkpoint directory alone.
#[cfg(feature = "model")]
pub(crate) fn fingerprint_weights(dir: &Path) -> Result<Fingerprint, BpoError> {
    fingerprint(dir, &["safetensors"])
}

/// Of the files of some kinds in a directory.
fn fingerprint(dir: &Path, kinds: &[&str]) -> Result<Fingerprint, BpoError> {
    check_checkpoint(dir)?;
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BpoError::io("list", dir))? {
        let path = entry.map_err(BpoError::io("list", dir))?.path();
        // a link that leads nowhere is no file
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

/// Size and fingerprint of blocks at even distances from the first on; of a small file, of all of it.
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
