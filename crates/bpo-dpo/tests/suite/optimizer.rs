//! AdamW by path: its arithmetic, its groups and its state.

use bpo_dpo::{DpoConfig, DpoError, LrGroup, PathOptimizer, load_trainable, save_trainable, trainable_paths};
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::toy::Toy;

#[derive(Module, Debug)]
struct Matrix {
    weight: Param<Tensor<2>>,
}

const SHAPE: [usize; 2] = [2, 3];
const START: [f64; 6] = [0.5, -1.0, 2.0, 0.0, 1e-3, -0.25];

fn matrix() -> Matrix {
    let values: Vec<f32> = START.iter().map(|&value| value as f32).collect();
    let device = Device::flex().autodiff();
    Matrix { weight: Param::from_data(TensorData::new(values, SHAPE), &device) }
}

/// Gradients of every size and sign.
fn gradient(step: usize) -> [f64; 6] {
    std::array::from_fn(|i| ((step * 6 + i) as f64).sin() * 10f64.powi(i as i32 - 3))
}

fn given(module: &Matrix, values: [f64; 6]) -> GradientsParams {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let mut gradients = GradientsParams::new();
    let tensor = Tensor::<2>::from_data(TensorData::new(values, SHAPE), &Device::flex());
    gradients.register(module.weight.id, tensor);
    gradients
}

fn weights(module: &Matrix) -> Vec<f64> {
    module.weight.val().into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

/// `torch.optim.AdamW` for one element, in f64.
fn torch_adamw(mut weight: f64, gradients: impl Iterator<Item = f64>, lr: f64, decay: f64) -> f64 {
    let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-8);
    let (mut first, mut second) = (0.0, 0.0);
    for (gradient, step) in gradients.zip(1..) {
        weight *= 1.0 - lr * decay;
        first = beta_1 * first + (1.0 - beta_1) * gradient;
        second = beta_2 * second + (1.0 - beta_2) * gradient * gradient;
        let denominator = (second / (1.0 - f64::powi(beta_2, step))).sqrt() + epsilon;
        weight -= lr / (1.0 - f64::powi(beta_1, step)) * first / denominator;
    }
    weight
}

#[test]
fn step_equals_torch() {
    for decay in [0.0, 0.1] {
        let config = DpoConfig::default().with_weight_decay(decay);
        let mut optimizer = PathOptimizer::new(&config.adamw(), 0.01, Vec::new());
        let mut module = matrix();
        for step in 0..20 {
            let gradients = given(&module, gradient(step));
            module = optimizer.step(module, gradients, 1.0);
        }
        for (at, found) in weights(&module).into_iter().enumerate() {
            let expected = torch_adamw(START[at], (0..20).map(|step| gradient(step)[at]), 0.01, decay);
            let moved = (expected - START[at]).abs();
            assert!((found - expected).abs() < 1e-4 * moved + 1e-7, "{at}: {found}, expected {expected}");
        }
    }
}

#[derive(Module, Debug)]
struct Layers {
    linear: Linear,
    layer: LayerNorm,
    rms: RmsNorm,
}

/// Without a gradient's pull, what is left of each parameter is what decay leaves.
#[test]
fn biases_and_norms_do_not_decay() {
    let device = Device::flex().autodiff();
    let layers = Layers {
        linear: LinearConfig::new(2, 3).init(&device),
        layer: LayerNormConfig::new(2).init(&device),
        rms: RmsNormConfig::new(2).init(&device),
    };
    let ones = |shape: [usize; 1]| Param::from_tensor(Tensor::<1>::ones(shape, &device));
    let mut layers = layers;
    layers.linear.bias = Some(ones([3]));
    layers.layer.beta = Some(ones([2]));
    let config = DpoConfig::default().with_weight_decay(0.5);
    let mut optimizer = PathOptimizer::new(&config.adamw(), 0.1, Vec::new());
    let before = layers.linear.weight.val().into_data();
    for _ in 0..2 {
        let sum = layers.linear.weight.val().sum()
            + layers.linear.bias.as_ref().expect("a bias").val().sum()
            + layers.layer.gamma.val().sum()
            + layers.layer.beta.as_ref().expect("a bias").val().sum()
            + layers.rms.gamma.val().sum();
        let gradients = GradientsParams::from_grads((sum * 0.0).backward(), &layers);
        layers = optimizer.step(layers, gradients, 1.0);
    }
    let kept = 0.95f32 * 0.95;
    let expected: Vec<f32> = before.iter::<f32>().map(|value| value * kept).collect();
    let found: Vec<f32> = layers.linear.weight.val().into_data().iter().collect();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    let Layers { linear, layer, rms } = layers;
    let others = [linear.bias, Some(layer.gamma), layer.beta, Some(rms.gamma)];
    for values in others.into_iter().flatten().map(|param| param.val().into_data()) {
        assert!(values.iter::<f32>().all(|value| value == 1.0), "{values}");
    }
}

#[test]
fn updated_parameters_are_leaves_that_require_a_gradient() {
    let mut optimizer = PathOptimizer::new(&DpoConfig::default().adamw(), 0.01, Vec::new());
    let module = matrix();
    let gradients = given(&module, gradient(0));
    let module = optimizer.step(module, gradients, 1.0);
    assert!(module.weight.is_require_grad());
    let gradients = module.weight.val().sum().backward();
    assert!(module.weight.val().grad(&gradients).is_some());
}

#[test]
fn factor_scales_the_learning_rate() {
    let moved = |rate, factor| {
        let mut optimizer = PathOptimizer::new(&DpoConfig::default().adamw(), rate, Vec::new());
        let module = matrix();
        let gradients = given(&module, gradient(1));
        weights(&optimizer.step(module, gradients, factor))
    };
    assert_eq!(moved(0.02, 0.5), moved(0.01, 1.0));
    assert_eq!(moved(0.02, 0.0), weights(&matrix()));
}

fn all_ones(toy: &Toy) -> GradientsParams {
    let sum = toy.projector.weight.val().sum() + toy.head.lora_a.val().sum() + toy.head.lora_b.val().sum();
    GradientsParams::from_grads(sum.backward(), toy)
}

fn shift(before: &Param<Tensor<2>>, after: &Param<Tensor<2>>) -> f32 {
    (before.val() - after.val()).max().into_scalar()
}

/// An update of several parameters equals an update of each alone, whichever have a gradient in a
/// step.
#[test]
fn updates_of_parameters_are_independent() {
    let new = || PathOptimizer::new(&DpoConfig::default().adamw(), 0.01, Vec::new());
    let of = |toy: &Toy, names: &str| {
        let mut gradients = GradientsParams::new();
        let sides = [("p", &toy.projector.weight), ("a", &toy.head.lora_a), ("b", &toy.head.lora_b)];
        for (_, param) in sides.iter().filter(|(name, _)| names.contains(name)) {
            gradients.register(param.id, param.val().inner().add_scalar(0.1).sin());
        }
        gradients
    };
    let steps = ["pab", "ab", "pab", "p", "", "b", "pab", "pab"];
    let (mut together, mut apart) = (Toy::adapted(), Toy::adapted());
    let mut optimizer = new();
    let mut optimizers = ["p", "a", "b"].map(|name| (name, new()));
    for (number, names) in steps.into_iter().enumerate() {
        let gradients = of(&together, names);
        together = optimizer.step(together, gradients, 1.0);
        for (name, optimizer) in optimizers.iter_mut().filter(|(name, _)| names.contains(*name)) {
            let gradients = of(&apart, name);
            apart = optimizer.step(apart, gradients, 1.0);
        }
        // also if it is written and read between two steps
        if number == 5 {
            let bytes = optimizer.to_bytes().expect("bytes");
            optimizer = new();
            optimizer.load_bytes(&together, &bytes).expect("the same parameters");
            assert_eq!(optimizer.to_bytes().expect("bytes"), bytes);
        }
    }
    assert_eq!(save_trainable(&together).expect("bytes"), save_trainable(&apart).expect("bytes"));
}

#[test]
fn group_has_its_learning_rate() {
    let group = LrGroup { path: "projector".to_owned(), learning_rate: 0.25 };
    let mut optimizer = PathOptimizer::new(&DpoConfig::default().adamw(), 0.5, vec![group]);
    let toy = Toy::untouched();
    optimizer.check_groups(&toy).expect("the projector is there");
    let gradients = all_ones(&toy);
    let stepped = optimizer.step(toy.clone(), gradients, 1.0);
    // AdamW's first step is as long as the rate
    assert!((shift(&toy.projector.weight, &stepped.projector.weight) - 0.25).abs() < 1e-4);
    assert!((shift(&toy.head.lora_a, &stepped.head.lora_a) - 0.5).abs() < 1e-4);
    assert_eq!(shift(&toy.head.weight, &stepped.head.weight), 0.0);
}

#[test]
fn group_without_parameters_is_an_error() {
    let group = LrGroup { path: "vision".to_owned(), learning_rate: 0.25 };
    let optimizer = PathOptimizer::new(&DpoConfig::default().adamw(), 0.5, vec![group]);
    let error = optimizer.check_groups(&Toy::untouched()).expect_err("no such path");
    let DpoError::EmptyGroup { group, parameters } = error else { panic!("{error}") };
    assert_eq!(group, "vision");
    assert_eq!(parameters, ["projector.weight", "head.lora_a", "head.lora_b"]);
}

#[test]
fn state_loads_into_a_new_module() {
    let new = || PathOptimizer::new(&DpoConfig::default().adamw(), 0.01, Vec::new());
    let (mut optimizer, mut toy) = (new(), Toy::adapted());
    for _ in 0..3 {
        let gradients = all_ones(&toy);
        toy = optimizer.step(toy, gradients, 1.0);
    }
    // a module built anew has other parameter ids
    let mut other = load_trainable(Toy::untouched(), &save_trainable(&toy).expect("saved")).expect("loaded");
    let mut resumed = new();
    resumed.load_bytes(&other, &optimizer.to_bytes().expect("bytes")).expect("the same parameters");
    assert_eq!(resumed.to_bytes().expect("bytes"), optimizer.to_bytes().expect("bytes"));
    for _ in 0..3 {
        let gradients = all_ones(&toy);
        toy = optimizer.step(toy, gradients, 1.0);
        let gradients = all_ones(&other);
        other = resumed.step(other, gradients, 1.0);
    }
    assert_eq!(save_trainable(&other).expect("bytes"), save_trainable(&toy).expect("bytes"));
}

#[test]
fn state_of_another_module_is_an_error() {
    let new = || PathOptimizer::new(&DpoConfig::default().adamw(), 0.01, Vec::new());
    let (mut optimizer, module) = (new(), matrix());
    let gradients = given(&module, gradient(0));
    optimizer.step(module, gradients, 1.0);
    let error =
        new().load_bytes(&Toy::untouched(), &optimizer.to_bytes().expect("bytes")).expect_err("refused");
    let DpoError::Mismatch { mismatch, .. } = error else { panic!("{error}") };
    assert_eq!(mismatch.extra, ["weight.moment_1", "weight.moment_2", "weight.time"]);
    assert!(matches!(new().load_bytes(&Toy::untouched(), b"{}"), Err(DpoError::Safetensors { .. })));
}

#[test]
fn trainable_parameters_round_trip_exactly() {
    let toy = Toy::adapted();
    assert_eq!(trainable_paths(&toy), ["projector.weight", "head.lora_a", "head.lora_b"]);
    let bytes = save_trainable(&toy).expect("bytes");
    let loaded = load_trainable(Toy::untouched(), &bytes).expect("the same parameters");
    assert_eq!(save_trainable(&loaded).expect("bytes"), bytes);
    assert!(loaded.head.lora_b.is_require_grad() && !loaded.head.weight.is_require_grad());
    assert!(trainable_paths(&toy.valid()).is_empty());
}

#[test]
fn all_mismatches_are_listed() {
    let device = Device::flex().autodiff();
    let mut toy = Toy::untouched();
    toy.embedding = toy.embedding.set_require_grad(true);
    toy.head.lora_a = Param::from_tensor(Tensor::zeros([6, 5], &device));
    toy.head.lora_b = toy.head.lora_b.set_require_grad(false);
    let bytes = save_trainable(&toy).expect("bytes");
    let error = load_trainable(Toy::untouched(), &bytes).expect_err("another module");
    let DpoError::Mismatch { mismatch, .. } = &error else { panic!("{error}") };
    assert_eq!(mismatch.missing, ["head.lora_b"]);
    assert_eq!(mismatch.extra, ["embedding"]);
    assert_eq!(mismatch.misshapen, ["head.lora_a is [6, 5] f32, not [6, 2] f32"]);
    assert!(error.to_string().contains("head.lora_a is [6, 5] f32, not [6, 2] f32"));
}
