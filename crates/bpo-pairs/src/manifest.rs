//! What preference data was made from and with.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::PairsError;
use crate::files::{open_input, read_bytes, write_bytes};
use crate::format::json::from_text;
use crate::limits::Limits;

/// SHA-256, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of some bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self::finish(Sha256::new().chain_update(bytes))
    }

    /// The digits.
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

/// Fingerprint of a file's bytes, read in pieces.
///
/// # Errors
/// If the file cannot be read.
pub fn fingerprint_file(path: impl AsRef<Path>) -> Result<Fingerprint, PairsError> {
    let path = path.as_ref();
    let mut file = open_input(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Fingerprint::finish(hasher)),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PairsError::io("read", path)(error)),
        }
    }
}

/// What data was made from and with: equal manifests give equal data, apart from servers that keep no promise.
///
/// Names are the maker's own (`weaken`, `policy`, `llava.json`); maps are sorted, so equal manifests are equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a manifest: an object with `versions`, `seeds`, `models` and `files`"
)]
#[non_exhaustive]
pub struct Manifest {
    /// Versions of programs and libraries.
    pub versions: BTreeMap<String, String>,
    /// Seeds of stages.
    pub seeds: BTreeMap<String, u64>,
    /// Models.
    pub models: BTreeMap<String, Fingerprint>,
    /// Prompt and chat templates.
    pub templates: BTreeMap<String, Fingerprint>,
    /// Settings of stages.
    pub settings: BTreeMap<String, Fingerprint>,
    /// Files read.
    pub files: BTreeMap<String, Fingerprint>,
}

/// An entry in which two manifests differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `seeds.weaken`, `files.llava.json`, ...
    pub entry: String,
    /// In this manifest, if there.
    pub here: Option<String>,
    /// In the other, if there.
    pub there: Option<String>,
}

impl Manifest {
    /// An empty manifest with the version of this crate.
    pub fn new() -> Self {
        let version = (env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Self { versions: BTreeMap::from([version]), ..Self::default() }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If the file cannot be read or is no manifest.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, PairsError> {
        let path = path.as_ref();
        let bytes = read_bytes(path, Limits::DEFAULT.settings_bytes)?;
        from_text(&bytes).map_err(|(key, source)| PairsError::json(path, 1, source.line(), &key, source))
    }

    /// Writes a manifest; an old file stays until the new one is whole.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PairsError> {
        let path = path.as_ref();
        let mut json = serde_json::to_vec_pretty(self).map_err(|source| PairsError::Encode {
            path: path.to_owned(),
            record: "manifest".to_owned(),
            source,
        })?;
        json.push(b'\n');
        Ok(write_bytes(path, &json)?)
    }

    /// Every entry that is not the same in `other`, sorted within each part.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        [
            differences("versions", &self.versions, &other.versions),
            differences("seeds", &self.seeds, &other.seeds),
            differences("models", &self.models, &other.models),
            differences("templates", &self.templates, &other.templates),
            differences("settings", &self.settings, &other.settings),
            differences("files", &self.files, &other.files),
        ]
        .concat()
    }
}

fn differences<V: PartialEq + ToString>(
    part: &str,
    here: &BTreeMap<String, V>,
    there: &BTreeMap<String, V>,
) -> Vec<Difference> {
    let only_there = there.keys().filter(|name| !here.contains_key(*name));
    let mut names: Vec<&String> = here.keys().chain(only_there).collect();
    names.sort();
    let differing = names.into_iter().filter(|name| here.get(*name) != there.get(*name));
    differing
        .map(|name| Difference {
            entry: format!("{part}.{name}"),
            here: here.get(name).map(V::to_string),
            there: there.get(name).map(V::to_string),
        })
        .collect()
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

    #[test]
    fn differences_name_their_entries() {
        let mut old = Manifest::new();
        old.seeds.insert("weaken".into(), 1);
        old.files.insert("llava.json".into(), Fingerprint::of("a"));
        let mut new = old.clone();
        new.seeds.insert("weaken".into(), 2);
        new.files.clear();
        let found = new.differences(&old);
        let entries: Vec<_> = found.iter().map(|difference| difference.entry.as_str()).collect();
        assert_eq!(entries, ["seeds.weaken", "files.llava.json"]);
        assert_eq!((found[0].here.as_deref(), found[0].there.as_deref()), (Some("2"), Some("1")));
        assert_eq!(found[1].here, None);
        assert!(old.differences(&old).is_empty());
    }

    #[test]
    fn a_manifest_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        let mut manifest = Manifest::new();
        manifest.seeds.insert("weaken".into(), u64::MAX);
        manifest.write(&path).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), manifest);
        std::fs::write(&path, "{\n\"seed\": 1}").unwrap();
        assert!(matches!(Manifest::read(&path), Err(PairsError::Json { line: 2, .. })));
    }
}
