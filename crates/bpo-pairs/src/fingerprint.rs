//! SHA-256 fingerprints of bytes and files, used to detect changed inputs.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::PairsError;
use crate::files::open_input;

/// A SHA-256 digest as 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Computes the fingerprint of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self::finish(Sha256::new().chain_update(bytes))
    }

    /// Returns the 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Computes a SHA-256 digest of several texts. Each text has its length before it, so the bounds
/// between texts count.
#[derive(Clone, Debug, Default)]
pub struct TextHasher(Sha256);

impl TextHasher {
    /// Adds a text.
    pub fn add(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    /// Returns the digest of all texts.
    pub fn bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// Returns the digest of all texts in hexadecimal.
    pub fn fingerprint(self) -> Fingerprint {
        Fingerprint::finish(self.0)
    }
}

/// Computes the fingerprint of a file without holding it in memory.
///
/// # Errors
/// Returns an error if the file cannot be opened or read.
pub fn fingerprint_file(path: impl AsRef<Path>) -> Result<Fingerprint, PairsError> {
    let path = path.as_ref();
    let reader = FingerprintReader::new(open_input(path)?);
    reader.finish().map_err(PairsError::io("read", path))
}

/// A reader that computes the fingerprint of the bytes read through it, so that a file or pipe is
/// read only once.
#[derive(Debug)]
pub struct FingerprintReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> FingerprintReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// Reads to the end and returns the fingerprint of all bytes.
    ///
    /// # Errors
    /// Returns an error if the rest cannot be read.
    pub fn finish(mut self) -> io::Result<Fingerprint> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(Fingerprint::finish(self.hasher)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> Read for FingerprintReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_sha256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint_file(&path).unwrap().as_str(), expected);
        assert_eq!(Fingerprint::of("abc").to_string(), expected);
        assert!(matches!(fingerprint_file(dir.path().join("no")), Err(PairsError::File(_))));
    }
}
