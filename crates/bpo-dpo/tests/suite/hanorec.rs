//! HaNoRec: hardness and responsiveness against a Python reference of the equations
//! (`tools/golden/hanorec.py`), and their place in the trainer.

use bpo_dpo::hardness::{HardnessError, Neighborhoods, hardness, item_vector};
use bpo_dpo::loss::{
    Beta, Loss, Objective, PairLengths, PairLogps, PerPair, WeightedLoss, responsive_beta, responsiveness,
};
use bpo_dpo::{Control, DpoConfig, DpoError, StepMetrics, Trainer};
use bpo_pairs::PreferencePair;
use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use serde::Deserialize;

use crate::toy::{Toy, ToyCollate, pairs};

#[derive(Deserialize)]
struct Golden {
    batches: Vec<Batch>,
    catalogue: Catalogue,
}

#[derive(Deserialize)]
struct Batch {
    beta: f64,
    label_smoothing: f64,
    sft: f64,
    hardness: Vec<f64>,
    lengths: Vec<f64>,
    policy: [Vec<f64>; 2],
    reference: [Vec<f64>; 2],
    responsiveness: f64,
    betas: Vec<f64>,
    losses: Vec<f64>,
    rewards: [Vec<f64>; 2],
    gradients: [Vec<f64>; 2],
}

#[derive(Deserialize)]
struct Catalogue {
    neighbors: usize,
    text: Vec<Vec<f64>>,
    image: Vec<Option<Vec<f64>>>,
    vectors: Vec<Vec<f64>>,
    distributions: Vec<Vec<f64>>,
    pairs: Vec<Vec<(usize, usize)>>,
    distances: Vec<f64>,
    hardness: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/hanorec.json")).expect("the golden values")
}

fn tensor(values: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F64))
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / expected.abs().max(1e-3);
        assert!(error < 1e-6, "{what}: {found}, not {expected}");
    }
}

#[test]
fn batches_equal_the_equations() {
    let device = Device::flex().autodiff();
    let golden = golden();
    assert_eq!(golden.batches.len(), 20);
    for (index, batch) in golden.batches.iter().enumerate() {
        let what = |part: &str| format!("batch {index}, {part}");
        let logps = |[chosen, rejected]: [Tensor<1>; 2]| {
            let lengths = || tensor(&batch.lengths, &Device::flex());
            let lengths = PairLengths { chosen: lengths(), rejected: lengths() };
            PairLogps { lengths: Some(lengths), ..PairLogps::new(chosen, rejected) }
        };
        let policy = [0, 1].map(|part| tensor(&batch.policy[part], &device).require_grad());
        let reference = [0, 1].map(|part| tensor(&batch.reference[part], &Device::flex()));

        let [gap_of_policy, gap_of_reference] =
            [&policy, &reference].map(|[chosen, rejected]| chosen.clone() - rejected.clone());
        let gaps = (gap_of_policy.inner() - gap_of_reference).mul_scalar(batch.beta);
        let rho = responsiveness(gaps);
        assert_close(&values(rho.clone()), &[batch.responsiveness], &what("responsiveness"));
        let own: Vec<f64> = batch.hardness.iter().map(|hardness| batch.beta * hardness).collect();
        let own = tensor(&own, &Device::flex());
        let pairs = batch.betas.len();
        let betas = responsive_beta(&Beta::PerPair(own.clone()), rho, pairs);
        assert_close(&values(betas), &batch.betas, &what("beta"));

        let sigmoid = Loss::Sigmoid { label_smoothing: batch.label_smoothing };
        let loss = Loss::Sum {
            terms: vec![WeightedLoss::new(1.0, sigmoid), WeightedLoss::new(batch.sft, Loss::Sft)],
        };
        let objective = Objective::new(loss, batch.beta).with_responsiveness(true);
        objective.validate().expect("valid");
        let factors = PerPair { beta: Some(own), ..PerPair::default() };
        let output = objective.forward(&logps(policy.clone()), Some(&logps(reference)), &factors);
        assert_close(&values(output.losses.clone()), &batch.losses, &what("loss"));
        assert_close(&values(output.rewards.chosen), &batch.rewards[0], &what("chosen reward"));
        assert_close(&values(output.rewards.rejected), &batch.rewards[1], &what("rejected reward"));
        let gradients = output.losses.sum().backward();
        for (logps, expected) in policy.iter().zip(&batch.gradients) {
            let found = logps.grad(&gradients).expect("a gradient");
            assert_close(&values(found), expected, &what("gradient"));
        }
    }
}

#[test]
fn one_beta_of_all_pairs_is_as_the_same_beta_of_each() {
    let device = Device::flex();
    let gaps = tensor(&[0.1, 0.4, -0.2, 0.9], &device);
    let of = |beta: Beta| values(responsive_beta(&beta, responsiveness(gaps.clone()), 4));
    assert_eq!(of(Beta::Shared(0.3)), of(Beta::PerPair(tensor(&[0.3; 4], &device))));
    // of a pair that is left out, or of less than three pairs, the size does not matter
    assert_eq!(values(responsiveness(tensor(&[0.3, 8.0], &device))), [1.0]);
    let not_finite = values(responsiveness(tensor(&[0.3, f64::NAN, 1.0, 2.0], &device)));
    assert!(not_finite[0].is_nan(), "the trainer skips the step");
}

proptest! {
    #[test]
    fn responsiveness_depends_on_neither_order_nor_scale(
        gaps in prop::collection::vec(0.5f64..8.0, 3..12), scale in 0.01f64..10.0,
    ) {
        let of = |gaps: &[f64]| values(responsiveness(tensor(gaps, &Device::flex())))[0];
        let rho = of(&gaps);
        prop_assert!(rho > 0.0 && rho < 1.5);
        let other: Vec<f64> = gaps.iter().rev().map(|gap| gap * scale).collect();
        prop_assert!((of(&other) - rho).abs() < 1e-9);
    }

    #[test]
    fn hardness_is_around_1_and_grows_with_the_distance(
        distances in prop::collection::vec(0.0f64..1.4, 1..9),
    ) {
        let all = hardness(&distances).expect("distances");
        for (one, of_one) in distances.iter().zip(&all) {
            prop_assert!(*of_one > 0.5 && *of_one < 2.0);
            for (other, of_other) in distances.iter().zip(&all) {
                prop_assert!((one <= other) || of_one >= of_other);
            }
        }
    }
}

#[test]
fn hardness_equals_the_equations() {
    let Catalogue { neighbors, text, image, vectors, distributions, pairs, distances, hardness: expected } =
        golden().catalogue;
    let vector = |(text, image): (&Vec<f64>, &Option<Vec<f64>>)| item_vector(text, image.as_deref());
    let items: Vec<Vec<f64>> = text.iter().zip(&image).map(vector).collect::<Result<_, _>>().expect("finite");
    let found = Neighborhoods::new(&items, neighbors).expect("a catalogue");
    for (item, (vector, distribution)) in vectors.iter().zip(&distributions).enumerate() {
        assert_close(&items[item], vector, "vector");
        assert_close(found.distribution(item).expect("an item"), distribution, "distribution");
    }
    let of_pairs: Vec<f64> =
        pairs.iter().map(|items| found.distance(items)).collect::<Result<_, _>>().expect("items");
    assert_close(&of_pairs, &distances, "distance");
    assert_close(&hardness(&of_pairs).expect("distances"), &expected, "hardness");
    assert!(image.iter().any(Option::is_none) && pairs.iter().any(|items| items.len() > 1));
}

#[test]
fn hardness_of_what_cannot_be_compared_is_an_error() {
    assert!(matches!(item_vector(&[], None), Err(HardnessError::Empty { .. })));
    let error = item_vector(&[1.0, 2.0], Some(&[1.0])).expect_err("two lengths");
    assert_eq!(error.to_string(), "the vector of the image has 1 numbers; expected 2");
    let error = item_vector(&[1.0, f64::NAN], None).expect_err("no number");
    assert_eq!(error.to_string(), "each number of the vector of the text must be finite, not NaN");
    assert_eq!(item_vector(&[0.0, 0.0], None), Ok(vec![0.0, 0.0]));
    assert_eq!(item_vector(&[1e-320, 0.0], Some(&[1e300, 0.0])), Ok(vec![1.0, 0.0]));

    let items = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 1.0]];
    for neighbors in [0, 3, usize::MAX] {
        let error = Neighborhoods::new(&items, neighbors).expect_err("too many or none");
        assert!(matches!(error, HardnessError::Neighbors { items: 3, .. }), "{error}");
    }
    let ragged = [items.clone(), vec![vec![1.0]]].concat();
    let error = Neighborhoods::new(&ragged, 2).expect_err("another length").to_string();
    assert!(error.contains("item 3"), "{error}");
    let found = Neighborhoods::new(&items, 2).expect("a catalogue");
    assert!(matches!(found.distance(&[(0, 3)]), Err(HardnessError::NoItem { items: 3, found: 3 })));
    assert!(matches!(found.distance(&[]), Err(HardnessError::Nothing { .. })));
    assert_eq!(found.distance(&[(1, 1)]), Ok(0.0));
    assert_eq!(found.distribution(3), None);
    for distances in [&[][..], &[-1.0], &[f64::INFINITY]] {
        hardness(distances).expect_err("no distance");
    }
}

fn config() -> DpoConfig {
    DpoConfig::default()
        .with_learning_rate(0.02)
        .with_warmup_ratio(0.0)
        .with_batch_size(5)
        .with_responsiveness(true)
}

fn steps(config: DpoConfig, pairs: Vec<PreferencePair>) -> Result<Vec<StepMetrics>, DpoError> {
    let mut steps = Vec::new();
    let trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None)?;
    trainer.train(pairs, &mut |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        Control::Continue
    })?;
    Ok(steps)
}

/// The first step has no gaps. Later ones differ from those without responsiveness.
#[test]
fn responsiveness_changes_all_steps_but_the_first() {
    let with = steps(config(), pairs()).expect("trained");
    let without = steps(config().with_responsiveness(false), pairs()).expect("trained");
    assert_eq!((with.len(), with[0].loss), (without.len(), without[0].loss));
    for (with, without) in with.iter().zip(&without).skip(1) {
        assert!((with.rewards_margins - without.rewards_margins).abs() > 1e-6, "{with:?} {without:?}");
    }
}

#[test]
fn too_few_pairs_are_an_error() {
    let error = steps(config(), pairs().split_off(8)).expect_err("two pairs");
    assert!(matches!(error, DpoError::Setting { key: "responsiveness", .. }), "{error}");
    // a last batch of two pairs has a responsiveness of 1
    steps(config().with_batch_size(4), pairs()).expect("trained");
}
