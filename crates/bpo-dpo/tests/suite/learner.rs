//! Training with burn-train, on one device and on two.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bpo_dpo::config::{Criterion, DpoConfig};
use bpo_dpo::error::DpoError;
use bpo_dpo::learner::{DpoLearner, Figure, FigureMetric, Lines, PairBatch, PairBatcher, PlannedRate};
use bpo_dpo::loss::Loss;
use bpo_dpo::metrics::StepMetrics;
use bpo_dpo::observer::Control;
use bpo_dpo::optimizer::LrGroup;
use bpo_dpo::order::DataOrder;
use bpo_dpo::reference::MovingReference;
use bpo_dpo::schedule::Schedule;
use bpo_dpo::trainable::trainable_paths;
use bpo_dpo::trainer::Trainer;
use bpo_pairs::record::PreferencePair;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::distributed::{DistributedConfig, ReduceOperation};
use burn::tensor::{Device, Tensor};
use burn::train::metric::LossMetric;
use burn::train::{
    ExecutionStrategy, InferenceStep, Learner, LearningResult, MultiDeviceOptim, SupervisedTraining,
    TrainStep,
};

use crate::toy::{Toy, ToyBatch, ToyCollate, pairs};

type ToyLearner = DpoLearner<Toy>;

/// What differs between runs.
struct Setup {
    config: DpoConfig,
    optimizer: ModuleOptimizer,
    pairs: Vec<PreferencePair>,
}

impl Setup {
    /// Plain gradient descent, so that parameters move by the gradient itself, on some pairs in some order.
    fn descent(order: impl IntoIterator<Item = usize>) -> Self {
        let all = pairs();
        let config = DpoConfig::default()
            .with_schedule(Schedule::Constant)
            .with_warmup_ratio(0.0)
            .with_beta(0.5)
            .with_max_grad_norm(0.0)
            .with_learning_rate(1.0);
        Self {
            config,
            optimizer: SgdConfig::new().init(),
            pairs: order.into_iter().map(|at| all[at].clone()).collect(),
        }
    }

    fn loader(&self, batch_size: usize) -> Arc<dyn DataLoader<PairBatch<ToyBatch>>> {
        DataLoaderBuilder::new(PairBatcher::new(self.config.clone(), ToyCollate::default()))
            .batch_size(batch_size)
            .build(InMemDataset::new(self.pairs.clone()))
    }

    fn run(
        &self,
        batch_size: usize,
        change: impl FnOnce(SupervisedTraining<ToyLearner>) -> SupervisedTraining<ToyLearner>,
    ) -> LearningResult<ToyLearner> {
        let dir = tempfile::tempdir().expect("a directory");
        let training = SupervisedTraining::new(dir.path(), self.loader(batch_size), self.loader(batch_size))
            .metrics((LossMetric::new(), FigureMetric::new(Figure::Margins)))
            .with_application_logger(None)
            .renderer(Box::new(Lines::new(io::sink())));
        change(training).launch(self.learner())
    }

    fn learner(&self) -> Learner<ToyLearner> {
        let model = DpoLearner::new(self.config.clone(), Toy::untouched()).expect("valid");
        Learner::new(model, self.optimizer.clone(), PlannedRate::new(&self.config, 1000))
    }
}

fn on(
    strategy: ExecutionStrategy,
) -> impl FnOnce(SupervisedTraining<ToyLearner>) -> SupervisedTraining<ToyLearner> {
    |training| training.with_training_strategy(strategy.into())
}

/// flex has one device; given twice, burn makes two workers of it, each with a copy of the model.
fn two_devices(optimizer: MultiDeviceOptim) -> ExecutionStrategy {
    ExecutionStrategy::multi(vec![Device::flex(), Device::flex()], optimizer)
}

/// All values of the parameters that are trained.
fn values(toy: &Toy) -> Vec<f32> {
    struct Values(Vec<f32>);

    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }

    let mut values = Values(Vec::new());
    toy.projector.visit(&mut values);
    toy.head.lora_a.visit(&mut values);
    toy.head.lora_b.visit(&mut values);
    values.0
}

fn trained(result: LearningResult<ToyLearner>) -> Vec<f32> {
    assert!(result.error.is_none(), "{:?}", result.error);
    values(result.model.policy())
}

fn distance(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

/// Two runs end in the same place, far from where they began.
fn assert_same(one: &[f32], other: &[f32]) {
    let moved = distance(one, &values(&Toy::untouched()));
    assert!(moved > 1e-2, "something was learned: {moved}");
    let apart = distance(one, other);
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn training_lowers_the_loss() {
    let setup = Setup::descent([0, 1, 2, 3, 4, 7, 8, 9]);
    let batcher = PairBatcher::new(setup.config.clone(), ToyCollate::default());
    let batch = batcher.batch(setup.pairs.clone(), &Device::flex());
    let loss = |model: &ToyLearner| {
        let losses = InferenceStep::step(model, batch.clone()).losses().to_vec();
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    for strategy in
        [ExecutionStrategy::single(Device::flex()), two_devices(MultiDeviceOptim::OptimMainDevice)]
    {
        let result = setup.run(2, |training| on(strategy)(training).num_epochs(3));
        assert!(result.error.is_none(), "{:?}", result.error);
        let loss = loss(&result.model);
        assert!(loss < 2f64.ln() - 1e-2, "it began at ln 2: {loss}");
    }
}

#[test]
fn the_gradient_of_two_devices_is_that_of_one_with_the_double_batch() {
    // one step at learning rate 1: parameters move by the gradient
    let setup = Setup::descent([0, 4, 7, 9]);
    let one = trained(setup.run(4, |training| training));
    for optimizer in [MultiDeviceOptim::OptimMainDevice, MultiDeviceOptim::OptimSharded] {
        assert_same(&one, &trained(setup.run(2, on(two_devices(optimizer)))));
    }
}

#[test]
fn two_devices_take_the_steps_of_one_with_the_double_batch() {
    // burn gives the first half of the pairs to the first device; seven pairs, so that the last batches have one and two
    let two = Setup::descent([0, 1, 2, 3, 4, 7, 9]);
    let one = Setup::descent([0, 1, 3, 4, 2, 7, 9]);
    let expected = trained(one.run(4, |training| training.num_epochs(3)));
    for optimizer in [MultiDeviceOptim::OptimMainDevice, MultiDeviceOptim::OptimSharded] {
        let found = two.run(2, |training| on(two_devices(optimizer))(training).num_epochs(3));
        assert_same(&expected, &trained(found));
    }
}

#[test]
fn two_devices_clip_and_adapt_like_one() {
    let adamw = |order: [usize; 8]| {
        let setup = Setup::descent(order);
        let config = setup.config.clone().with_max_grad_norm(0.05).with_learning_rate(0.02);
        Setup { optimizer: config.adamw().init(), config, ..setup }
    };
    let two = adamw([0, 1, 2, 3, 4, 7, 8, 9]);
    let one = adamw([0, 1, 4, 7, 2, 3, 8, 9]);
    let expected = trained(one.run(4, |training| training.num_epochs(3)));
    for optimizer in [MultiDeviceOptim::OptimMainDevice, MultiDeviceOptim::OptimSharded] {
        let found = two.run(2, |training| on(two_devices(optimizer))(training).num_epochs(3));
        assert_same(&expected, &trained(found));
    }
}

#[test]
fn accumulated_batches_are_one() {
    // the last step has one batch of two and one of one
    let setup = Setup::descent([0, 1, 2, 3, 4, 7, 9]);
    let whole = trained(setup.run(4, |training| training.num_epochs(2)));
    let parts = trained(setup.run(2, |training| training.num_epochs(2).grads_accumulation(2)));
    assert_same(&whole, &parts);
}

#[test]
fn burn_has_no_collective_operations_for_flex() {
    // if this fails, data-parallel training by collective operations is to be tested here, as the other is
    let config = DistributedConfig { all_reduce_op: ReduceOperation::Mean };
    let devices = vec![Device::flex().autodiff(), Device::flex().autodiff()];
    let refused = std::panic::catch_unwind(|| ExecutionStrategy::ddp(devices, config)).err();
    let message = refused.and_then(|message| message.downcast::<String>().ok()).expect("refused");
    assert!(message.starts_with("Distributed operations are not supported"), "{message}");
}

#[test]
fn replicas_that_share_their_gradients_stay_equal() {
    // what burn's collective operations do within the backward pass, done by hand behind it, for batches of unequal size
    let setup = Setup::descent([0, 4, 7, 9, 3]);
    let whole = trained(setup.run(5, |training| training));
    let batcher = PairBatcher::new(setup.config.clone(), ToyCollate::default());
    for by in [1.0, 0.5] {
        let model = DpoLearner::new(setup.config.clone(), Toy::untouched()).expect("valid");
        let replicas = [model.clone().fork(&Device::flex()), model.fork(&Device::flex())];
        let gradients = [&setup.pairs[..3], &setup.pairs[3..]]
            .map(|part| TrainStep::step(&replicas[0], batcher.batch(part.to_vec(), &Device::flex())).grads);
        for replica in replicas {
            let mut reduced = Reduced { of: &gradients, by, sums: GradientsParams::new() };
            replica.visit(&mut reduced);
            let replica = replica.optimize(&mut setup.optimizer.clone(), 1.0.into(), reduced.sums);
            assert_same(&whole, &values(replica.policy()));
        }
    }
}

struct Reduced<'a> {
    of: &'a [GradientsParams; 2],
    by: f32,
    sums: GradientsParams,
}

impl ModuleVisitor for Reduced<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let [one, other] = self.of.each_ref().map(|gradients| gradients.get::<D>(param.id));
        if let (Some(one), Some(other)) = (one, other) {
            self.sums.register(param.id, (one + other).mul_scalar(self.by));
        }
    }
}

#[test]
fn a_run_ends_where_our_trainer_ends() {
    let config = DpoConfig::default().with_learning_rate(0.02).with_batch_size(4).with_epochs(1);
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), None).expect("valid");
    let (policy, summary) =
        trainer.train(&pairs(), &mut |_: &StepMetrics| Control::Continue).expect("trained");
    let setup = Setup {
        optimizer: config.adamw().init(),
        pairs: DataOrder::new(&pairs())
            .epoch(config.seed, 0)
            .into_iter()
            .map(|at| pairs()[at].clone())
            .collect(),
        config,
    };
    let model = DpoLearner::new(setup.config.clone(), Toy::untouched()).expect("valid");
    let rate = PlannedRate::new(&setup.config, summary.total_steps);
    let dir = tempfile::tempdir().expect("a directory");
    let result = SupervisedTraining::new(dir.path(), setup.loader(4), setup.loader(4))
        .metrics((LossMetric::new(),))
        .with_application_logger(None)
        .renderer(Box::new(Lines::new(io::sink())))
        .launch(Learner::new(model, setup.optimizer.clone(), rate));
    assert_same(&values(&policy), &trained(result));
}

#[test]
fn a_checkpoint_holds_what_is_trained_and_a_run_goes_on_from_it() {
    let setup = Setup::descent([0, 1, 2, 3, 4, 7]);
    let setup = Setup { optimizer: setup.config.adamw().init(), ..setup };
    let setup = Setup { config: setup.config.clone().with_learning_rate(0.02), ..setup };
    let whole = trained(setup.run(2, |training| training.num_epochs(3)));

    let dir = tempfile::tempdir().expect("a directory");
    let run = |change: &dyn Fn(SupervisedTraining<ToyLearner>) -> SupervisedTraining<ToyLearner>| {
        let training = SupervisedTraining::new(dir.path(), setup.loader(2), setup.loader(2))
            .metrics((LossMetric::new(),))
            .with_application_logger(None)
            .with_default_checkpointers()
            .renderer(Box::new(Lines::new(io::sink())));
        // a policy built anew, whose parameters have other ids
        change(training).launch(setup.learner())
    };
    drop(run(&|training| training.num_epochs(1)));
    let resumed = trained(run(&|training| training.num_epochs(3).checkpoint(1)));
    assert_same(&whole, &resumed);

    let model = DpoLearner::new(setup.config.clone(), Toy::adapted()).expect("valid");
    let paths = trainable_paths(model.policy()).len();
    let record = model.clone().into_record();
    assert_eq!(record.len(), paths, "neither the reference nor what is frozen");
    let other = DpoLearner::new(setup.config.clone(), Toy::untouched()).expect("valid");
    let loaded = other.try_load_record(record).expect("fits");
    assert_eq!(values(loaded.policy()), values(&Toy::adapted()));
    assert_eq!(values(&loaded.reference()), values(&Toy::untouched()), "the reference is as it was");
    assert_eq!(trainable_paths(loaded.policy()).len(), paths);
    let partial = Toy::untouched().projector.into_record();
    assert!(loaded.try_load_record(partial).is_err());
}

#[test]
fn the_reference_is_plain_and_stays_as_it_was() {
    let setup = Setup::descent([0, 1, 2, 3]);
    let result = setup.run(2, |training| training.num_epochs(2));
    let reference = result.model.reference();
    assert_eq!(values(&reference), values(&Toy::untouched()));
    assert!(distance(&values(result.model.policy()), &values(&reference)) > 1e-2);
    let model = DpoLearner::new(setup.config, Toy::untouched()).expect("valid");
    let mut plain = Plain(0);
    model.reference().visit(&mut plain);
    assert_eq!(plain.0, 5, "all parameters are there");
}

/// Counts parameters, none of which may be on a tape.
struct Plain(usize);

impl ModuleVisitor for Plain {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        assert!(!param.val().is_autodiff() && !param.is_require_grad());
        self.0 += 1;
    }
}

#[test]
fn a_pair_that_cannot_be_prepared_ends_training_with_its_error() {
    let mut setup = Setup::descent([0, 1, 2, 3]);
    setup.pairs[2].image = "missing".to_owned();
    for strategy in [
        ExecutionStrategy::single(Device::flex()),
        two_devices(MultiDeviceOptim::OptimMainDevice),
        two_devices(MultiDeviceOptim::OptimSharded),
    ] {
        let result = setup.run(1, on(strategy));
        let error = result.error.expect("an error").to_string();
        assert!(error.contains("cannot prepare 2: cannot read missing"), "{error}");
    }
}

#[test]
fn a_step_that_is_not_finite_is_left_out() {
    let mut setup = Setup::descent([0, 1]);
    setup.pairs[0].image = "nan".to_owned();
    let result = setup.run(2, |training| training);
    assert_eq!(values(result.model.policy()), values(&Toy::untouched()));
}

#[test]
fn settings_are_checked() {
    let refused = |config: DpoConfig, toy: Toy| DpoLearner::new(config, toy).err();
    let config = DpoConfig::default();
    assert!(matches!(
        refused(config.clone().with_beta(0.0), Toy::untouched()),
        Some(DpoError::Setting { key: "beta", .. })
    ));
    let group = LrGroup { path: "projector".to_owned(), learning_rate: 1e-3 };
    for (name, config) in [
        ("moving_reference", config.clone().with_moving_reference(Some(MovingReference::default()))),
        ("lr_groups", config.clone().with_lr_groups(vec![group])),
        ("max_steps", config.clone().with_max_steps(Some(1))),
        ("sample_every", config.clone().with_sample_every(Some(1))),
        ("keep_best", config.clone().with_keep_best(Some(Criterion::Loss))),
        ("patience", config.clone().with_patience(Some(1))),
        ("accumulation", config.clone().with_accumulation(2)),
        ("eval_part", config.clone().with_eval_part(0.1)),
    ] {
        let error = refused(config, Toy::untouched());
        assert!(matches!(error, Some(DpoError::Conflict { key, .. }) if key == name), "{name}: {error:?}");
    }
    assert!(matches!(refused(config, Toy::untouched().no_grad()), Some(DpoError::NothingToTrain)));
    let compares_images = DpoConfig::default().with_loss(Loss::mdpo());
    let batcher = PairBatcher::new(compares_images, ToyCollate { unweakened: true, ..ToyCollate::default() });
    let batch = batcher.batch(pairs(), &Device::flex());
    assert!(matches!(batch.error(), Some(DpoError::NothingWeakened)));
}

/// What was written, for a writer that is given away.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn figures_are_shown_and_logged_under_their_names() {
    let setup = Setup::descent([0, 1, 2]);
    let dir = tempfile::tempdir().expect("a directory");
    let written = Written::default();
    let figures = [
        Figure::ChosenRewards,
        Figure::RejectedRewards,
        Figure::Accuracies,
        Figure::Margins,
        Figure::ChosenLogps,
    ];
    let [one, two, three, four, five] = figures.map(FigureMetric::new);
    let result = SupervisedTraining::new(dir.path(), setup.loader(2), setup.loader(3))
        .metrics((LossMetric::new(), one, two, three, four, five))
        .with_application_logger(None)
        .renderer(Box::new(Lines::new(written.clone())))
        .launch(setup.learner());
    assert!(result.error.is_none());
    drop(result);

    let lines = String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("text");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("epoch 1, train, 2 of 3:  Loss 0.6931  rewards-chosen 0.0000  rewards-rej"));
    assert!(lines[1].starts_with("epoch 1, train, 3 of 3:"));
    assert!(lines[2].starts_with("epoch 1, train, mean:"));
    assert!(lines[3].starts_with("epoch 1, valid, 3 of 3:"));
    assert!(lines[4].starts_with("epoch 1, valid, mean:"));

    let log = |split: &str, name: &str| -> Vec<f64> {
        let path = dir.path().join(split).join("epoch-1").join(format!("{name}.log"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines().map(|line| line.split(',').next().expect("a value").parse().expect("a number")).collect()
    };
    let loss = log("train", "Loss");
    assert!((loss[0] - 2f64.ln()).abs() < 1e-6, "{loss:?}");
    // the mean over an epoch is one over pairs, not over batches
    assert!((loss[2] - (2.0 * loss[0] + loss[1]) / 3.0).abs() < 1e-6, "{loss:?}");
    for split in ["train", "valid"] {
        let [chosen, rejected, margins] =
            ["rewards-chosen", "rewards-rejected", "rewards-margins"].map(|name| log(split, name));
        assert!((chosen[0] - rejected[0] - margins[0]).abs() < 1e-6);
        assert!(log(split, "logps-chosen").iter().all(|value| *value < 0.0));
    }
    assert!(log("valid", "rewards-margins")[0] > 1e-3, "the steps helped");
}
