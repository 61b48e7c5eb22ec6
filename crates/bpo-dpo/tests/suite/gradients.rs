//! Clipping by the norm of all gradients.

use bpo_dpo::{clip_global_norm, global_norm};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::toy::Toy;

/// Gradients of three parameters, all elements of each equal.
fn gradients(toy: &Toy, values: [f32; 3]) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    let parameters = [&toy.projector.weight, &toy.head.lora_a, &toy.head.lora_b];
    for (parameter, value) in parameters.into_iter().zip(values) {
        gradients.register(parameter.id, Tensor::<2>::full(parameter.shape(), value, &Device::flex()));
    }
    gradients
}

fn first(toy: &Toy, gradients: &GradientsParams) -> [f32; 3] {
    [&toy.projector.weight, &toy.head.lora_a, &toy.head.lora_b].map(|parameter| {
        let gradient = gradients.get::<2>(parameter.id).expect("registered");
        gradient.max().into_scalar()
    })
}

fn expected_norm(toy: &Toy, values: [f32; 3]) -> f64 {
    let parameters = [&toy.projector.weight, &toy.head.lora_a, &toy.head.lora_b];
    let squares = parameters.into_iter().zip(values);
    squares.map(|(p, value)| p.shape().num_elements() as f64 * f64::from(value).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn large_gradients_are_scaled_by_one_factor() {
    let toy = Toy::untouched();
    let values = [3.0, 0.5, 40.0];
    let norm = expected_norm(&toy, values);
    let (clipped, found) = clip_global_norm(&toy, gradients(&toy, values), 1.5).expect("a norm");
    assert!((found / norm - 1.0).abs() < 1e-6, "{found}, expected {norm}");
    for (found, value) in first(&toy, &clipped).into_iter().zip(values) {
        let expected = f64::from(value) * 1.5 / (norm + 1e-6);
        assert!((f64::from(found) / expected - 1.0).abs() < 1e-6, "{found}, expected {expected}");
    }
    let after = global_norm(&toy, &clipped).expect("a norm");
    assert!((after - 1.5).abs() < 1e-5, "{after}");
}

#[test]
fn small_gradients_and_no_limit_leave_gradients_unchanged() {
    let toy = Toy::untouched();
    let values = [0.01, 0.02, 0.03];
    for limit in [1.0, 0.0] {
        let (clipped, norm) = clip_global_norm(&toy, gradients(&toy, values), limit).expect("a norm");
        assert_eq!(first(&toy, &clipped), values);
        assert!((norm / expected_norm(&toy, values) - 1.0).abs() < 1e-6);
    }
}

#[test]
fn norm_of_non_finite_gradients_is_not_finite() {
    let toy = Toy::untouched();
    for bad in [f32::NAN, f32::INFINITY] {
        let (_, norm) = clip_global_norm(&toy, gradients(&toy, [1.0, bad, 1.0]), 1.0).expect("a norm");
        assert!(!norm.is_finite(), "{norm}");
    }
    assert_eq!(global_norm(&toy, &GradientsParams::new()).expect("a norm"), 0.0);
}
