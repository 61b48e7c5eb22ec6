//! The file of a stage and the manifest beside it belong to one process.

use bpo::inject::{ErrorKind, Fallback, KindWeights};
use bpo::pairs::{ContrastChoice, Fingerprint, PairRule, Subset};
use bpo::{Inputs, Manifest, RunDir, Stage, StageLedger, manifest_beside};

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

/// Skipped items are made again whatever byte of the file a killed retry has left, and all other lines
/// keep their bytes.
#[test]
fn a_retry_of_skipped_items_resumes_from_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = dir.path().join("weakened.jsonl");
    let open = || StageLedger::open_file(Stage::Weaken, &config(3), &Inputs::default(), &path).unwrap();
    let run = |ledger: &mut StageLedger, file: &mut StageFile| {
        let mut model = Model::new(usize::MAX);
        let outcome = weaken(&config(3), &samples(), &images, || Ok(&mut model), file, &mut ()).unwrap();
        ledger.finish(Stage::Weaken, &outcome.summary).unwrap();
        outcome.summary
    };
    let (mut ledger, mut file) = open();
    assert_eq!(run(&mut ledger, &mut file).skipped.total(), 3);
    drop((ledger, file));
    let first = fs::read_to_string(&path).unwrap();
    let kept: String = first.split_inclusive('\n').filter(|line| line.contains("\"response\"")).collect();
    fs::copy(dir.path().join("cat.jpg"), dir.path().join("astronaut.jpg")).unwrap();

    let (mut ledger, mut file) = open();
    assert_eq!(ledger.retry_skipped(Stage::Weaken, &mut file).unwrap(), 3);
    assert_eq!(fs::read_to_string(&path).unwrap(), kept);
    let unfinished = fs::read(manifest_beside(&path)).unwrap();
    // the new file is locked as well
    assert!(StageFile::open(&path).is_err());
    let summary = run(&mut ledger, &mut file);
    assert_eq!((summary.done, summary.skipped.total()), (5, 2));
    drop((ledger, file));
    let (last, finished) = (fs::read(&path).unwrap(), fs::read(manifest_beside(&path)).unwrap());
    assert!(last.starts_with(kept.as_bytes()));

    for cut in kept.len()..=last.len() {
        fs::write(&path, &last[..cut]).unwrap();
        fs::write(manifest_beside(&path), &unfinished).unwrap();
        let (mut ledger, mut file) = open();
        assert!(!ledger.is_finished(Stage::Weaken));
        assert_eq!(run(&mut ledger, &mut file), summary, "cut at {cut}");
        drop((ledger, file));
        assert_eq!(fs::read(&path).unwrap(), last, "cut at {cut}");
        assert_eq!(fs::read(manifest_beside(&path)).unwrap(), finished);
    }
    // a process that was killed before it removed the skipped items
    fs::write(&path, &first).unwrap();
    fs::write(manifest_beside(&path), &unfinished).unwrap();
    let (mut ledger, mut file) = open();
    assert_eq!(run(&mut ledger, &mut file).skipped.total(), 3);
    drop((ledger, file));
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
    // nothing is left to try again
    fs::write(&path, &kept).unwrap();
    let (mut ledger, mut file) = open();
    assert_eq!(ledger.retry_skipped(Stage::Weaken, &mut file).unwrap(), 0);
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

/// Answers and pairs of other kinds of errors, other rules for their style or another selection do
/// not mix with those of a run.
#[test]
fn other_kinds_and_selections_are_refused() {
    type Change = fn(&mut RunConfig);
    let changes: [(&str, Change); 12] = [
        ("inject.llm.kinds.count", |config| {
            config.inject.llm.kinds = KindWeights::none().with(ErrorKind::Count, 1.0);
        }),
        ("inject.llm.acceptance.style.max_edit_share", |config| {
            config.inject.llm.acceptance.style.max_edit_share = 0.4;
        }),
        ("inject.fallback", |config| config.inject.fallback = Fallback::CoOccurrence),
        ("pair.rule", |config| config.pair.rule = PairRule::BestWorst),
        ("pair.max_per_sample", |config| config.pair.max_per_sample = Some(1)),
        ("pair.skip_cut", |config| config.pair.skip_cut = true),
        ("pair.skip_refusals", |config| config.pair.skip_refusals = true),
        ("pair.dedup", |config| config.pair.dedup = Some(0.9)),
        ("pair.subset.coco", |config| config.pair.subset = Subset::default().with("coco", 50.0)),
        ("pair.eval_percent", |config| config.pair.eval_percent = Some(5.0)),
        ("pair.contrast", |config| config.pair.contrast = ContrastChoice::Random),
        ("pair.max_tokens", |config| config.pair.max_tokens = Some(100)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let stages = [Stage::Inject, Stage::Pair];
    let open = |config: &RunConfig| {
        let inputs = Inputs::read(&stages, config, Some(&Fingerprint::of("data")))?;
        StageLedger::open_run(config, &inputs, &run)
    };
    let before = config(1);
    let mut ledger = open(&before).unwrap();
    let answer = r#"{"id":"a","type":"llm-hal","response":"A dog."}"#;
    for (stage, file, line) in [
        (Stage::Weaken, run.weakened(), answer),
        (Stage::Inject, run.injected(), answer),
        (Stage::Pair, run.pairs(), "{}"),
    ] {
        fs::write(file, format!("{line}\n")).unwrap();
        ledger.finish(stage, &StageSummary::default()).unwrap();
    }
    open(&before).unwrap();
    for (key, change) in changes {
        let mut other = before.clone();
        change(&mut other);
        let error = open(&other).unwrap_err();
        assert!(matches!(error, BpoError::Changed { .. }), "{key}: {error:?}");
        assert!(bpo::chain(&error).contains(key), "{key}: {error}");
    }
    open(&before).unwrap();
}
