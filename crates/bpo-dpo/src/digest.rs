//! SHA-256 of several texts.

use sha2::{Digest, Sha256};

/// Hashes texts, each with its length before it, so that none can run into the next.
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
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
