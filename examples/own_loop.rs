//! Uses the DPO loss in a custom training loop, without bpo's trainer. The model is one linear
//! layer.
//!
//! ```sh
//! cargo run -p bpo-examples --example own_loop
//! ```

use bpo::burn::module::Module;
use bpo::burn::nn::{Linear, LinearConfig};
use bpo::burn::optim::{AdamWConfig, GradientsParams};
use bpo::burn::tensor::activation::log_softmax;
use bpo::burn::tensor::{Device, Int, Tensor};
use bpo::dpo::loss::{Loss, Objective, PairLogps, PerPair};

/// Log-probability of each answer token given its features: `[pairs, features]` and `[pairs]` to
/// `[pairs]`.
fn logps(model: &Linear, features: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(model.forward(features), 1).gather(1, answers.unsqueeze_dim(1)).squeeze_dim::<1>(1)
}

fn main() {
    let device = Device::flex().autodiff();
    let mut policy = LinearConfig::new(4, 8).init(&device);
    let reference = policy.valid();
    let features = || Tensor::<2>::from_floats([[1.0, 0.0, 0.5, -1.0], [0.0, 1.0, -0.5, 2.0]], &device);
    let (chosen, rejected) =
        (|| Tensor::<1, Int>::from_ints([3, 5], &device), || Tensor::<1, Int>::from_ints([1, 2], &device));

    // the reference never changes and needs no autodiff
    let plain = PairLogps::new(
        logps(&reference, features().inner(), chosen().inner()),
        logps(&reference, features().inner(), rejected().inner()),
    );
    // any other loss works as well
    let objective = Objective::new(Loss::default(), 0.5);
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..50 {
        let pairs =
            PairLogps::new(logps(&policy, features(), chosen()), logps(&policy, features(), rejected()));
        let output = objective.forward(&pairs, Some(&plain), &PerPair::default());
        let margin = output.rewards.margins().mean().into_scalar::<f32>();
        let loss = output.losses.mean();
        if step % 10 == 0 {
            println!(
                "step {step:2}  loss {:.4}  reward margin {margin:.4}",
                loss.clone().into_scalar::<f32>()
            );
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &policy);
        policy = optimizer.step(0.02, policy, gradients);
    }
}
