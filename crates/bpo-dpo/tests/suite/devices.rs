//! Several devices that share the work of each step.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use bpo_dpo::loss::Loss;
use bpo_dpo::{
    Adapters, Collate, Control, DpoConfig, DpoError, LogpCache, PairBatches, Policy, Reference,
    ReferenceSync, StepMetrics, TokenLogps, TokenStatistics, Trainer, map_on_devices, trainable_paths,
};
use bpo_pairs::PreferencePair;
use burn::module::Module;
use burn::tensor::Device;
use safetensors::SafeTensors;

use crate::toy::{Toy, ToyBatch, ToyCollate, pair, pairs};

type MakeReference = fn() -> Reference<Watched>;

/// Twenty steps of eight pairs.
fn config() -> DpoConfig {
    DpoConfig::default()
        .with_learning_rate(0.02)
        .with_batch_size(2)
        .with_gradient_accumulation_steps(4)
        .with_max_steps(Some(20))
        .with_eval_fraction(0.2)
        .with_eval_every(3)
}

/// Twenty steps of nine pairs, each pair with a beta of its batch.
fn responsive() -> DpoConfig {
    config().with_batch_size(3).with_gradient_accumulation_steps(3).with_responsiveness(true)
}

/// A policy that counts its forward passes by thread. It panics after the given number of passes on
/// another thread than that of the test.
#[derive(Module, Debug)]
struct Watched {
    toy: Toy,
    #[module(skip)]
    passes: Arc<Mutex<HashMap<ThreadId, usize>>>,
    #[module(skip)]
    panics_after: Option<usize>,
}

impl Watched {
    fn new() -> Self {
        Self { toy: Toy::untouched(), passes: Arc::default(), panics_after: None }
    }
}

impl Policy for Watched {
    type Batch = ToyBatch;

    fn token_logps(&self, batch: &ToyBatch, adapters: Adapters) -> TokenLogps {
        self.token_statistics(batch, adapters).0
    }

    fn token_statistics(
        &self,
        batch: &ToyBatch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        if adapters == Adapters::On {
            let passes = {
                let mut passes = self.passes.lock().expect("no panic while it is locked");
                let passes = passes.entry(thread::current().id()).or_default();
                *passes += 1;
                *passes
            };
            let is_test = thread::current().name().is_some_and(|name| name.contains("devices"));
            assert!(is_test || self.panics_after.is_none_or(|most| passes <= most), "the replica panics");
        }
        self.toy.token_statistics(batch, adapters)
    }
}

struct Run {
    /// Trained parameters and the state of the optimizer, by name.
    tensors: BTreeMap<String, Vec<u8>>,
    metrics: String,
    evaluations: String,
    steps: Vec<StepMetrics>,
    /// Numbers of forward passes, by thread.
    passes: Vec<usize>,
}

fn further(count: usize) -> Vec<Device> {
    vec![Device::flex(); count]
}

fn train(config: &DpoConfig, reference: Reference<Watched>, devices: usize, dir: &Path, stop: usize) -> Run {
    let mut steps = Vec::new();
    let mut observer = |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        if metrics.step == stop { Control::Stop } else { Control::Continue }
    };
    let policy = Watched::new();
    let passes = Arc::clone(&policy.passes);
    let collate = ToyCollate { headers: true, ..ToyCollate::default() };
    let trainer = Trainer::new(config.clone(), policy, collate, Some(dir)).expect("valid");
    let trainer = trainer.with_reference(reference).with_devices(further(devices - 1));
    trainer.train(some_pairs(), &mut observer).expect("trained");
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
    let (_, checkpoint) =
        bpo_dpo::CheckpointDir::new(dir).load_newest(|_, _| Ok(())).expect("readable").expect("one");
    let mut tensors = BTreeMap::new();
    for bytes in [&checkpoint.trainable, &checkpoint.optimizer] {
        for (name, view) in SafeTensors::deserialize(bytes).expect("tensors").iter() {
            tensors.insert(name.to_owned(), view.data().to_vec());
        }
    }
    let passes = passes.lock().expect("unlocked").values().copied().collect();
    Run { tensors, metrics: read("metrics.jsonl"), evaluations: read("eval.jsonl"), steps, passes }
}

/// Thirteen pairs, one of which cannot be prepared.
fn some_pairs() -> Vec<PreferencePair> {
    let mut some = pairs();
    some.insert(4, pair(100, "damaged", "what is there", "a", "b"));
    some.push(pair(101, "g", "what is there", "a horse", "a horse and a man"));
    some.push(pair(102, "h", "what is there", "grass", "a lawn"));
    some
}

fn run(config: &DpoConfig, reference: Reference<Watched>, devices: usize) -> Run {
    let dir = tempfile::tempdir().expect("a directory");
    train(config, reference, devices, dir.path(), usize::MAX)
}

/// Checks that parameters and metrics are equal to 1e-5.
fn assert_close(found: &Run, expected: &Run, what: &str) {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    assert!(found.tensors.keys().eq(expected.tensors.keys()));
    for (name, bytes) in expected.tensors.iter().filter(|(name, _)| !name.ends_with(".time")) {
        let (found, expected) = (floats(&found.tensors[name]), floats(bytes));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{what}: {name}: {found}, not {expected}");
        }
    }
    let lines = |run: &Run| -> Vec<serde_json::Value> {
        let lines = run.metrics.lines().chain(run.evaluations.lines());
        lines.map(|line| serde_json::from_str(line).expect("metrics")).collect()
    };
    let (found, expected) = (lines(found), lines(expected));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        for (key, expected) in expected.as_object().expect("an object") {
            match (found[key].as_f64(), expected.as_f64()) {
                (Some(found), Some(expected)) => {
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(error < 1e-5, "{what}: {key}: {found}, not {expected}");
                }
                _ => assert_eq!(&found[key], expected, "{what}: {key}"),
            }
        }
    }
}

fn frozen() -> Reference<Watched> {
    Reference::Frozen(Watched::new())
}

/// A cache that a number of devices has filled.
fn cache(devices: usize) -> LogpCache {
    let mut cache = LogpCache::new(BTreeMap::new());
    let loss = config().objective().properties();
    let mut collate = ToyCollate { headers: true, ..ToyCollate::default() };
    let some = some_pairs();
    let batches = PairBatches { pairs: &some, loss, size: 2 };
    let models = vec![Watched::new().valid(); devices];
    let mut done = Vec::new();
    let each = |_: &LogpCache, pairs| {
        done.push(pairs);
        Ok(())
    };
    let skipped = cache.fill(&models, Adapters::On, &mut collate, batches, each).expect("filled");
    assert_eq!(skipped.iter().map(|skipped| skipped.id.as_str()).collect::<Vec<_>>(), ["100"]);
    assert_eq!(done, [2, 4, 6, 8, 10, 12, 13], "in order");
    let threads = models[0].passes.lock().expect("unlocked").len();
    assert_eq!(threads, devices.min(7), "each device computes");
    cache
}

fn cached() -> Reference<Watched> {
    Reference::Cached(cache(1))
}

#[test]
fn cache_does_not_depend_on_the_devices() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = |devices: usize| {
        let file = dir.path().join(devices.to_string());
        cache(devices).save(&file).expect("written");
        fs::read(file).expect("bytes")
    };
    let expected = bytes(1);
    for devices in [2, 3, 9] {
        assert!(bytes(devices) == expected, "{devices} devices");
    }
}

#[test]
fn results_of_devices_are_in_order() {
    let policies = vec![Toy::untouched(); 3];
    let run = |fails_at: usize, refused: usize| {
        let mut taken = Vec::new();
        let items = (0..20).map(|item| if item == fails_at as u64 { Err("an item") } else { Ok(item) });
        let work = |_: &Toy, item: u64| {
            thread::sleep(std::time::Duration::from_millis((20 - item) / 4));
            item
        };
        let result = map_on_devices(&policies, items, work, |item| {
            if item == refused as u64 {
                return Err("a result");
            }
            taken.push(item);
            Ok(())
        });
        (result, taken.len() as u64, taken.iter().copied().eq(0..taken.len() as u64))
    };
    assert_eq!(run(20, 20), (Ok(()), 20, true));
    assert_eq!(run(7, 20), (Err("an item"), 7, true), "results before the error are taken");
    assert_eq!(run(20, 5), (Err("a result"), 5, true));
    let work = |_: &Toy, item: usize| assert!(item < 4, "the work panics");
    let panic = catch_unwind(AssertUnwindSafe(|| {
        map_on_devices(&policies, (0..20).map(Ok::<_, ()>), work, |()| Ok(()))
    }));
    assert_eq!(panic.expect_err("a panic").downcast_ref::<&str>(), Some(&"the work panics"));
}

#[test]
fn several_devices_train_as_one_does() {
    let synchronized = config().with_reference_sync(Some(ReferenceSync::new(3, 0.6)));
    let cases: [(&str, DpoConfig, MakeReference); 10] = [
        ("policy before training", config(), || Reference::Start),
        ("policy before training that follows", synchronized.clone(), || Reference::Start),
        ("adapters off", config(), || Reference::AdaptersOff),
        ("separate reference", config(), frozen),
        ("reference that follows", synchronized, frozen),
        ("cached reference", config(), cached),
        ("one batch", config().with_batch_size(8).with_gradient_accumulation_steps(1), || {
            Reference::AdaptersOff
        }),
        ("one pair", config().with_batch_size(1).with_gradient_accumulation_steps(1), || {
            Reference::AdaptersOff
        }),
        ("loss over a batch", config().with_loss(Loss::Aot { label_smoothing: 0.0 }), frozen),
        ("responsiveness", responsive(), || Reference::AdaptersOff),
    ];
    for (name, config, reference) in cases {
        let expected = run(&config, reference(), 1);
        assert_eq!((expected.steps.len(), expected.passes.len()), (20, 1));
        for devices in [2, 3, 5] {
            let found = run(&config, reference(), devices);
            assert_close(&found, &expected, &format!("{name}, {devices} devices"));
            let one_pair = config.pairs_per_step() == 1;
            if !one_pair && (devices < 5 || config.batch_size == 8) {
                assert_eq!(found.passes.len(), devices, "{name}: each device computes");
            }
        }
    }
}

#[test]
fn batches_go_round_the_devices() {
    // eight pairs to train on in four batches, and no evaluations
    let config = config().with_eval_fraction(0.0).with_max_steps(Some(1));
    let passes = |devices| {
        let mut passes = run_without_evaluations(&config, devices);
        passes.sort_unstable();
        passes
    };
    assert_eq!(passes(1), [4]);
    assert_eq!(passes(2), [2, 2]);
    assert_eq!(passes(3), [1, 1, 2]);
    assert_eq!(passes(4), [1; 4]);
    // smaller batches, so that each has one
    assert_eq!(passes(8), [1; 8]);
    // unless the loss would change
    let config = config.with_loss(Loss::Aot { label_smoothing: 0.0 });
    let mut of_batch = run_without_evaluations(&config, 8);
    of_batch.sort_unstable();
    assert_eq!(of_batch, [1; 4]);
}

fn run_without_evaluations(config: &DpoConfig, devices: usize) -> Vec<usize> {
    let policy = Watched::new();
    let passes = Arc::clone(&policy.passes);
    let trainer = Trainer::new(config.clone(), policy, ToyCollate::default(), None).expect("valid");
    trainer.with_devices(further(devices - 1)).train(pairs(), &mut ()).expect("trained");
    let passes = passes.lock().expect("unlocked");
    passes.values().copied().collect()
}

#[test]
fn resumed_run_on_two_devices_has_the_same_bits() {
    let synchronized = config().with_reference_sync(Some(ReferenceSync::new(3, 0.6)));
    let cases: [(DpoConfig, MakeReference); 4] = [
        (config(), || Reference::AdaptersOff),
        (responsive(), || Reference::AdaptersOff),
        (synchronized.clone(), || Reference::Start),
        (synchronized, frozen),
    ];
    for (config, reference) in cases {
        let expected = run(&config, reference(), 2);
        let same = |found: &Run| {
            found.tensors == expected.tensors
                && found.metrics == expected.metrics
                && found.evaluations == expected.evaluations
        };
        assert!(same(&run(&config, reference(), 2)), "once more");
        for stop in [1, 4, 13] {
            let dir = tempfile::tempdir().expect("a directory");
            train(&config, reference(), 2, dir.path(), stop);
            let found = train(&config, reference(), 2, dir.path(), usize::MAX);
            assert_eq!(found.steps.first().map(|step| step.step), Some(stop + 1));
            assert!(same(&found), "after a stop at {stop}");
        }
        // another number of devices after each stop
        let dir = tempfile::tempdir().expect("a directory");
        for (devices, stop) in [(1, 2), (3, 6), (2, 11)] {
            train(&config, reference(), devices, dir.path(), stop);
        }
        assert_close(&train(&config, reference(), 4, dir.path(), usize::MAX), &expected, "other devices");
    }
}

/// Parameters that are trained without an adapter have other values in the reference.
#[test]
fn reference_after_a_restart_is_the_policy_before_training() {
    let paths = trainable_paths(&Watched::new());
    assert!(paths.contains(&"toy.projector.weight".to_owned()), "{paths:?}");
    let dir = tempfile::tempdir().expect("a directory");
    train(&config(), Reference::AdaptersOff, 2, dir.path(), 10);
    let found = train(&config(), Reference::AdaptersOff, 2, dir.path(), usize::MAX);
    assert_close(&found, &run(&config(), Reference::AdaptersOff, 1), "resumed on two devices");
}

#[test]
fn errors_and_panics_of_a_further_device_end_the_run() {
    let mut policy = Watched::new();
    policy.panics_after = Some(3);
    let trainer = Trainer::new(config(), policy, ToyCollate::default(), None).expect("valid");
    let trainer = trainer.with_devices(further(1));
    let panic = catch_unwind(AssertUnwindSafe(|| trainer.train(pairs(), &mut ()))).expect_err("a panic");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the replica panics"));

    // the second device has the first batch
    let mut policy = Watched::new();
    policy.toy = Toy::adapted();
    let trainer = Trainer::new(config(), policy, ToyCollate::default(), None).expect("valid");
    let error = trainer.with_devices(further(1)).train(pairs(), &mut ()).map(drop).expect_err("adapted");
    assert!(matches!(error, DpoError::InitialMismatch { .. }), "{error}");
    let wrong = WrongRows(ToyCollate::default());
    let trainer = Trainer::new(config(), Watched::new(), wrong, None).expect("valid");
    let error = trainer.with_devices(further(1)).train(pairs(), &mut ()).map(drop).expect_err("rows");
    assert!(matches!(error, DpoError::Rows { .. }), "{error}");

    let trainer = Trainer::new(config(), Watched::new(), ToyCollate::default(), None).expect("valid");
    let training = trainer.with_devices(further(1)).prepare(pairs()).expect("prepared");
    let error = training.run_local(&mut ()).map(drop).expect_err("one thread");
    assert!(matches!(error, DpoError::DevicesOnOneThread { devices: 2 }), "{error}");
}

/// A collator whose batches lack the last completion: a mistake that the forward pass detects.
struct WrongRows(ToyCollate);

impl Collate for WrongRows {
    type Batch = ToyBatch;
    type Error = crate::toy::ToyError;

    fn collate(&mut self, groups: &[bpo_dpo::PromptGroup]) -> Result<ToyBatch, Self::Error> {
        let mut groups = groups.to_vec();
        if groups.len() > 1 || groups[0].completions.len() > 2 {
            groups.last_mut().expect("a group").completions.pop();
        }
        self.0.collate(&groups)
    }
}
