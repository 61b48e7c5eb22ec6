//! Hashes of files on a hub.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The hash that names the content of a file: SHA-256 for files in Git LFS, and the hash of a git
/// blob for the other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Etag {
    /// 64 hexadecimal digits in lower case.
    Sha256(String),
    /// 40 hexadecimal digits in lower case.
    GitBlob(String),
}

impl Etag {
    /// Parses the value of an `ETag` header.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let is_hash = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match digits.len() {
            64 if is_hash => Some(Self::Sha256(digits.to_owned())),
            40 if is_hash => Some(Self::GitBlob(digits.to_owned())),
            _ => None,
        }
    }

    /// Returns the digits.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }

    /// Computes the hash of the same kind of a file of `size` bytes.
    pub(super) fn of(&self, size: u64, file: impl Read) -> io::Result<String> {
        match self {
            Self::Sha256(_) => digest(Sha256::new(), file),
            Self::GitBlob(_) => digest(Sha1::new_with_prefix(format!("blob {size}\0")), file),
        }
    }
}

fn digest(mut hash: impl Digest, mut file: impl Read) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_equal_those_of_git_and_git_lfs() {
        // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let lfs = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for (digits, text) in [(git, format!("W/\"{git}\"")), (lfs, format!("\"{lfs}\""))] {
            let etag = Etag::parse(&text).unwrap();
            assert_eq!(etag.as_str(), digits);
            assert_eq!(etag.of(6, &b"hello\n"[..]).unwrap(), digits);
        }
    }

    #[test]
    fn other_headers_are_no_hashes() {
        for text in ["", "\"\"", "abc", "../../etc/passwd", &"g".repeat(40), &"A".repeat(64), &"a".repeat(41)]
        {
            assert_eq!(Etag::parse(text), None, "{text}");
        }
    }
}
