//! Batches that another thread prepares, and pairs that cannot be prepared.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bpo_dpo::{
    Collate, Control, DpoConfig, DpoError, PromptGroup, RowFingerprint, StepMetrics, TrainOutput, Trainer,
    save_trainable,
};
use bpo_pairs::PreferencePair;

use crate::toy::{Toy, ToyBatch, ToyCollate, ToyError, pair, pairs};

fn config() -> DpoConfig {
    DpoConfig::default()
        .with_learning_rate(0.02)
        .with_batch_size(2)
        .with_gradient_accumulation_steps(2)
        .with_epochs(4)
        .with_eval_every(2)
}

/// Checks by headers, as a collator for images does.
fn headers() -> ToyCollate {
    ToyCollate { headers: true, ..ToyCollate::default() }
}

/// A collator that cannot leave its thread.
struct Local(ToyCollate, Rc<()>);

impl Collate for Local {
    type Batch = ToyBatch;
    type Error = ToyError;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ToyBatch, ToyError> {
        let _ = Rc::clone(&self.1);
        self.0.collate(groups)
    }

    fn lengths(&self, batch: &ToyBatch) -> Option<Vec<usize>> {
        self.0.lengths(batch)
    }

    fn fingerprints(&self, batch: &ToyBatch) -> Option<Vec<RowFingerprint>> {
        self.0.fingerprints(batch)
    }
}

type Trained = (Vec<u8>, TrainOutput, String, String);

/// Parameters, output, metrics and evaluations of a training with three pairs to evaluate on.
fn train<C>(
    config: &DpoConfig,
    collate: C,
    pairs: &[PreferencePair],
    dir: &Path,
    stop: usize,
) -> Result<Trained, DpoError>
where
    C: Collate<Batch = ToyBatch> + Send,
{
    let mut observer = until(stop);
    let trainer = Trainer::new(config.clone(), Toy::untouched(), collate, Some(dir))?;
    let (policy, output) = trainer.with_eval_pairs(eval_pairs()).train(pairs.to_vec(), &mut observer)?;
    Ok(files(&policy, output, dir))
}

fn until(stop: usize) -> impl FnMut(&StepMetrics) -> Control {
    move |metrics| if metrics.step == stop { Control::Stop } else { Control::Continue }
}

fn eval_pairs() -> Vec<PreferencePair> {
    let mut eval = pairs()[..3].to_vec();
    eval.iter_mut().for_each(|pair| pair.id.push_str("-eval"));
    eval
}

fn files(policy: &Toy, output: TrainOutput, dir: &Path) -> Trained {
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
    (save_trainable(policy).expect("bytes"), output, read("metrics.jsonl"), read("eval.jsonl"))
}

/// Whether two runs have the same results. Metrics that are not computed are not-a-number, which
/// equals nothing, so the outputs are compared as text.
fn same(one: &Trained, other: &Trained) -> bool {
    let text = |trained: &Trained| format!("{:?}", trained.1);
    one.0 == other.0 && text(one) == text(other) && one.2 == other.2 && one.3 == other.3
}

#[test]
fn preparation_thread_does_not_change_results() {
    let new = || tempfile::tempdir().expect("a directory");
    let (one, other) = (new(), new());
    let prefetched =
        train(&config(), ToyCollate::default(), &pairs(), one.path(), usize::MAX).expect("trained");
    let local = Local(ToyCollate::default(), Rc::new(()));
    let trainer = Trainer::new(config(), Toy::untouched(), local, Some(other.path())).expect("valid");
    let training = trainer.with_eval_pairs(eval_pairs()).prepare(pairs()).expect("prepared");
    let (policy, output) = training.run_local(&mut ()).expect("trained");
    assert!(same(&prefetched, &files(&policy, output, other.path())));
}

#[test]
fn preparation_thread_ends_with_the_run() {
    let dir = tempfile::tempdir().expect("a directory");
    for stop in [1, 3, usize::MAX] {
        let alive = Arc::new(());
        let collate = ToyCollate { _alive: Some(Arc::clone(&alive)), ..ToyCollate::default() };
        train(&config(), collate, &pairs(), dir.path(), stop).expect("trained");
        assert_eq!(Arc::strong_count(&alive), 1, "the collator is gone");
    }
    // an error of the run ends it, too
    let alive = Arc::new(());
    let collate = ToyCollate { _alive: Some(Arc::clone(&alive)), ..ToyCollate::default() };
    let trainer = Trainer::new(config(), Toy::adapted(), collate, None).expect("valid");
    assert!(matches!(trainer.train(pairs(), &mut ()), Err(DpoError::InitialMismatch { .. })));
    assert_eq!(Arc::strong_count(&alive), 1, "the collator is gone");
}

#[test]
fn panic_of_the_collator_is_propagated() {
    let mut some = pairs();
    some.push(pair(100, "panic", "what is there", "a", "b"));
    let trainer = Trainer::new(config(), Toy::untouched(), headers(), None).expect("valid");
    let panic = catch_unwind(AssertUnwindSafe(|| trainer.train(some, &mut ()))).expect_err("a panic");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the collator panics"));
}

#[test]
fn pair_that_cannot_be_prepared_is_skipped() {
    let mut some = pairs();
    some.insert(4, pair(100, "damaged", "what is there", "a", "b"));
    let dir = tempfile::tempdir().expect("a directory");
    let expected = train(&config(), headers(), &some, dir.path(), usize::MAX).expect("trained");
    let (_, output, metrics, _) = &expected;
    let skipped: Vec<_> = output.skipped.iter().map(|one| (one.id.as_str(), one.detail.as_str())).collect();
    assert_eq!(skipped, [("100", "cannot read damaged: entity not found")]);
    assert_eq!((output.pairs, output.eval_pairs, output.skipped_steps), (10, 3, 0));
    let steps: Vec<StepMetrics> =
        metrics.lines().map(|line| serde_json::from_str(line).expect("metrics")).collect();
    // eleven pairs are three steps an epoch, and one of them has a pair less
    assert_eq!(steps.len(), 12);
    for epoch in steps.chunks(3) {
        assert_eq!(epoch.iter().map(|step| step.pairs).sum::<usize>(), 10);
    }
    // a resumed run skips it again, and has the same bits
    for stop in [1, 2, 3, 7] {
        let dir = tempfile::tempdir().expect("a directory");
        train(&config(), headers(), &some, dir.path(), stop).expect("trained");
        let mut found = train(&config(), headers(), &some, dir.path(), usize::MAX).expect("trained");
        assert_eq!(found.1.resumed_from, Some(stop));
        found.1.resumed_from = None;
        assert!(same(&found, &expected), "after a stop at {stop}");
    }
}

/// The gradient of a step is that of the mean over the pairs that are left.
#[test]
fn skipped_pair_does_not_affect_the_gradient() {
    let first = |pairs: &[PreferencePair], batch_size: usize, accumulation: usize| {
        let config = config()
            .with_batch_size(batch_size)
            .with_gradient_accumulation_steps(accumulation)
            .with_max_steps(Some(1))
            .with_max_grad_norm(f64::MAX);
        let trainer = Trainer::new(config, Toy::untouched(), headers(), None).expect("valid");
        trainer.train(pairs.to_vec(), &mut ()).expect("trained").1.last.expect("a step")
    };
    let mut some = pairs();
    some.push(pair(100, "damaged", "what is there", "a", "b"));
    some.push(pair(101, "damaged too", "what is there", "a", "b"));
    let expected = first(&pairs(), 10, 1);
    for (batch_size, accumulation) in [(12, 1), (3, 4), (1, 12)] {
        let found = first(&some, batch_size, accumulation);
        assert_eq!(found.pairs, 10);
        for (found, expected) in [
            (found.loss, expected.loss),
            (found.grad_norm, expected.grad_norm),
            (found.logps_chosen, expected.logps_chosen),
        ] {
            let error = (found - expected).abs() / expected.abs();
            assert!(error < 1e-5, "{batch_size} x {accumulation}: {found}, expected {expected}");
        }
    }
}

#[test]
fn steps_without_pairs_are_skipped_and_too_many_are_an_error() {
    let damaged = |count: usize| {
        let mut some = pairs();
        some.extend(
            (0..count)
                .map(|id| pair(100 + id, &format!("damaged {id}"), &format!("question {id}"), "a", "b")),
        );
        some
    };
    let config = config().with_batch_size(1).with_gradient_accumulation_steps(1).with_max_skipped(3);
    let train = |pairs: &[PreferencePair]| {
        let trainer = Trainer::new(config.clone(), Toy::untouched(), headers(), None).expect("valid");
        trainer.train(pairs.to_vec(), &mut ()).map(|(_, output)| output)
    };
    let output = train(&damaged(1)).expect("trained");
    assert_eq!((output.skipped_steps, output.skipped.len(), output.pairs), (4, 1, 10));
    let error = train(&damaged(200)).expect_err("three in a row");
    let DpoError::NothingPrepared { count: 3, skipped, .. } = &error else { panic!("{error}") };
    assert!(skipped.len() >= 3, "{skipped:?}");
    assert!(error.to_string().contains("cannot read damaged"), "{error}");
    // fewer steps than that, and not one of them taken
    let only = &damaged(1)[10..];
    let few = config.clone().with_max_steps(Some(2));
    let trainer = Trainer::new(few, Toy::untouched(), headers(), None).expect("valid");
    let error = trainer.train(only.to_vec(), &mut ()).map(drop).expect_err("nothing trained");
    assert!(matches!(error, DpoError::NothingPrepared { count: 2, step: 2, .. }), "{error}");
}

/// Without a check before the first step nothing is skipped: an error names the pair, not its whole
/// batch.
#[test]
fn unprepared_pair_without_validation_is_named() {
    let mut some = pairs();
    some.push(pair(100, "damaged", "what is there", "a", "b"));
    let config = config().with_validate_pairs(false).with_batch_size(11);
    let trainer = Trainer::new(config, Toy::untouched(), headers(), None).expect("valid");
    let error = trainer.train(some, &mut ()).map(drop).expect_err("damaged");
    assert!(matches!(&error, DpoError::Collate { pairs, .. } if *pairs == ["100"]), "{error}");
}

#[test]
fn dry_run_times_steps_and_writes_nothing() {
    let trainer = Trainer::new(config(), Toy::untouched(), ToyCollate::default(), None).expect("valid");
    let training = trainer.prepare(pairs()).expect("prepared");
    assert_eq!((training.plan().total_steps, training.plan().pairs), (12, 10));
    let rows: usize = training.first_epoch().map(|batch| batch.rows.len()).sum();
    assert_eq!(rows, 10);
    assert!(training.reference().is_none());
    assert_eq!(training.time_steps(3).expect("timed").len(), 3);
}
