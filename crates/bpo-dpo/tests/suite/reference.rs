//! References that are not the policy with its adapters off.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_dpo::loss::Loss;
use bpo_dpo::{
    Adapters, Control, DpoConfig, DpoError, LogpCache, PairBatches, Policy, Reference, ReferenceSync, Stale,
    StepMetrics, TokenLogps, TrainOutput, Trainer, save_trainable,
};
use bpo_pairs::PreferencePair;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::toy::{Toy, ToyBatch, ToyCollate, pair, pairs};

fn config() -> DpoConfig {
    DpoConfig::default().with_learning_rate(0.02).with_warmup_ratio(0.0).with_epochs(3)
}

type Trained = Result<(Vec<u8>, TrainOutput, Vec<StepMetrics>), DpoError>;

fn train(config: &DpoConfig, reference: Reference<Toy>, dir: Option<&Path>, stop: usize) -> Trained {
    train_on(config, reference, ToyCollate::default(), &pairs(), dir, stop)
}

fn train_on(
    config: &DpoConfig,
    reference: Reference<Toy>,
    collate: ToyCollate,
    pairs: &[PreferencePair],
    dir: Option<&Path>,
    stop: usize,
) -> Trained {
    let mut steps = Vec::new();
    let mut observer = |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        if metrics.step == stop { Control::Stop } else { Control::Continue }
    };
    let trainer = Trainer::new(config.clone(), Toy::untouched(), collate, dir)?;
    let (policy, summary) = trainer.with_reference(reference).train(pairs.to_vec(), &mut observer)?;
    Ok((save_trainable(&policy)?, summary, steps))
}

fn about() -> BTreeMap<String, String> {
    [("model".to_owned(), "toy".to_owned())].into()
}

fn filled(config: &DpoConfig) -> LogpCache {
    let mut cache = LogpCache::new(about());
    let mut calls = Vec::new();
    let model = Toy::untouched().valid();
    let each = |_: &LogpCache, done| {
        calls.push(done);
        Ok(())
    };
    cache
        .fill(&[model], Adapters::Off, &mut ToyCollate::default(), batches(config, &pairs()), each)
        .expect("filled");
    assert_eq!(calls.last(), Some(&pairs().len()));
    assert!(calls.is_sorted());
    cache
}

fn near(found: &[StepMetrics], expected: &[StepMetrics]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for (found, expected) in [
            (found.loss, expected.loss),
            (found.grad_norm, expected.grad_norm),
            (found.rewards_margins, expected.rewards_margins),
        ] {
            assert!(
                (found - expected).abs() < 1e-4 * expected.abs().max(0.1),
                "{found}, expected {expected}"
            );
        }
    }
}

/// With an adapter that does something, as after an earlier training.
#[test]
fn policy_before_training_is_the_reference_that_a_copy_is() {
    let train = |config: &DpoConfig, reference| {
        let trainer =
            Trainer::new(config.clone(), Toy::adapted(), ToyCollate::default(), None).expect("valid");
        let (policy, output) = trainer.with_reference(reference).train(pairs(), &mut ()).expect("trained");
        (save_trainable(&policy).expect("bytes"), format!("{output:?}"))
    };
    for config in [config(), config().with_reference_sync(Some(ReferenceSync::new(2, 0.6)))] {
        assert!(train(&config, Reference::Start) == train(&config, Reference::Frozen(Toy::adapted())));
    }
}

/// All kinds of references give the same training, also with length desensitization and weakened
/// images, which need more than sums of log-probabilities.
#[test]
fn all_references_give_the_same_training() {
    for config in [
        config(),
        config().with_ld_alpha(Some(0.3)),
        config().with_loss(Loss::mdpo()),
        config().with_loss(Loss::Ipo).with_eval_fraction(0.3),
    ] {
        let (_, _, expected) = train(&config, Reference::AdaptersOff, None, usize::MAX).expect("trained");
        let (_, _, frozen) =
            train(&config, Reference::Frozen(Toy::untouched()), None, usize::MAX).expect("trained");
        near(&frozen, &expected);
        let cache = filled(&config.clone().with_batch_size(3));
        let (_, _, cached) = train(&config, Reference::Cached(cache), None, usize::MAX).expect("trained");
        near(&cached, &expected);
    }
}

/// A policy that shares its batches in training. If `expected` is set, it accepts only batches that
/// are shared (true) or not shared (false).
#[derive(Module, Debug)]
struct Shares {
    toy: Toy,
    #[module(skip)]
    expected: Option<bool>,
}

impl Policy for Shares {
    type Batch = ToyBatch;

    fn token_logps(&self, batch: &ToyBatch, adapters: Adapters) -> TokenLogps {
        assert!(self.expected.is_none_or(|expected| batch.shared == expected), "{adapters:?}");
        self.toy.token_logps(batch, adapters)
    }

    fn shared(&self, batch: &ToyBatch) -> Option<ToyBatch> {
        assert!(self.devices().iter().all(Device::is_autodiff), "not in an evaluation");
        let mut batch = batch.clone();
        batch.shared = true;
        Some(batch)
    }
}

#[test]
fn batches_are_shared_only_with_adapters_off() {
    let of = |expected| Shares { toy: Toy::untouched(), expected: Some(expected) };
    let train = |policy: Shares, reference: Reference<Shares>, config: DpoConfig| {
        let trainer = Trainer::new(config, policy, ToyCollate::default(), None).expect("valid");
        let (policy, _) = trainer.with_reference(reference).train(pairs(), &mut ()).expect("trained");
        save_trainable(&policy.toy).expect("values")
    };
    let shared = train(of(true), Reference::AdaptersOff, config());
    assert!(shared == train(of(false), Reference::Frozen(of(false)), config()));
    let either = Shares { toy: Toy::untouched(), expected: None };
    train(either, Reference::AdaptersOff, config().with_eval_fraction(0.3));
    // without a reference there is no one to share with
    train(of(false), Reference::AdaptersOff, config().with_loss(Loss::Sft));
}

#[test]
fn cache_round_trips_through_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, other) = (dir.path().join("reference.safetensors"), dir.path().join("other.safetensors"));
    let cache = filled(&config());
    cache.save(&path).expect("saved");
    let loaded = LogpCache::load(&path, about()).expect("loaded");
    assert_eq!(loaded.len(), cache.len());
    loaded.save(&other).expect("saved");
    assert_eq!(std::fs::read(&path).expect("bytes"), std::fs::read(&other).expect("bytes"));
    let of = |cache| train(&config(), Reference::Cached(cache), None, usize::MAX).expect("trained").0;
    assert!(of(cache) == of(loaded), "the same bits from memory and from the file");
}

/// Two runs that share a file each add what the other lacks, whatever they read at their start.
#[test]
fn rows_of_other_processes_stay_in_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("reference.safetensors");
    let of = |pairs: &[PreferencePair]| {
        let mut cache = LogpCache::new(about());
        let model = Toy::untouched().valid();
        let collate = &mut ToyCollate::default();
        cache
            .fill(std::slice::from_ref(&model), Adapters::Off, collate, batches(&config(), pairs), |_, _| {
                Ok(())
            })
            .expect("filled");
        cache
    };
    let all = pairs();
    let (first, second) = all.split_at(all.len() / 2);
    let (first, second) = (of(first), of(second));
    first.save(&path).expect("saved");
    second.save(&path).expect("saved");
    first.save(&path).expect("saved");
    let bytes = std::fs::read(&path).expect("bytes");
    let loaded = LogpCache::load(&path, about()).expect("loaded");
    assert_eq!(loaded.len(), of(&all).len());
    let other = dir.path().join("other.safetensors");
    of(&all).save(&other).expect("saved");
    assert!(bytes == std::fs::read(&other).expect("bytes"), "the order of writing does not matter");

    let mut changed = about();
    changed.insert("model".to_owned(), "another".to_owned());
    let error = LogpCache::new(changed).save(&path).expect_err("of another model");
    assert!(matches!(error, DpoError::ReferenceChanged { .. }), "{error}");
    assert!(bytes == std::fs::read(&path).expect("bytes"));
}

#[test]
fn cached_log_probabilities_are_not_computed_again() {
    let mut cache = filled(&config());
    // a model that would give other values
    let model = Toy::adapted().valid();
    let fill = |cache: &mut LogpCache, pairs: &[PreferencePair]| {
        let collate = &mut ToyCollate::default();
        cache.fill(std::slice::from_ref(&model), Adapters::On, collate, batches(&config(), pairs), |_, _| {
            Ok(())
        })
    };
    let before = cache.len();
    fill(&mut cache, &pairs()).expect("nothing to do");
    assert_eq!(cache.len(), before);
    train(&config(), Reference::Cached(cache.clone()), None, usize::MAX).expect("still the reference");
    fill(&mut cache, &[pair(10, "g", "what is there", "a cat", "a dog")]).expect("filled");
    assert_eq!(cache.len(), before + 2);
}

#[test]
fn stale_cache_error_names_the_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("reference.safetensors");
    filled(&config()).save(&path).expect("saved");
    let load = || LogpCache::load(&path, about()).expect("loaded");
    let train = |collate, pairs: &[PreferencePair]| {
        train_on(&config(), Reference::Cached(load()), collate, pairs, None, usize::MAX).expect_err("stale")
    };
    let error = train(ToyCollate { light: 0.5, ..ToyCollate::default() }, &pairs());
    let DpoError::StaleReference { what, pair: of, .. } = &error else { panic!("{error}") };
    assert_eq!((*what, of.as_str()), (Stale::Image, "0"));
    assert!(error.to_string().contains("reference.safetensors"), "{error}");
    let error = train(ToyCollate { dialect: "o", ..ToyCollate::default() }, &pairs());
    assert!(matches!(error, DpoError::StaleReference { what: Stale::Tokens, .. }), "{error}");
    let error = train(ToyCollate::default(), &[pair(77, "a", "what is there", "a dog on a mat", "an owl")]);
    assert!(matches!(&error, DpoError::NotInReference { pair, .. } if pair == "77"), "{error}");

    let mut other = about();
    other.insert("model".into(), "another".into());
    other.insert("template".into(), "new".into());
    let error = LogpCache::load(&path, other).expect_err("of another model").to_string();
    assert!(error.contains("`model` was toy and is now another"), "{error}");
    assert!(error.contains("`template` was none and is now new"), "{error}");
}

#[test]
fn damaged_cache_files_are_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("reference.safetensors");
    filled(&config()).save(&path).expect("saved");
    let whole = std::fs::read(&path).expect("bytes");
    for cut in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).expect("written");
        assert!(LogpCache::load(&path, about()).is_err(), "cut at {cut}");
    }
    // an adapter, say
    std::fs::write(&path, save_trainable(&Toy::untouched()).expect("bytes")).expect("written");
    let error = LogpCache::load(&path, about()).expect_err("no cache");
    assert!(matches!(error, DpoError::ReferenceFile { .. }), "{error}");
}

/// Of another model the first loss is not ln 2, which must be allowed for.
#[test]
fn different_reference_needs_reference_differs() {
    let other = || Reference::Frozen(Toy::adapted());
    let error = train(&config(), other(), None, usize::MAX).expect_err("refused");
    assert!(matches!(error, DpoError::InitialMismatch { .. }), "{error}");
    let (_, _, steps) =
        train(&config().with_reference_differs(true), other(), None, usize::MAX).expect("trained");
    assert!((steps[0].loss - std::f64::consts::LN_2).abs() > 1e-3);
}

#[test]
fn synchronized_reference_equals_the_formula() {
    let moving = |mixup_alpha| config().with_reference_sync(Some(ReferenceSync::new(2, mixup_alpha)));
    let run = |config: &DpoConfig| {
        train(config, Reference::Frozen(Toy::untouched()), None, usize::MAX).expect("trained").2
    };
    let (still, soft, hard) = (run(&config()), run(&moving(0.6)), run(&moving(1.0)));
    assert_eq!((still[1].loss, still[1].grad_norm), (hard[1].loss, hard[1].grad_norm));
    // after a hard update policy and reference are the same again
    assert!((hard[2].loss - std::f64::consts::LN_2).abs() < 1e-5, "{:?}", hard[2]);
    assert!(soft[2].rewards_margins.abs() > 1e-4, "{:?}", soft[2]);
    assert!(soft[2].rewards_margins.abs() < still[2].rewards_margins.abs(), "{:?}", soft[2]);
    let error = train(&moving(0.6), Reference::AdaptersOff, None, usize::MAX).expect_err("refused");
    assert!(matches!(error, DpoError::ReferenceStands), "{error}");
    // what it lacks shows before the first step, not at its first move
    let mut other = Toy::untouched();
    let words = other.head.lora_b.val().dims()[1];
    other.head.lora_b = Param::from_tensor(Tensor::zeros([3, words], &other.head.lora_b.device()));
    let error = train(&moving(0.6), Reference::Frozen(other), None, usize::MAX).expect_err("refused");
    let DpoError::ReferenceUnlike { mismatch } = &error else { panic!("{error}") };
    assert!(mismatch.missing.is_empty() && mismatch.misshapen[0].starts_with("head.lora_b"), "{error}");
    for broken in [ReferenceSync::new(0, 0.6), ReferenceSync::new(1, 0.0), ReferenceSync::new(1, 1.5)] {
        assert!(config().with_reference_sync(Some(broken)).validate().is_err());
    }
}

#[test]
fn resumed_run_restores_the_synchronized_reference() {
    let config = config().with_reference_sync(Some(ReferenceSync::new(2, 0.6)));
    let until = |dir: &Path, stop| {
        train(&config, Reference::Frozen(Toy::untouched()), Some(dir), stop).expect("trained").0
    };
    let whole = tempfile::tempdir().expect("a directory");
    let expected = until(whole.path(), usize::MAX);
    for stop in [1, 2, 3, 5] {
        let dir = tempfile::tempdir().expect("a directory");
        until(dir.path(), stop);
        assert!(until(dir.path(), usize::MAX) == expected, "after a stop at {stop}");
    }
}

/// Beta and margin of single pairs: those of all are the same as the setting.
#[test]
fn beta_and_margin_of_pairs_are_used() {
    let with = |beta, margin| -> Vec<PreferencePair> {
        pairs().into_iter().map(|pair| PreferencePair { beta, margin, ..pair }).collect()
    };
    let run = |config: &DpoConfig, pairs: &[PreferencePair]| {
        train_on(config, Reference::AdaptersOff, ToyCollate::default(), pairs, None, usize::MAX)
    };
    let steps = |config: &DpoConfig, pairs: &[PreferencePair]| run(config, pairs).expect("trained").2;
    near(
        &steps(&config().with_beta(0.1), &with(Some(0.7), None)),
        &steps(&config().with_beta(0.7), &pairs()),
    );
    let plain = steps(&config(), &with(None, Some(2.0)));
    near(&plain, &steps(&config(), &pairs()));
    let offset = steps(&config().with_margin_scale(0.5), &with(None, Some(2.0)));
    assert!((offset[0].loss - 1.0f64.exp().ln_1p()).abs() < 1e-5, "{:?}", offset[0]);
    assert_eq!(offset[0].rewards_margins, 0.0);

    let mut some = pairs();
    some[0].beta = Some(-1.0);
    some[1].margin = Some(f64::INFINITY);
    let (_, summary, _) = run(&config().with_validate_pairs(false), &some).expect("trained");
    let skipped: Vec<&str> = summary.skipped.iter().map(|skipped| skipped.id.as_str()).collect();
    assert_eq!((skipped, summary.pairs), (vec!["0", "1"], 8));
    assert!(config().with_loss(Loss::NcaPair).with_margin_scale(1.0).validate().is_err());
}

#[test]
fn sampler_is_called_at_its_interval_and_at_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let config = config().with_sample_every(Some(4));
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), Some(dir.path()));
    let recorded = calls.clone();
    let sampler = move |policy: &Toy, step| {
        let changed = policy.head.lora_b.val().abs().sum().into_data_dtype(DType::F64);
        recorded.borrow_mut().push((step, changed.iter::<f64>().next().expect("a sum") > 0.0));
        Ok(())
    };
    trainer.expect("valid").with_sampler(sampler).train(pairs(), &mut ()).expect("trained");
    assert_eq!(*calls.borrow(), [(4, true), (8, true), (9, true)]);

    let trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None).expect("valid");
    let failing = trainer.with_sampler(|_, _| Err("no".into()));
    let error = failing.train(pairs(), &mut ()).expect_err("failed");
    assert!(matches!(error, DpoError::Sample { step: 4, .. }), "{error}");
}

#[test]
fn pair_with_another_system_text_has_another_cache_key() {
    let cache = filled(&config());
    let mut some = pairs();
    let loss = config().objective().properties();
    cache.check(&mut ToyCollate::default(), loss, &some).expect("as it was filled");
    some[3].system = Some("be brief".to_owned());
    let error = cache.check(&mut ToyCollate::default(), loss, &some).expect_err("another question");
    assert!(matches!(&error, DpoError::NotInReference { pair, .. } if pair == "3"), "{error}");
}

fn batches<'a>(config: &DpoConfig, pairs: &'a [PreferencePair]) -> PairBatches<'a> {
    PairBatches { pairs, loss: config.objective().properties(), size: config.batch_size }
}
