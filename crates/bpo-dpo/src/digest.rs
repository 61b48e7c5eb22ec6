//! SHA-256.

use sha2::{Digest, Sha256};

/// SHA-256 of several texts, each with its length before it, so that the bounds between them count.
#[derive(Default)]
pub(crate) struct Texts(Sha256);

impl Texts {
    pub(crate) fn add(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// In hexadecimal.
    pub(crate) fn hex(self) -> String {
        hex(&self.bytes())
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
