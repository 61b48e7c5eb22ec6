//! Settings that a whole directory was made with.

use std::collections::BTreeMap;

use bpo_pairs::Fingerprint;

use super::differences::Differences;
use super::manifest::{Manifest, StageEntry};
use crate::error::BpoError;
use crate::run_dir::RunDir;
use crate::stage::Stage;

/// Records in the file `name` of a directory which settings and inputs its content is made from, or
/// compares them with those that the file has. The file has the form of a manifest.
///
/// # Errors
/// Returns [`BpoError::Changed`] with all settings and inputs that differ, or an error if the file
/// cannot be read or written.
pub fn bind_dir(
    dir: &RunDir,
    name: &str,
    settings: BTreeMap<String, String>,
    inputs: BTreeMap<String, Fingerprint>,
) -> Result<(), BpoError> {
    let path = dir.root().join(name);
    let now = StageEntry { settings, inputs, ..StageEntry::default() };
    if let Some(manifest) = Manifest::read(&path)? {
        let differences = Differences::find(manifest.stages.get(&Stage::Data), &now);
        return if differences.is_empty() { Ok(()) } else { Err(differences.into_error(dir.root())) };
    }
    let mut manifest = Manifest::default();
    manifest.stages.insert(Stage::Data, now);
    manifest.write(&path)
}
