//! Properties of the losses: gradients against finite differences, extreme values, sums and masks.

use super::*;

fn with_parts(chosen: Tensor<1>, rejected: Tensor<1>) -> PairLogps {
    let device = Device::flex();
    let lengths =
        PairLengths { chosen: in_f64(&CHOSEN_TOKENS, &device), rejected: in_f64(&REJECTED_TOKENS, &device) };
    let tails =
        PairTails { chosen: chosen.clone().mul_scalar(0.25), rejected: rejected.clone().mul_scalar(0.125) };
    let contrast = Contrasted {
        answer: rejected.clone().mul_scalar(0.75),
        images: chosen.clone().mul_scalar(1.5),
        both: (chosen.clone() + rejected.clone()).mul_scalar(0.5),
    };
    PairLogps {
        contrast: Some(contrast),
        lengths: Some(lengths),
        tails: Some(tails),
        ..PairLogps::new(chosen, rejected)
    }
}

fn reference() -> PairLogps {
    let device = Device::flex();
    with_parts(
        in_f64(&[-4.0, -38.0, -7.4, -51.0, -3.0], &device),
        in_f64(&[-4.5, -33.0, -7.5, -50.0, -17.0], &device),
    )
}

/// Every loss, with every other setting at least once.
fn objectives() -> Vec<Objective> {
    let label_smoothing = 0.1;
    let losses = [
        Loss::default(),
        Loss::Sigmoid { label_smoothing },
        Loss::SigmoidNorm { label_smoothing },
        Loss::Hinge,
        Loss::Ipo,
        Loss::ExoPair { label_smoothing },
        Loss::NcaPair,
        Loss::Robust { label_smoothing },
        Loss::BcoPair,
        Loss::SppoHard,
        Loss::Aot { label_smoothing },
        Loss::AotUnpaired { label_smoothing },
        Loss::ApoZero,
        Loss::ApoDown,
        Loss::Discopop { tau: 0.05 },
        Loss::Simpo { gamma: 0.4, label_smoothing },
        Loss::Symmpo { lambda: 0.5, consistency: 0.01 },
        Loss::Sft,
        Loss::mpo(),
    ];
    let divergences = [
        Divergence::ReverseKl,
        Divergence::ForwardKl,
        Divergence::JsDivergence,
        Divergence::AlphaDivergence { alpha: 0.4 },
        Divergence::AlphaDivergence { alpha: 1.3 },
    ];
    let mut all = Vec::new();
    for loss in losses {
        for divergence in divergences {
            all.push(Objective::new(loss.clone(), 0.3).with_divergence(divergence));
        }
        all.push(Objective::new(loss.clone(), 0.3).with_ld_alpha(Some(0.4)));
        all.push(Objective::new(loss, 0.05).with_reference_free(true));
    }
    all.retain(|objective| objective.validate().is_ok());
    all
}

fn factors() -> PerPair {
    let device = Device::flex();
    let mut factors = PerPair::default().weighted(in_f64(&[1.0, 0.5, 2.0, 0.0, 1.5], &device));
    factors.beta = Some(in_f64(&[0.1, 0.2, 0.3, 0.15, 0.06], &device));
    factors
}

#[test]
fn gradients_equal_finite_differences() {
    let plain = Device::flex();
    let device = Device::flex().autodiff();
    let step = 1e-5;
    let mut checked = 0;
    for objective in objectives() {
        for factors in [PerPair::default(), factors()] {
            let (chosen, rejected) =
                (in_f64(&CHOSEN, &device).require_grad(), in_f64(&REJECTED, &device).require_grad());
            let policy = with_parts(chosen.clone(), rejected.clone());
            let losses = objective.forward(&policy, Some(&reference()), &factors).losses;
            let gradients = losses.sum().backward();
            let loss = |chosen: &[f64], rejected: &[f64]| {
                let policy = with_parts(in_f64(chosen, &plain), in_f64(rejected, &plain));
                values(objective.forward(&policy, Some(&reference()), &factors).losses).iter().sum::<f64>()
            };
            let moved = |values: &[f64], at: usize, by: f64| {
                let mut values = values.to_vec();
                values[at] += by;
                values
            };
            let slope = |up: f64, down: f64| (up - down) / (2.0 * step);
            for at in 0..CHOSEN.len() {
                let expected = [
                    slope(
                        loss(&moved(&CHOSEN, at, step), &REJECTED),
                        loss(&moved(&CHOSEN, at, -step), &REJECTED),
                    ),
                    slope(
                        loss(&CHOSEN, &moved(&REJECTED, at, step)),
                        loss(&CHOSEN, &moved(&REJECTED, at, -step)),
                    ),
                ];
                let found = [&chosen, &rejected]
                    .map(|logps| logps.grad(&gradients).map_or(0.0, |gradient| values(gradient)[at]));
                for (found, expected) in found.into_iter().zip(expected) {
                    let error = (found - expected).abs() / expected.abs().max(1e-2);
                    assert!(error < 1e-5, "{objective:?} {at}: {found}, expected {expected}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 1000);
}

/// A NaN would be skipped by the trainer, and training would never recover from where it came from.
#[test]
fn extreme_log_probabilities_stay_finite() {
    let device = Device::flex().autodiff();
    let extreme = || Tensor::<1>::from_floats([-1e4, 0.0, -200.0, -1.0, -90.0], &device).require_grad();
    let other = || Tensor::<1>::from_floats([-0.0, -1e4, -1.0, -200.0, -0.5], &device).require_grad();
    for mut objective in objectives() {
        objective.beta = 1.0;
        let (chosen, rejected) = (extreme(), other());
        let policy = with_parts(chosen.clone(), rejected.clone());
        let reference = with_parts(chosen.clone().inner() * 0.5, rejected.clone().inner() * 0.5);
        let output = objective.forward(&policy, Some(&reference), &PerPair::default());
        let gradients = output.losses.clone().sum().backward();
        let mut all = values(output.losses);
        for logps in [&chosen, &rejected] {
            all.extend(logps.grad(&gradients).map(values).unwrap_or_default());
        }
        assert!(all.iter().all(|value| value.is_finite()), "{objective:?}: {all:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// But for the losses that sort, a pair's loss is its own.
    #[test]
    fn loss_of_a_pair_does_not_depend_on_other_pairs(
        pairs in prop::collection::vec(prop::array::uniform6(0.0..1.0), 2..6),
    ) {
        let device = Device::flex();
        let column = |at: &[usize], part: usize, least: f64, most: f64| {
            let value = |at: &usize| least + (most - least) * pairs[*at][part];
            in_f64(&at.iter().map(value).collect::<Vec<f64>>(), &device)
        };
        let batch = |at: &[usize], first: usize| PairLogps {
            lengths: Some(PairLengths { chosen: column(at, 4, 1.0, 40.0), rejected: column(at, 5, 1.0, 40.0) }),
            tails: Some(PairTails { chosen: column(at, first, -30.0, 0.0), rejected: column(at, 5, 0.0, 0.0) }),
            contrast: Some(Contrasted {
                answer: column(at, first, -40.0, -20.0),
                images: column(at, first + 1, -70.0, 0.0),
                both: column(at, 4, -60.0, 0.0),
            }),
            ..PairLogps::new(column(at, first, -60.0, 0.0), column(at, first + 1, -60.0, 0.0))
        };
        let all: Vec<usize> = (0..pairs.len()).collect();
        for objective in objectives().into_iter().filter(|objective| !objective.loss.properties().batch_wide) {
            let of = |at: &[usize]| {
                values(objective.forward(&batch(at, 0), Some(&batch(at, 2)), &PerPair::default()).losses)
            };
            let together = of(&all);
            for at in all.iter().copied() {
                prop_assert_eq!(of(&[at])[0].to_bits(), together[at].to_bits());
            }
        }
    }
}

#[test]
fn policy_equal_to_its_reference_has_zero_rewards() {
    for objective in objectives().into_iter().filter(|objective| objective.properties().reference) {
        let output = objective.forward(&reference(), Some(&reference()), &factors());
        assert_eq!(values(output.rewards.chosen), [0.0; 5], "{objective:?}");
        assert_eq!(values(output.rewards.rejected), [0.0; 5], "{objective:?}");
    }
    let output =
        Objective::new(Loss::default(), 0.1).forward(&reference(), Some(&reference()), &PerPair::default());
    assert_close(&values(output.losses), &[std::f64::consts::LN_2; 5], "ln 2");
}

#[test]
fn rewards_have_no_autodiff_tape() {
    let device = Device::flex().autodiff();
    let tracked = || Tensor::<1>::ones([5], &device).require_grad();
    for objective in objectives() {
        let (policy, reference) = (with_parts(tracked(), tracked()), with_parts(tracked(), tracked()));
        let output = objective.forward(&policy, Some(&reference), &PerPair::default());
        assert!(output.losses.is_tracked());
        assert!(!output.rewards.chosen.is_autodiff() && !output.rewards.rejected.is_autodiff());
    }
}

/// What belongs to single pairs is the same as the setting for all of them.
#[test]
fn settings_of_each_pair_equal_settings_of_all() {
    let device = Device::flex();
    let policy = with_parts(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    for objective in objectives() {
        let forward = |objective: &Objective, factors| {
            let output = objective.forward(&policy, Some(&reference()), &factors);
            [output.losses, output.rewards.chosen, output.rewards.rejected].map(values)
        };
        let beta = |beta: f64| PerPair { beta: Some(in_f64(&[beta; 5], &device)), ..PerPair::default() };
        let expected = forward(&objective, PerPair::default());
        let mut other = objective.clone();
        other.beta = 7.0;
        let found = forward(&other, beta(objective.beta));
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, &format!("{objective:?}"));
        }
    }
}

#[test]
fn margins_shift_the_minimum() {
    let device = Device::flex();
    let rewards = || Rewards::new(in_f64(&[0.5, -1.0], &device), in_f64(&[0.2, 1.0], &device));
    let logps = PairLogps::new(rewards().chosen, rewards().rejected);
    let zeros = PairLogps::new(in_f64(&[0.0; 2], &device), in_f64(&[0.0; 2], &device));
    let factors = PerPair { margin: Some(in_f64(&[0.3, -2.0], &device)), ..PerPair::default() };
    let output = Objective::new(Loss::default(), 1.0).forward(&logps, Some(&zeros), &factors);
    assert_close(&values(output.losses), &[std::f64::consts::LN_2; 2], "as far apart as they shall be");
    assert_close(&values(output.rewards.rejected), &[0.2, 1.0], "rewards are reported as they are");
    assert!(
        Loss::sigmoid_with_sft(1.0).properties().takes_margins && !Loss::mpo().properties().takes_margins
    );
    assert!(!Loss::Sft.properties().takes_margins && Loss::mdpo().properties().takes_margins);
}

#[test]
fn length_normalization_divides_rewards() {
    let device = Device::flex();
    let policy = with_parts(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    let of = |loss| {
        values(Objective::new(loss, 0.1).forward(&policy, Some(&reference()), &PerPair::default()).losses)
    };
    let expected: Vec<f64> = (0..5)
        .map(|i| {
            let ratio = |logps: &[f64; 5], reference: Tensor<1>| logps[i] - values(reference)[i];
            let margin = 0.1
                * (ratio(&CHOSEN, reference().chosen) / CHOSEN_TOKENS[i]
                    - ratio(&REJECTED, reference().rejected) / REJECTED_TOKENS[i]);
            (-margin).exp().ln_1p()
        })
        .collect();
    assert_close(&of(Loss::SigmoidNorm { label_smoothing: 0.0 }), &expected, "sigmoid_norm");
    assert_close(&of(Loss::Sft), &[1.0, 2.0, 7.5, 1.3, 0.5], "nats a token");
}

#[test]
fn sums_weight_their_terms() {
    let device = Device::flex();
    let policy = with_parts(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    let of = |loss: &Loss| {
        let objective = Objective::new(loss.clone(), 0.1);
        values(objective.forward(&policy, Some(&reference()), &PerPair::default()).losses)
    };
    let expected: Vec<f64> =
        of(&Loss::default()).iter().zip(of(&Loss::Sft)).map(|(sigmoid, sft)| sigmoid + 0.5 * sft).collect();
    let sum = Loss::sigmoid_with_sft(0.5);
    assert_close(&of(&sum), &expected, "sum");
    let nothing = Loss::Sum { terms: Vec::new() };
    assert!(nothing.validate().is_err());
    assert_eq!(of(&nothing), [0.0; 5]);
    let broken = WeightedLoss::new(1.0, Loss::Sigmoid { label_smoothing: 2.0 });
    assert!(Loss::Sum { terms: vec![broken] }.validate().is_err());
}

#[test]
fn lengths_and_tails_follow_the_mask() {
    let device = Device::flex().autodiff();
    let tokens = TokenLogps {
        logps: Tensor::from_floats([[-1.0, -2.0, -4.0], [-3.0, 0.0, 0.0], [-5.0, -6.0, 0.0]], &device),
        mask: Tensor::from_data([[true, true, true], [true, false, false], [true, true, false]], &device),
    };
    let rows = PairRows::new(vec![0, 1], vec![1, 2]);
    let logps = PairLogps::with_tails(&tokens, &rows);
    assert_eq!((values(logps.chosen), values(logps.rejected)), (vec![-7.0, -3.0], vec![-3.0, -11.0]));
    let lengths = logps.lengths.expect("lengths");
    assert!(!lengths.chosen.is_autodiff());
    assert_eq!((values(lengths.chosen), values(lengths.rejected)), (vec![3.0, 1.0], vec![1.0, 2.0]));
    let tails = logps.tails.expect("tails");
    assert_eq!((values(tails.chosen), values(tails.rejected)), (vec![-6.0, 0.0], vec![0.0, -6.0]));
}

#[test]
fn pairs_can_share_completions() {
    let sums = Tensor::from_floats([1.0, 2.0, 3.0], &Device::flex());
    let rows = PairRows::new(vec![0, 0], vec![2, 1]);
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
    for objective in objectives() {
        let value = serde_json::to_value(&objective.loss).expect("a loss is JSON");
        assert_eq!(value["type"], objective.loss.type_name());
        assert_eq!(serde_json::from_value::<Loss>(value).expect("its own text"), objective.loss);
    }
    assert!(parse(r#"{"type": "sigmoid", "smoothing": 0.1}"#).is_err());
    assert!(parse(r#"{"type": "none"}"#).is_err());
    assert_eq!("hinge".parse::<Loss>().expect("a name"), Loss::Hinge);
    assert_eq!("mpo".parse::<Loss>().expect("a name"), Loss::mpo());
    for unknown in ["sum", "dpo", ""] {
        let error = unknown.parse::<Loss>().expect_err("no loss of its own").to_string();
        assert!(error.contains("sigmoid_norm") && error.contains(unknown), "{error}");
    }
    for loss in [
        Loss::Sigmoid { label_smoothing: 0.5 },
        Loss::Sigmoid { label_smoothing: f64::NAN },
        Loss::ExoPair { label_smoothing: 0.0 },
        Loss::Discopop { tau: 0.0 },
        Loss::Simpo { gamma: f64::INFINITY, label_smoothing: 0.0 },
    ] {
        assert!(loss.validate().is_err(), "{loss:?}");
    }
}

#[test]
fn label_smoothing_equals_its_equation() {
    let device = Device::flex();
    let margins = [-400.0, -3.0, 0.0, 0.7, 90.0];
    let log_sigmoid = |x: f64| if x > 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() };
    for eps in [0.0, 0.1, 0.49] {
        let rewards = Rewards::new(in_f64(&margins, &device), in_f64(&[0.0; 5], &device));
        let expected = margins.map(|margin| -(1.0 - eps) * log_sigmoid(margin) - eps * log_sigmoid(-margin));
        assert_close(&values(sigmoid_loss(&rewards, eps)), &expected, "smoothing");
    }
}
