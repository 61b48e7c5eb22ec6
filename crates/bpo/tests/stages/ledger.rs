//! The file of a stage and the manifest beside it belong to one process.

use bpo::pairs::Fingerprint;
use bpo::{Inputs, Manifest, Stage, StageLedger, manifest_beside};

use super::*;

/// Opens the file of an inject stage.
fn open_file(path: &Path, seed: u64) -> Result<(StageLedger, StageFile), BpoError> {
    let inputs = Inputs::read(&[Stage::Inject], &config(seed), Some(&Fingerprint::of("data")))?;
    StageLedger::open_file(Stage::Inject, &config(seed), &inputs, path)
}

/// The manifest belongs to the process that has the lock of the file. Another process with other
/// settings does not change it, even before the first answer.
#[test]
fn a_locked_file_keeps_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let open = |seed| open_file(&path, seed);
    let (ledger, mut file) = open(1).unwrap();
    let before = fs::read(manifest_beside(&path)).unwrap();
    let error = open(2).unwrap_err();
    assert!(bpo::chain(&error).contains("injected.jsonl"), "{error}");
    assert_eq!(fs::read(manifest_beside(&path)).unwrap(), before);
    inject(
        &config(1),
        &samples(),
        &HashSet::new(),
        || Ok(Injector { down_at: usize::MAX, requests: 0 }),
        &mut file,
        &mut (),
    )
    .unwrap();
    drop((ledger, file));
    assert!(matches!(open(2), Err(BpoError::Changed { .. })));
    assert_eq!(fs::read(manifest_beside(&path)).unwrap(), before);
}

/// A stage whose file is gone is not finished, whatever its manifest says.
#[test]
fn a_stage_without_its_file_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let open = |seed| open_file(&path, seed);
    let (mut ledger, file) = open(1).unwrap();
    ledger.finish(Stage::Inject, &StageSummary::default()).unwrap();
    drop(file);
    fs::remove_file(&path).unwrap();
    let (ledger, _file) = open(2).unwrap();
    assert!(!ledger.is_finished(Stage::Inject));
    let manifest = Manifest::read(&manifest_beside(&path)).unwrap().unwrap();
    assert_eq!(manifest.stages[&Stage::Inject].settings["seed"], "2");
}
