//! The losses against TRL's own values and against their equation.

use std::env;
use std::fs;
use std::path::PathBuf;

use bpo_dpo::logps::{PairLengths, PairLogps, PairRows};
use bpo_dpo::loss::{Loss, Term, sft_loss, sigmoid_loss};
use bpo_dpo::policy::TokenLogps;
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Golden {
    beta_default: f64,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    settings: Map<String, Value>,
    #[serde(flatten)]
    values: Map<String, Value>,
}

impl Row {
    fn values(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.values[name].clone()).expect("an array of numbers")
    }

    fn logps(&self, model: &str) -> PairLogps {
        let tensor = |name: String| {
            let values: Vec<f32> = self.values(&name).into_iter().map(|value| value as f32).collect();
            Tensor::from_floats(values.as_slice(), &Device::flex())
        };
        PairLogps::new(tensor(format!("{model}_chosen")), tensor(format!("{model}_rejected")))
    }

    /// Whether it has the plain sigmoid loss: the settings are those that this crate has so far.
    fn is_sigmoid(&self) -> bool {
        let known = ["loss_type", "beta", "label_smoothing"];
        self.settings["loss_type"] == serde_json::json!(["sigmoid"])
            && self.settings.keys().all(|key| known.contains(&key.as_str()))
    }
}

fn golden() -> Golden {
    let root = env::var_os("BPO_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../bpo-model/tests/golden")),
        PathBuf::from,
    );
    let path = root.join("trl/losses.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("the golden table")
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / expected.abs().max(1e-3);
        assert!(error < 1e-5, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn sigmoid_equals_trl() {
    let golden = golden();
    let rows: Vec<&Row> = golden.rows.iter().filter(|row| row.is_sigmoid()).collect();
    assert!(rows.len() >= 4, "the default, one with smoothing, two with another beta");
    for row in rows {
        let beta =
            row.settings.get("beta").map_or(golden.beta_default, |beta| beta.as_f64().expect("a number"));
        // TRL ignores label smoothing for this loss, so the expected values are those without
        let output = Loss::default().forward(&row.logps("policy"), &row.logps("ref"), beta);
        let what = format!("{:?}", row.settings);
        assert_close(&values(output.losses.clone()), &row.values("per_sequence_loss"), &what);
        assert_close(&values(output.losses.mean()), &[row.values["loss"].as_f64().expect("a number")], &what);
        // TRL's rewards are always at the beta of the row
        assert_close(&values(output.chosen_rewards), &row.values("reward_chosen"), &what);
        assert_close(&values(output.rejected_rewards), &row.values("reward_rejected"), &what);
    }
}

fn in_f64(values: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F64))
}

const CHOSEN: [f64; 5] = [-3.0, -40.0, -7.5, -100.0, -1.0];
const REJECTED: [f64; 5] = [-5.0, -31.0, -7.5, -400.0, -90.0];

fn reference(device: &Device) -> PairLogps {
    PairLogps::new(
        in_f64(&[-4.0, -38.0, -7.5, -101.0, -60.0], device),
        in_f64(&[-4.5, -36.0, -7.5, -350.0, -2.0], device),
    )
}

/// The equation of the documentation, in f64.
fn equation(chosen: &[f64], rejected: &[f64], beta: f64, smoothing: f64) -> Vec<f64> {
    let reference = reference(&Device::flex());
    let (ref_chosen, ref_rejected) = (values(reference.chosen), values(reference.rejected));
    let log_sigmoid = |x: f64| if x > 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() };
    (0..chosen.len())
        .map(|i| beta * ((chosen[i] - ref_chosen[i]) - (rejected[i] - ref_rejected[i])))
        .map(|h| -(1.0 - smoothing) * log_sigmoid(h) - smoothing * log_sigmoid(-h))
        .collect()
}

#[test]
fn smoothing_follows_the_equation() {
    let device = Device::flex();
    let policy = PairLogps::new(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    for (beta, smoothing) in [(0.1, 0.0), (0.1, 0.1), (0.5, 0.3), (2.0, 0.49)] {
        let loss = Loss::Sigmoid { label_smoothing: smoothing };
        let output = loss.forward(&policy, &reference(&device), beta);
        assert_close(&values(output.losses), &equation(&CHOSEN, &REJECTED, beta, smoothing), "smoothing");
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let device = Device::flex().autodiff();
    for (beta, smoothing) in [(0.1, 0.0), (0.1, 0.2), (0.5, 0.1)] {
        let policy = PairLogps::new(
            in_f64(&CHOSEN, &device).require_grad(),
            in_f64(&REJECTED, &device).require_grad(),
        );
        let output = sigmoid_loss(&policy, &reference(&Device::flex()), beta, smoothing);
        let gradients = output.losses.mean().backward();
        let of_chosen = values(policy.chosen.grad(&gradients).expect("a gradient"));
        let of_rejected = values(policy.rejected.grad(&gradients).expect("a gradient"));

        let mean = |chosen: &[f64], rejected: &[f64]| {
            equation(chosen, rejected, beta, smoothing).iter().sum::<f64>() / chosen.len() as f64
        };
        let moved = |values: &[f64; 5], at: usize, by: f64| {
            let mut values = *values;
            values[at] += by;
            values
        };
        let step = 1e-5;
        for at in 0..CHOSEN.len() {
            let up = mean(&moved(&CHOSEN, at, step), &REJECTED);
            let expected = (up - mean(&moved(&CHOSEN, at, -step), &REJECTED)) / (2.0 * step);
            assert!((of_chosen[at] - expected).abs() < 1e-8, "{} {expected}", of_chosen[at]);
            let up = mean(&CHOSEN, &moved(&REJECTED, at, step));
            let expected = (up - mean(&CHOSEN, &moved(&REJECTED, at, -step))) / (2.0 * step);
            assert!((of_rejected[at] - expected).abs() < 1e-8, "{} {expected}", of_rejected[at]);
        }
    }
}

#[test]
fn extreme_margins_stay_finite() {
    let device = Device::flex().autodiff();
    let zeros = || Tensor::zeros([2], &device);
    let chosen = Tensor::from_floats([-1e6, 0.0], &device).require_grad();
    let policy = PairLogps::new(chosen.clone(), Tensor::from_floats([0.0, -1e6], &device));
    let output = sigmoid_loss(&policy, &PairLogps::new(zeros(), zeros()), 1.0, 0.1);
    let gradients = output.losses.clone().sum().backward();
    assert_eq!(values(output.losses), [0.9 * 1e6, 0.1 * 1e6].map(|x: f64| f64::from(x as f32)));
    assert_close(&values(chosen.grad(&gradients).expect("a gradient")), &[-0.9, 0.1], "gradient");
}

#[test]
fn rewards_carry_no_tape() {
    let device = Device::flex().autodiff();
    let tracked = || Tensor::<1>::ones([3], &device).require_grad();
    let policy = PairLogps::new(tracked(), tracked());
    let reference = PairLogps::new(tracked(), tracked());
    let output = sigmoid_loss(&policy, &reference, 0.1, 0.0);
    assert!(output.losses.is_tracked());
    assert!(!output.chosen_rewards.is_autodiff() && !output.rejected_rewards.is_autodiff());
}

#[test]
fn an_untouched_policy_has_the_loss_it_should() {
    let logps = PairLogps::new(in_f64(&CHOSEN, &Device::flex()), in_f64(&REJECTED, &Device::flex()));
    for loss in [Loss::default(), Loss::Sigmoid { label_smoothing: 0.2 }] {
        let output = loss.forward(&logps, &logps, 0.1);
        assert_close(&values(output.losses), &[loss.at_reference().expect("known"); 5], "at the reference");
    }
}

/// Numbers of tokens that are not all the same.
fn with_lengths(logps: PairLogps) -> PairLogps {
    let lengths = |values: &[f64]| in_f64(values, &Device::flex());
    let chosen = lengths(&[3.0, 20.0, 1.0, 40.0, 2.0]);
    PairLogps { lengths: Some(PairLengths { chosen, rejected: lengths(&[1.0; 5]) }), ..logps }
}

#[test]
fn the_likelihood_of_chosen_answers_is_a_loss() {
    let device = Device::flex().autodiff();
    let chosen = in_f64(&CHOSEN, &device).require_grad();
    let policy = with_lengths(PairLogps::new(chosen.clone(), in_f64(&REJECTED, &device)));
    let output = sft_loss(&policy, &reference(&Device::flex()), 0.1);
    let expected = [1.0, 2.0, 7.5, 2.5, 0.5];
    assert_close(&values(output.losses.clone()), &expected, "nats a token");
    let gradients = output.losses.sum().backward();
    let expected = [3.0, 20.0, 1.0, 40.0, 2.0].map(|length: f64| -1.0 / length);
    assert_close(&values(chosen.grad(&gradients).expect("a gradient")), &expected, "gradient");
    assert_eq!(Loss::Sft.at_reference(), None);
}

#[test]
fn sums_weigh_their_terms() {
    let logps =
        || with_lengths(PairLogps::new(in_f64(&CHOSEN, &Device::flex()), in_f64(&REJECTED, &Device::flex())));
    let (policy, reference) = (logps(), reference(&Device::flex()));
    let of = |loss: &Loss| values(loss.forward(&policy, &reference, 0.1).losses);
    let expected: Vec<f64> =
        of(&Loss::default()).iter().zip(of(&Loss::Sft)).map(|(sigmoid, sft)| sigmoid + 0.5 * sft).collect();
    let sum = Loss::sigmoid_with_sft(0.5);
    assert_close(&of(&sum), &expected, "sum");
    let text = serde_json::to_string(&sum).expect("a loss is JSON");
    assert_eq!(serde_json::from_str::<Loss>(&text).expect("its own text"), sum);
    let nothing = Loss::Sum { terms: Vec::new() };
    assert!(nothing.validate().is_err());
    assert_eq!(of(&nothing), [0.0; 5]);
    let broken = Term { weight: 1.0, loss: Loss::Sigmoid { label_smoothing: 2.0 } };
    assert!(Loss::Sum { terms: vec![broken] }.validate().is_err());
    let known = Loss::Sum { terms: vec![Term { weight: 0.8, loss: Loss::default() }] };
    assert_close(
        &[known.at_reference().expect("known")],
        &[0.8 * std::f64::consts::LN_2],
        "at the reference",
    );
}

#[test]
fn lengths_are_those_of_the_mask() {
    let device = Device::flex().autodiff();
    let tokens = TokenLogps {
        logps: Tensor::from_floats([[-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0]], &device),
        mask: Tensor::from_data([[true, true, false], [true, false, false]], &device),
    };
    let logps = PairLogps::of_tokens(&tokens, &PairRows { chosen: vec![0], rejected: vec![1] });
    assert_eq!((values(logps.chosen), values(logps.rejected)), (vec![-3.0], vec![-3.0]));
    let lengths = logps.lengths.expect("lengths");
    assert!(!lengths.chosen.is_autodiff());
    assert_eq!((values(lengths.chosen), values(lengths.rejected)), (vec![2.0], vec![1.0]));
}

#[test]
fn pairs_share_completions() {
    let sums = Tensor::from_floats([1.0, 2.0, 3.0], &Device::flex());
    let rows = PairRows { chosen: vec![0, 0], rejected: vec![2, 1] };
    let logps = PairLogps::select(sums, &rows);
    assert_eq!(values(logps.chosen), [1.0, 1.0]);
    assert_eq!(values(logps.rejected), [3.0, 2.0]);
}

#[test]
fn losses_are_named_by_their_type() {
    let parse = |text: &str| serde_json::from_str::<Loss>(text);
    assert_eq!(parse(r#"{"type": "sigmoid"}"#).expect("valid"), Loss::default());
    let smoothed = parse(r#"{"type": "sigmoid", "label_smoothing": 0.1}"#).expect("valid");
    assert_eq!(smoothed, Loss::Sigmoid { label_smoothing: 0.1 });
    assert!(parse(r#"{"type": "sigmoid", "smoothing": 0.1}"#).is_err());
    assert!(parse(r#"{"type": "none"}"#).is_err());
    assert!(Loss::Sigmoid { label_smoothing: 0.5 }.validate().is_err());
    assert!(Loss::Sigmoid { label_smoothing: f64::NAN }.validate().is_err());
}
