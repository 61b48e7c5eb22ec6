//! A linear layer with an optional adapter in factored form.

use burn::module::{LoraAdapter, Module, Param};
use burn::tensor::{DType, Distribution, Tensor};

use super::Adapters;
use super::noise::FactorNoise;
use crate::checkpoint::WeightLoader;
use crate::kernels::{adapted, is_single, product};

/// `y = x W + b`, and with an adapter on `W`: `y = x W + b + (s x A) B`.
///
/// burn's own LoRA computes `W + s A B` first, which costs a second copy of `W` and a dense
/// gradient. The two are equal in exact arithmetic. The factors are in f32 whatever the type of
/// `W`, because half precision loses the updates of a usual learning rate; they are multiplied in
/// the type of `x`. `A` and `B` are burn's [`LoraAdapter`](burn::module::LoraAdapter), so burn's
/// tools for adapters work.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_in, d_out]`
    pub weight: Param<Tensor<2>>,
    /// `[d_out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// Dropout of the adapter's input: see
    /// [`LoraConfig::lora_dropout`](super::LoraConfig::lora_dropout). It has no effect without an
    /// adapter.
    #[module(skip)]
    pub dropout: f64,
    /// Noise on the adapter, in one forward pass in training.
    #[module(skip)]
    pub(crate) noise: Option<Box<FactorNoise>>,
}

impl Linear {
    /// Loads `{name}.weight` (stored as `[d_out, d_in]`) and, with `bias`, `{name}.bias`.
    pub(crate) fn load(
        weights: &mut WeightLoader,
        name: &str,
        d_in: usize,
        d_out: usize,
        bias: bool,
    ) -> Self {
        let weight = weights.tensor(&format!("{name}.weight"), [d_out, d_in]).transpose();
        Self {
            weight: Param::from_tensor(weight).set_require_grad(false),
            bias: bias.then(|| weights.param(&format!("{name}.bias"), [d_out])),
            dropout: 0.0,
            noise: None,
        }
    }

    /// Creates a frozen linear with a weight `[d_in, d_out]` and without bias.
    pub(crate) fn frozen(weight: Tensor<2>) -> Self {
        let weight = Param::from_tensor(weight).set_require_grad(false);
        Self { weight, bias: None, dropout: 0.0, noise: None }
    }

    /// Copies the linear into new parameters that require gradients, in f32 as adapters are.
    pub(crate) fn trainable(self) -> Self {
        Self {
            weight: Param::from_tensor(self.weight.base().cast(DType::F32)),
            bias: self.bias.map(|bias| Param::from_tensor(bias.val().cast(DType::F32))),
            dropout: self.dropout,
            noise: None,
        }
    }

    /// Applies the layer. Dropout is applied on devices with autodiff only, where models are
    /// trained.
    ///
    /// # Shapes
    /// - `x`: `[..., d_in]`
    /// - output: `[..., d_out]`
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>, adapters: Adapters) -> Tensor<D> {
        let weight = self.weight.base();
        let y = match self.weight.adapter().filter(|_| adapters == Adapters::On) {
            None => product(x, weight),
            Some(lora) => self.adapted(x, weight, lora),
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    fn adapted<const D: usize>(&self, x: Tensor<D>, weight: Tensor<2>, lora: &LoraAdapter) -> Tensor<D> {
        let factors = [&lora.a, &lora.b].map(|factor| factor.val());
        let factors = self.noise.iter().fold(factors, |factors, noise| noise.add_to(factors));
        // as PEFT in mixed precision; the gradients of the factors are in f32
        let [a, b] = factors.map(|factor| factor.cast(x.dtype()));
        let scale = lora.scale;
        let drops = self.dropout > 0.0 && x.device().is_autodiff();
        if !drops && !is_single(&x) && !weight.is_require_grad() {
            return adapted(x, weight, a, b, scale);
        }
        let kept = if drops { dropped(x.clone(), self.dropout) } else { x.clone() };
        // scaled at rank width, the narrowest place
        product(x, weight) + product(product(kept, a).mul_scalar(scale), b)
    }
}

/// Sets elements to zero with probability `p`, and multiplies the others by `1 / (1 - p)`.
///
/// The device draws; the trainer sets its seed.
fn dropped<const D: usize>(x: Tensor<D>, p: f64) -> Tensor<D> {
    let keep = 1.0 - p;
    let kept = x.random_like(Distribution::Bernoulli(keep)).div_scalar(keep);
    x * kept
}

#[cfg(test)]
mod tests {
    use burn::module::Reparameterizer;
    use burn::tensor::{Device, FloatDType};

    use super::*;

    /// Attaches two identities, so that the adapter adds its input.
    struct Identity;

    impl Reparameterizer for Identity {
        type Reparam = LoraAdapter;

        fn reparameterize<const D: usize>(
            &mut self,
            path: &str,
            param: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
            let [a, b] = [(); 2].map(|()| Param::from_tensor(Tensor::eye(WIDTH, &Device::flex())));
            (param, (path == "weight").then_some(LoraAdapter { a, b, scale: 1.0 }))
        }
    }

    const WIDTH: usize = 8;

    /// The difference that the adapter makes for rows of ones.
    fn added(linear: &Linear, device: &Device, adapters: Adapters) -> Vec<f32> {
        let ones: Tensor<2> = Tensor::ones([500, WIDTH], device);
        let on = linear.forward(ones.clone(), adapters);
        let off = linear.forward(ones, Adapters::Off);
        (on - off).into_data().try_into_vec().unwrap()
    }

    #[test]
    fn dropout_is_of_the_adapters_input_in_training_alone() {
        let plain = Device::flex();
        let mut weights = WeightLoader::random(1, FloatDType::F32, &plain);
        let adapted = |dropout| {
            let linear = Linear { dropout, ..Linear::load(&mut weights, "x", WIDTH, WIDTH, true) };
            linear.apply_reparameterization(Identity).train()
        };
        let [all, some] = [0.0, 0.25].map(adapted);
        let near = |value: f32, expected: f32| (value - expected).abs() < 1e-5;
        let training = plain.clone().autodiff();
        assert!(added(&all, &training, Adapters::On).iter().all(|one| near(*one, 1.0)));

        let values = added(&some, &training, Adapters::On);
        assert!(values.iter().all(|value| near(*value, 0.0) || near(*value, 1.0 / 0.75)));
        let kept = values.iter().filter(|value| !near(**value, 0.0)).count() as f64 / values.len() as f64;
        // 4000 draws: seven standard deviations
        assert!((kept - 0.75).abs() < 0.05, "{kept}");
        // single elements are dropped, not whole rows or columns
        let row = |i: usize| &values[i * WIDTH..(i + 1) * WIDTH];
        assert!((1..500).any(|i| row(i) != row(0)));
        assert!((0..500).any(|i| row(i).iter().any(|value| !near(*value, row(i)[0]))));

        assert!(added(&some, &training, Adapters::Off).iter().all(|value| *value == 0.0));
        assert!(added(&some.valid(), &plain, Adapters::On).iter().all(|one| near(*one, 1.0)));
    }
}
