mod noise;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Device;
use proptest::prelude::*;

use super::*;
use crate::families::llava::LlavaConfig;
use crate::input::ImageLayout;
use crate::lora::LoraConfig;
use crate::processor::{PixelValues, TokenizedCompletion};
use crate::{LoadOptions, lora::TargetModules};

const IMAGE: u32 = 90;

/// A small model with adapters on all of its parts, in training state.
fn model() -> Vlm {
    adapted(TargetModules::PeftAllLinear)
}

fn adapted(targets: TargetModules) -> Vlm {
    let config = serde_json::json!({
        "image_token_index": IMAGE,
        "text_config": {
            "vocab_size": 96, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
        },
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 8, "patch_size": 4,
        },
    });
    let config: LlavaConfig = serde_json::from_value(config).unwrap();
    let lora = LoraConfig::default().with_rank(2, 4.0).with_target_modules(targets).with_modules_to_save(&[]);
    Vlm::random(config, 3, &LoadOptions::default(), &Device::flex()).with_lora(&lora, 1).unwrap().train()
}

fn image(seed: usize) -> ImageInput {
    let data = (0..3 * 64).map(|i| ((i + 7 * seed) as f32 * 0.31).sin()).collect();
    let pixels = PixelValues { data, channels: 3, height: 8, width: 8 };
    ImageInput::new(vec![pixels], ImageLayout::plain(IMAGE, 4))
}

/// Token log-probabilities, and all gradients of their sum.
fn measure(model: &Vlm, batch: &ScoreBatch) -> (Vec<f32>, Vec<Vec<f32>>) {
    let (logps, _) = model.completion_logps(batch, Adapters::On).unwrap();
    let values = logps.clone().into_data().iter::<f32>().collect();
    (values, gradients_of(model, logps.sum()))
}

/// The gradients of all parameters that have one.
fn gradients_of(model: &Vlm, sum: Tensor<1>) -> Vec<Vec<f32>> {
    #[derive(Default)]
    struct Found(GradientsParams, Vec<Vec<f32>>);
    impl ModuleVisitor for Found {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id);
            self.1.extend(gradient.map(|gradient| gradient.into_data().iter::<f32>().collect::<Vec<_>>()));
        }
    }
    let mut found = Found(GradientsParams::from_grads(sum.backward(), model), Vec::new());
    model.visit(&mut found);
    found.1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Ids behind the end of a row do not change any other value, to the bit.
    #[test]
    fn padding_is_never_seen(
        groups in prop::collection::vec((0usize..3, 1usize..6, prop::collection::vec(1usize..7, 1..4)), 2..4),
        ids in prop::collection::vec(0u32..IMAGE, 256),
    ) {
        let model = model();
        let mut drawn = ids.iter().copied().cycle();
        let mut images = Vec::new();
        let groups: Vec<_> = groups
            .iter()
            .map(|(count, prompt, answers)| {
                let own: Vec<usize> = (images.len()..images.len() + count).collect();
                images.extend(own.iter().map(|seed| image(*seed)));
                let prompt: Vec<_> =
                    std::iter::repeat_n(IMAGE, 4 * count).chain(drawn.by_ref().take(*prompt)).collect();
                let answers = answers
                    .iter()
                    .map(|length| {
                        let ids = prompt.iter().copied().chain(drawn.by_ref().take(*length)).collect();
                        TokenizedCompletion::new(ids, prompt.len())
                    })
                    .collect();
                (own, answers)
            })
            .collect();
        let batch = ScoreBatch::new(model.config(), images, &groups).unwrap();
        let mut other = batch.clone();
        let mut behind = |row: &mut Vec<u32>, end: usize| row[end..].fill_with(|| drawn.next().unwrap());
        for (prefix, end) in other.tokens.prefixes.iter_mut().zip(&other.tokens.prefix_lens) {
            behind(prefix, *end);
        }
        for row in &mut other.tokens.rows {
            let end = row.targets.len();
            behind(&mut row.inputs, end);
        }
        prop_assert_eq!(measure(&model, &other), measure(&model, &batch));
    }
}

#[test]
fn image_tokens_have_a_prompt_behind_them() {
    let config = model().config().clone();
    let answered = |ids: &[u32], start| vec![(vec![0], vec![TokenizedCompletion::new(ids.to_vec(), start)])];
    let of = |ids: &[u32], start| ScoreBatch::new(&config, vec![image(0)], &answered(ids, start)).map(|_| ());
    of(&[1, IMAGE, IMAGE, IMAGE, IMAGE, 2, 3], 6).unwrap();
    assert!(matches!(of(&[1, IMAGE, IMAGE, IMAGE, IMAGE, 3], 5), Err(ModelError::ImageTokenBehind)));
    assert!(matches!(of(&[1, IMAGE, 2, 3], 3), Err(ModelError::ImageTokens { expected: 4, found: 1 })));
}

#[test]
fn features_are_shared_where_the_tower_stays_as_it_is() {
    let model = adapted(TargetModules::AllLinear);
    let answered = |id| TokenizedCompletion::new(vec![1, IMAGE, IMAGE, IMAGE, IMAGE, 2, id, 4], 6);
    let groups: Vec<_> = (0..2).map(|image| (vec![image], vec![answered(5), answered(6)])).collect();
    let batch = ScoreBatch::new(model.config(), vec![image(0), image(1)], &groups).unwrap();
    let shared = model.with_features(&batch).unwrap();
    assert!(!shared.features.as_ref().unwrap().values().is_autodiff());
    assert_eq!(measure(&model, &shared), measure(&model, &batch));
    let reference = model.valid();
    let [with, without] = [&shared, &batch].map(|batch| {
        let (logps, _) = reference.completion_logps(batch, Adapters::Off).unwrap();
        logps.into_data().iter::<f32>().collect::<Vec<_>>()
    });
    // with autodiff some sums have another order
    assert!(with.iter().zip(&without).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs()), "{with:?} {without:?}");
    // the pixels are not encoded again
    let blank = ScoreBatch { images: vec![image(2), image(3)].into(), ..shared };
    assert_eq!(measure(&model, &blank), measure(&model, &batch));

    let adapts_all = adapted(TargetModules::PeftAllLinear);
    assert!(adapts_all.with_features(&batch).is_none());
    let trains_tower = model.clone().unfreeze(|path| path.starts_with("vision_tower."));
    assert!(trains_tower.with_features(&batch).is_none());
    assert!(trains_tower.valid().with_features(&batch).is_none());
    let no_image = [(Vec::new(), vec![TokenizedCompletion::new(vec![1, 2, 3], 2)])];
    let no_image = ScoreBatch::new(model.config(), Vec::new(), &no_image).unwrap();
    assert!(model.with_features(&no_image).is_none());
}

/// More completion tokens than a chunk of the head, with shared prefixes.
#[test]
fn log_probs_are_those_of_whole_sequences() {
    let ids = |group: usize, answer: usize, count: usize| {
        (0..count).map(move |place| 3 + ((7 * group + 31 * answer + 13 * place) % 80) as u32)
    };
    let sequence = |group: usize, answer: usize| {
        let prompt = [1].into_iter().chain(std::iter::repeat_n(IMAGE, 4)).chain(ids(group, 0, 3 + group));
        prompt.chain(ids(group, 1 + answer, 100)).collect::<Vec<_>>()
    };
    let answered = |group, answer| TokenizedCompletion::new(sequence(group, answer), 8 + group);
    let groups: Vec<_> =
        (0..3).map(|group| (vec![group], vec![answered(group, 0), answered(group, 1)])).collect();
    let images: Vec<_> = (0..3).map(image).collect();
    for model in [model(), model().valid()] {
        let batch = ScoreBatch::new(model.config(), images.clone(), &groups).unwrap();
        assert!(batch.completion_tokens() > HEAD_CHUNK);
        let (logps, _) = model.completion_logps(&batch, Adapters::On).unwrap();
        let found: Vec<_> = logps.into_data().iter::<f64>().collect();
        for (row, found) in found.chunks(100).enumerate() {
            let ids = sequence(row / 2, row % 2);
            let logits = model.logits(&ids, std::slice::from_ref(&images[row / 2]), Adapters::On).unwrap();
            let logits: Vec<_> = logits.into_data().iter::<f64>().collect();
            let first = ids.len() - 100;
            for (place, found) in found.iter().enumerate() {
                let at = &logits[(first + place - 1) * 96..][..96];
                let sum: f64 = at.iter().map(|logit| logit.exp()).sum();
                let expected = at[ids[first + place] as usize] - sum.ln();
                assert!(
                    (found - expected).abs() < 1e-5 * expected.abs(),
                    "{row}, {place}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
fn batches_that_nothing_can_be_computed_of_are_errors() {
    let model = model();
    let empty = ScoreBatch::new(model.config(), Vec::new(), &[]).unwrap();
    assert!(matches!(model.completion_logps(&empty, Adapters::On), Err(ModelError::NoCompletion)));
    let seen = TokenizedCompletion::new(vec![1, IMAGE, IMAGE, IMAGE, IMAGE, 2, 3], 6);
    let with = |own| ScoreBatch::new(model.config(), vec![image(0)], &[(own, vec![seen.clone()])]).map(drop);
    with(vec![0]).unwrap();
    let error = with(vec![1]).unwrap_err();
    assert!(matches!(error, ModelError::NoSuchImage { image: 1, images: 1 }), "{error}");
    let error = with(vec![0, 0]).unwrap_err();
    assert!(matches!(error, ModelError::ImageTokens { expected: 8, found: 4 }), "{error}");
    // what only generation does to features
    let hidden = ImageInput { hidden: vec![1], ..image(0) };
    let error = ScoreBatch::new(model.config(), vec![hidden], &[]).map(drop).unwrap_err();
    assert!(matches!(error, ModelError::ChangedFeatures), "{error}");
    let tiles = ImageInput { tiles: Vec::new(), ..image(0) };
    let error = ScoreBatch::new(model.config(), vec![tiles], &[]).map(drop).unwrap_err();
    assert!(matches!(error, ModelError::ImageTiles { expected: 1, found: 0 }), "{error}");
}

/// Groups with more completion tokens than a chunk of the head, and their images.
#[cfg(feature = "dpo")]
fn long_batch(model: &Vlm) -> ScoreBatch {
    let prompt = |group: usize| {
        let ids = (0..3 + group).map(move |place| (5 + 11 * group + place) as u32);
        [1].into_iter().chain(std::iter::repeat_n(IMAGE, 4)).chain(ids)
    };
    let answered = |group: usize, answer: usize| {
        let ids = (0..90 + 7 * answer).map(|place| 3 + ((7 * group + 31 * answer + 13 * place) % 80) as u32);
        TokenizedCompletion::new(prompt(group).chain(ids).collect(), 8 + group)
    };
    let groups: Vec<_> =
        (0..3).map(|group| (vec![group], vec![answered(group, 0), answered(group, 1)])).collect();
    let batch = ScoreBatch::new(model.config(), (0..3).map(image).collect(), &groups).unwrap();
    assert!(batch.completion_tokens() > HEAD_CHUNK);
    batch
}

/// A model in training state whose adapters add something, also to its head, with dropout of the
/// adapter of the head.
#[cfg(feature = "dpo")]
fn with_adapted_head(dropout: f64) -> Vlm {
    struct Wave;
    impl burn::module::ModuleMapper for Wave {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            param.map(|value| {
                let wave = |i: usize| 0.2 * (i as f32 * 0.61).sin();
                let wave = (0..value.shape().num_elements()).map(wave).collect::<Vec<_>>();
                let wave = Tensor::from_data(TensorData::new(wave, value.dims()), &value.device());
                (value + wave).detach().require_grad()
            })
        }
    }
    let mut model = adapted(TargetModules::Regex(r".*(q_proj|lm_head)".into())).map(&mut Wave);
    model.lm_head.as_mut().unwrap().dropout = dropout;
    model
}

/// With and without a second computation of the distributions, which dropout of the head excludes. A
/// dropout of 1e-12 drops nothing.
#[cfg(feature = "dpo")]
#[test]
fn divergences_and_their_gradients_are_those_of_whole_distributions() {
    use std::cell::RefCell;

    use bpo_dpo::token_divergence;

    let weights = |x: &Tensor<2>| {
        let [rows, tokens] = x.dims();
        let weights: Vec<f32> = (0..rows * tokens).map(|i| (i as f32 * 0.37).cos()).collect();
        Tensor::from_data(TensorData::new(weights, [rows, tokens]), &x.device())
    };
    let floats = |x: Tensor<2>| x.into_data().iter::<f32>().collect::<Vec<_>>();
    let close = |found: &[f32], expected: &[f32], what: &str| {
        let scale = expected.iter().fold(1e-3_f32, |most, x| most.max(x.abs()));
        assert_eq!(found.len(), expected.len(), "{what}");
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-5 * scale, "{what} is off by {worst}, of {scale}");
    };
    for dropout in [0.0, 1e-12] {
        let model = with_adapted_head(dropout);
        let (batch, reference) = (long_batch(&model), model.valid());
        let found = model.completion_divergences(&batch, (&reference, Adapters::Off), true).unwrap();

        // the chunks of both passes are the same
        let kept = RefCell::new(Vec::new());
        let ([logps], mask) = reference
            .at_completion_tokens(&batch, Adapters::Off, |logits, targets| {
                let all = log_softmax(logits);
                kept.borrow_mut().push(all.clone());
                [all.gather(1, targets)]
            })
            .unwrap();
        let chunks = RefCell::new(kept.into_inner().into_iter());
        let ([own, divergences], _) = model
            .at_completion_tokens(&batch, Adapters::On, |logits, targets| {
                let all = log_softmax(logits);
                let divergences = token_divergence(chunks.borrow_mut().next().unwrap(), all.clone());
                [all.gather(1, targets), divergences]
            })
            .unwrap();
        let [own, divergences] = [own, divergences].map(|x| x.squeeze_dim::<2>(2));
        assert!(!found.reference.logps.is_autodiff());
        close(&floats(found.reference.logps.clone()), &floats(logps.squeeze_dim(2)), "the reference");
        close(&floats(found.policy.logps.clone()), &floats(own.clone()), "the policy");
        let expected = floats(divergences.clone());
        assert!(expected.iter().any(|x| *x > 1e-2) && expected.iter().all(|x| *x > -1e-6));
        close(&floats(found.divergences.clone()), &expected, "the divergences");
        let masks = [found.policy.mask, found.reference.mask, mask].map(|mask| mask.into_data());
        assert!(masks.iter().all(|other| *other == masks[0]));

        let sum = |logps: Tensor<2>, divergences: Tensor<2>| {
            (logps.clone() * weights(&logps)).sum()
                + (divergences.clone() * weights(&divergences)).sum() * 3.0
        };
        let gradients = |sum: Tensor<1>| gradients_of(&model, sum).concat();
        let found_gradients = gradients(sum(found.policy.logps, found.divergences));
        close(&found_gradients, &gradients(sum(own, divergences)), "the gradients");
        if dropout == 0.0 {
            let layers_again = model.clone().with_gradient_checkpointing(true).unwrap();
            let both =
                layers_again.completion_divergences(&batch, (&reference, Adapters::Off), false).unwrap();
            let again = gradients_of(&layers_again, sum(both.policy.logps, both.divergences)).concat();
            close(&again, &found_gradients, "the gradients with gradient checkpointing");
        }

        // without autodiff, as in evaluation, and of a policy that equals its reference
        let same = reference.completion_divergences(&batch, (&reference, Adapters::On), false).unwrap();
        assert!(same.statistics.is_none() && floats(same.divergences).iter().all(|x| *x == 0.0));
        let (_, statistics) = bpo_dpo::Policy::token_statistics(&model, &batch, bpo_dpo::Adapters::On);
        let (found, expected) = (found.statistics.unwrap(), statistics.unwrap());
        for (found, expected) in [
            (found.entropy, expected.entropy),
            (found.mean_logit, expected.mean_logit),
            (found.log_sum_squares, expected.log_sum_squares),
            (found.top1, expected.top1),
        ] {
            close(&floats(found), &floats(expected), "statistics");
        }
    }
}
