//! A base model in 8 bits under adapters, for each family. `bpo-cli`'s test `quantized` measures
//! accuracy and memory on a larger model.

use bpo_model::{Adapters, LoadOptions, Vlm};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::quantization::{QuantScheme, QuantValue, ScaleDtype};
use burn::tensor::{Device, Tensor};

use super::case::{Loaded, cases, each_checkpoint};
use super::training::{Moved, adapted, lora, measured};
use super::{batch, sums};

/// Largest mean error of a completion, in nats, as in `bpo-cli`'s test.
const NATS: f64 = 0.1;

/// Quantizes the linears of the language model and the vision tower, and counts them.
#[derive(Default)]
struct Quantize {
    path: Vec<(String, bool)>,
    language_model: usize,
    vision_tower: usize,
}

impl ModuleMapper for Quantize {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container == "Struct:Linear"));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let in_linear = self.path.last().is_some_and(|(_, linear)| *linear);
        let part = self.path.first().map_or("", |(name, _)| name);
        let count = match part {
            "language_model" => &mut self.language_model,
            "vision_tower" => &mut self.vision_tower,
            _ => return param,
        };
        if D != 2 || !in_linear {
            return param;
        }
        *count += 1;
        // flex needs whole blocks
        let inputs = param.lazy_shape()[0];
        let block = [32, 16, 8, 4, 2].into_iter().find(|block| inputs.is_multiple_of(*block)).unwrap_or(1);
        let scheme =
            QuantScheme::default().with_value(QuantValue::Q8S).per_block([block as u8, 1], ScaleDtype::F32);
        param.map(|weight| weight.quantize_dynamic(&scheme))
    }
}

/// Only flex can quantize, so the test runs there whatever the device of the other tests is.
#[test]
fn a_quantized_base_scores_and_trains() {
    each_checkpoint(|checkpoint| {
        let name = &checkpoint.name;
        let processor = checkpoint.processor();
        let model =
            Vlm::from_pretrained(checkpoint.path(), &LoadOptions::default(), &Device::flex()).unwrap();
        let mut loaded = Loaded { model, processor };
        let batch = batch(&loaded, &cases(checkpoint));
        let plain = sums(&loaded.model, &batch, Adapters::On);
        let mut quantize = Quantize::default();
        loaded.model = loaded.model.map(&mut quantize);
        assert!(quantize.language_model > 0 && quantize.vision_tower > 0, "{name}");

        let found = sums(&loaded.model, &batch, Adapters::On);
        assert_ne!(found, plain, "{name}");
        let off = plain.iter().zip(&found).map(|(one, other)| (one - other).abs()).sum::<f64>();
        assert!(off / (plain.len() as f64) < NATS, "{name}: {plain:?}, {found:?}");

        // a step along the gradient
        let policy = adapted(&loaded, &lora());
        let (before, gradients) = measured(&policy, &batch);
        let squares = gradients.values().flat_map(|data| data.iter::<f32>()).map(|x| f64::from(x).powi(2));
        let length = squares.sum::<f64>().sqrt();
        assert!(length.is_finite() && length > 0.0, "{name}: {length}");
        let (step, path) = (2e-3, Vec::new());
        let mut moved = Moved { path, gradients: &gradients, factor: (step / length) as f32 };
        let gained = measured(&policy.map(&mut moved), &batch).0 - before;
        assert!((gained / step - length).abs() < 0.05 * length, "{name}: {gained}, {length}");
    });
}
