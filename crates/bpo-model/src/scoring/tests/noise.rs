//! Noise on adapters: where it is, and its gradients.

use std::collections::HashMap;

use burn::module::{ModuleMapper, ParamId};

use super::*;

/// Two completions of an image and a prompt.
fn batch(model: &Vlm) -> ScoreBatch {
    let answered =
        |ids: [u32; 3]| TokenizedCompletion::new([&[1, IMAGE, IMAGE, IMAGE, IMAGE, 2][..], &ids].concat(), 6);
    let groups = [(vec![0], vec![answered([5, 6, 7]), answered([8, 9, 10])])];
    ScoreBatch::new(model.config(), vec![image(0)], &groups).unwrap()
}

/// The model with noise that is the same in each pass.
fn drawn(model: &Vlm) -> Vlm {
    let mut drawn = model.clone().with_lora_noise(0.2).unwrap().perturbed(Adapters::On).unwrap();
    drawn.set_lora_noise(0.0);
    drawn
}

/// The model without noise whose factors are the sums of the factors and their noise.
fn summed(mut model: Vlm) -> Vlm {
    struct Replace(HashMap<ParamId, Tensor<2>>);
    impl ModuleMapper for Replace {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(sum) = self.0.remove(&param.id) else { return param };
            param.map(|value| sum.reshape(value.dims()).detach().require_grad())
        }
    }
    let mut sums = HashMap::new();
    for linear in model.linears_mut() {
        let Some(noise) = linear.noise.take() else { continue };
        let lora = linear.weight.adapter().unwrap();
        let [a, b] = noise.add_to([lora.a.val(), lora.b.val()]);
        sums.extend([(lora.a.id, a), (lora.b.id, b)]);
    }
    assert!(!sums.is_empty());
    model.map(&mut Replace(sums))
}

fn close(found: &[f32], expected: &[f32]) {
    let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * most, "{found}, not {expected}");
    }
}

#[test]
fn values_and_gradients_are_those_at_the_noisy_factors() {
    let model = model();
    let (batch, drawn) = (batch(&model), drawn(&model));
    let (values, gradients) = measure(&summed(drawn.clone()), &batch);
    // a layer that is computed again has the same noise
    for model in [drawn.clone(), drawn.clone().with_gradient_checkpointing(true).unwrap()] {
        let (found, slopes) = measure(&model, &batch);
        close(&found, &values);
        assert_eq!(slopes.len(), gradients.len());
        slopes.iter().zip(&gradients).for_each(|(found, expected)| close(found, expected));
    }
    // the first factors of fresh adapters have no gradient without noise on the second ones
    let of = |gradients: &[Vec<f32>]| {
        let is_zero = |gradient: &&Vec<f32>| gradient.iter().all(|value| *value == 0.0);
        gradients.iter().filter(is_zero).count()
    };
    assert!(of(&measure(&model, &batch).1) >= gradients.len() / 2 && of(&gradients) == 0);
}

#[test]
fn noise_is_of_the_policy_in_training_alone() {
    let plain = model();
    let (batch, noisy) = (batch(&plain), plain.clone().with_lora_noise(0.2).unwrap());
    let logps = |model: &Vlm, adapters| {
        let (logps, _) = model.completion_logps(&batch, adapters).unwrap();
        logps.into_data().iter::<f32>().collect::<Vec<_>>()
    };
    let without = logps(&plain, Adapters::On);
    let [one, other] = [(); 2].map(|()| logps(&noisy, Adapters::On));
    assert!(one != without && other != without && one != other, "fresh noise in each pass");
    assert_eq!(logps(&noisy, Adapters::Off), logps(&plain, Adapters::Off));
    // references, evaluations and answers are computed without autodiff
    let (valid, plain) = (noisy.valid(), plain.valid());
    for adapters in [Adapters::On, Adapters::Off] {
        assert_eq!(logps(&valid, adapters), logps(&plain, adapters));
        let logits = |model: &Vlm| {
            let ids = [1, IMAGE, IMAGE, IMAGE, IMAGE, 2, 5];
            let logits = model.logits(&ids, &[image(0)], adapters).unwrap();
            logits.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(logits(&valid), logits(&plain));
    }
}

/// A loss that compares distributions has noise in those of the policy, and none in the reference's.
#[test]
fn divergences_are_from_a_reference_without_noise() {
    let plain = model();
    let (batch, noisy) = (batch(&plain), plain.clone().with_lora_noise(0.2).unwrap());
    let reference = noisy.valid();
    let of = |model: &Vlm| {
        let found = model.completion_divergences(&batch, (&reference, Adapters::On), false).unwrap();
        [found.divergences, found.policy.logps, found.reference.logps]
            .map(|values| values.into_data().iter::<f32>().collect::<Vec<_>>())
    };
    let [without, own, of_reference] = of(&plain);
    assert!(without.iter().all(|value| value.abs() < 1e-6));
    let [one, other] = [(); 2].map(|()| of(&noisy));
    assert!(one[0] != other[0] && one[0].iter().any(|value| *value > 1e-6), "fresh noise in each pass");
    assert!(one[1] != own && one[2] == of_reference && other[2] == of_reference);
    // noise that was drawn before is that of the states and of the head
    let drawn = drawn(&plain);
    let (logps, _) = drawn.completion_logps(&batch, Adapters::On).unwrap();
    close(&of(&drawn)[1], &logps.into_data().iter::<f32>().collect::<Vec<_>>());
}

/// The mean and the standard deviation of what is drawn.
#[test]
fn noise_has_the_deviation_of_the_settings() {
    let mut drawn = drawn(&model());
    let noise: Vec<f64> = drawn
        .linears_mut()
        .filter_map(|linear| {
            let (noise, lora) = (linear.noise.take()?, linear.weight.adapter()?);
            let zeros = [&lora.a, &lora.b].map(|factor| factor.val().inner().zeros_like());
            let values = noise.add_to(zeros).map(|sum| sum.into_data().iter::<f64>().collect::<Vec<_>>());
            Some(values.concat())
        })
        .flatten()
        .collect();
    let count = noise.len() as f64;
    let mean = noise.iter().sum::<f64>() / count;
    let deviation = (noise.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    // five standard errors of a mean, and of a deviation
    assert!(mean.abs() < 5.0 * 0.2 / count.sqrt(), "{mean} of {count}");
    assert!((deviation - 0.2).abs() < 5.0 * 0.2 / (2.0 * count).sqrt(), "{deviation} of {count}");
}
