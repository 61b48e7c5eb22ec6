//! A loss of one's own, in an objective, in a sum and in the trainer.

use bpo_dpo::loss::{
    Loss, LossError, LossInputs, LossProperties, Objective, PairLogps, PerPair, PreferenceLoss, WeightedSum,
};
use bpo_dpo::{Control, DpoConfig, DpoError, StepMetrics, Trainer, Weighting};
use burn::tensor::{Device, Tensor};

use crate::toy::{Toy, ToyCollate, pairs};

/// The hinge loss with a margin to reach.
#[derive(Debug)]
struct Hinge {
    margin: f64,
}

impl PreferenceLoss for Hinge {
    fn properties(&self) -> LossProperties {
        LossProperties { takes_margins: true, takes_divergence: true, ..LossProperties::PAIRWISE }
    }

    fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1> {
        inputs.rewards.margins().neg().add_scalar(self.margin).clamp_min(0.0)
    }

    fn validate(&self) -> Result<(), LossError> {
        if self.margin > 0.0 {
            return Ok(());
        }
        let found = self.margin.to_string();
        Err(LossError::Setting { key: "loss.margin", expected: "above 0", found })
    }
}

/// The likelihood of the chosen completions, with less weight where the policy is uncertain: needs
/// statistics, and neither reference nor rejected completions.
#[derive(Debug)]
struct Certain;

impl PreferenceLoss for Certain {
    fn properties(&self) -> LossProperties {
        LossProperties {
            reference: false,
            rejected: false,
            lengths: true,
            statistics: true,
            ..LossProperties::PAIRWISE
        }
    }

    fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1> {
        let lengths = inputs.lengths().chosen.clone();
        let weights = (inputs.statistics().chosen.entropy.clone() / lengths.clone()).neg().exp();
        let weights = Tensor::from_inner(weights / lengths);
        inputs.policy.chosen.clone().neg() * weights
    }
}

fn config() -> DpoConfig {
    DpoConfig::default().with_learning_rate(0.02).with_warmup_ratio(0.0).with_batch_size(5)
}

fn train(
    config: DpoConfig,
    loss: Option<impl PreferenceLoss + 'static>,
) -> Result<Vec<StepMetrics>, DpoError> {
    let mut trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None)?;
    if let Some(loss) = loss {
        trainer = trainer.with_loss(loss)?;
    }
    let mut steps = Vec::new();
    trainer.train(pairs(), &mut |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        Control::Continue
    })?;
    Ok(steps)
}

#[test]
fn custom_copy_of_a_built_in_loss_trains_the_same() {
    let built_in = train(config().with_loss(Loss::Hinge), None::<Hinge>).expect("trained");
    let own = train(config(), Some(Hinge { margin: 1.0 })).expect("trained");
    let sum = WeightedSum::new().with(0.25, Hinge { margin: 1.0 }).with(0.75, Loss::Hinge);
    let sum = train(config(), Some(sum)).expect("trained");
    assert_eq!(own.len(), built_in.len());
    for ((own, sum), built_in) in own.iter().zip(&sum).zip(&built_in) {
        assert_eq!(format!("{own:?}"), format!("{built_in:?}"));
        assert!((sum.loss - built_in.loss).abs() < 1e-5, "{sum:?} {built_in:?}");
    }
}

#[test]
fn loss_receives_only_the_inputs_it_needs() {
    let steps = train(config().with_statistics(false).with_epochs(20), Some(Certain)).expect("trained");
    let (first, last) = (&steps[0], steps.last().expect("a step"));
    assert!(last.loss < 0.8 * first.loss, "{first:?} {last:?}");
    assert!(steps.iter().all(|step| step.logps_rejected.is_nan() && step.rewards_chosen.is_nan()));
    assert!(steps.iter().all(|step| step.entropy.is_finite()));
}

#[test]
fn settings_are_checked_against_the_loss() {
    let error = train(config(), Some(Hinge { margin: 0.0 })).expect_err("no margin");
    assert!(matches!(&error, DpoError::Setting { key: "loss.margin", .. }), "{error}");
    // a sum takes a margin only if all of its terms that compare do
    let sum = || WeightedSum::new().with(1.0, Hinge { margin: 1.0 }).with(1.0, Loss::NcaPair);
    let error = train(config().with_margin_scale(1.0), Some(sum())).expect_err("no margins");
    assert!(matches!(&error, DpoError::Conflict { key: "margin_scale", .. }), "{error}");
    assert!(error.to_string().contains("1 Hinge { margin: 1.0 }, 1 nca_pair"), "{error}");
    let sum = WeightedSum::new().with(1.0, Loss::Aot { label_smoothing: 0.0 }).with(1.0, Certain);
    let error = train(config().with_weighting(Some(Weighting::Wpo)), Some(sum)).expect_err("it sorts");
    assert!(matches!(&error, DpoError::Conflict { key: "weighting", .. }), "{error}");
    assert!(matches!(train(config(), Some(WeightedSum::new())), Err(DpoError::Setting { .. })));
}

#[test]
fn resuming_with_another_loss_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let train = |margin: f64| {
        let trainer = Trainer::new(config(), Toy::untouched(), ToyCollate::default(), Some(dir.path()))?;
        let trainer = trainer.with_loss(Hinge { margin })?;
        trainer.train(pairs(), &mut |_: &StepMetrics| Control::Stop).map(|(_, output)| output.steps)
    };
    assert_eq!(train(1.0).expect("one step"), 1);
    assert_eq!(train(1.0).expect("two steps"), 2);
    let error = train(2.0).expect_err("another margin");
    assert!(matches!(&error, DpoError::ConfigChanged { changes, .. } if changes[0].key == "loss"), "{error}");
}

#[test]
fn boxed_loss_equals_its_loss() {
    let values = |value: f32| Tensor::from_floats([value], &Device::flex());
    let logps = || PairLogps::new(values(-10.0), values(-14.0));
    let boxed: Box<dyn PreferenceLoss> = Box::new(Hinge { margin: 3.0 });
    let objective = Objective::new(boxed, 0.5).with_reference_free(true);
    let losses = objective.forward(&logps(), None, &PerPair::default()).losses;
    assert_eq!(losses.into_scalar::<f32>(), 1.0);
}
