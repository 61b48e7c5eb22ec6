//! SHA-256 digests of texts and bytes.

use sha2::{Digest, Sha256};

/// The SHA-256 digest of several texts. The length of each text is hashed before the text, so that
/// different splits of the same characters have different digests.
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

    /// Returns the digest in hexadecimal.
    pub(crate) fn hex(self) -> String {
        hex(&self.bytes())
    }
}

/// Returns the SHA-256 digest of bytes in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
