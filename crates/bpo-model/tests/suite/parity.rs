//! Compares each step of the model with transformers, on the golden checkpoint.
//!
//! `BPO_GOLDEN` names another golden directory of the same layout; `BPO_TEST_DEVICE=libtorch`
//! another device.

mod several;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use crate::support::{Golden, close, device, floats, input};
use bpo_distort::diffusion;
use bpo_model::{
    Adapters, ContrastInput, GenerationSettings, ImageInput, LoadOptions, ModelInput, PixelValues, Prompt,
    ScoreBatch, TokenizedCompletion, Vlm,
};
use bpo_pairs::{FinishReason, Sampling};
use burn::tensor::FloatDType;

const CONDITIONS: [&str; 3] = ["clean", "noise500", "noise900"];

fn model(golden: &Golden) -> Vlm {
    Vlm::from_pretrained(&golden.checkpoint(), &LoadOptions::default(), &device()).unwrap()
}

fn image(golden: &Golden, model: &Vlm, condition: &str, i: usize) -> ImageInput {
    let (values, shape) = golden.floats(&format!("{condition}.pixel_values"));
    let size = shape[1..].iter().product::<usize>();
    let data = values[i * size..(i + 1) * size].to_vec();
    input(model, &PixelValues { data, channels: shape[1], height: shape[2], width: shape[3] })
}

#[test]
fn diffusion_noise_on_normalized_pixels() {
    let golden = Golden::open();
    let [clean, noise] = ["clean.pixel_values", "noise"].map(|name| golden.floats(name).0);
    for step in [500, 900] {
        let (expected, _) = golden.floats(&format!("noise{step}.pixel_values"));
        let (mut ours, mut replayed) = (clean.clone(), clean.clone());
        diffusion::replay_noise(&mut ours, &noise, step).unwrap();
        close(&ours, &expected, 4e-7, &format!("step {step}"));
        golden.coefficients(step).replay(&mut replayed, &noise).unwrap();
        assert!(replayed == expected, "step {step} with the coefficients of torch is not equal");
    }
}

#[test]
fn vision_features_and_projector() {
    let golden = Golden::open();
    let model = model(&golden);
    for condition in CONDITIONS {
        let (expected, shape) = golden.floats(&format!("{condition}.vision"));
        let images: Vec<_> = (0..shape[0]).map(|i| image(&golden, &model, condition, i)).collect();
        let layouts: Vec<_> = images.iter().map(|image| &image.layout).collect();
        let features = model.encode_images(&images.iter().collect::<Vec<_>>(), Adapters::Off).unwrap();
        assert_eq!(features.values().dims().to_vec(), [shape[0] * shape[1], shape[2]]);
        assert_eq!((features.images(), features.rows(1)), (shape[0], shape[1]..2 * shape[1]));
        close(&floats(features.values()), &expected, 1e-4, &format!("{condition} vision"));
        let projected = model.project(&features, &layouts, Adapters::Off).values();
        let (expected, _) = golden.floats(&format!("{condition}.projector"));
        close(&floats(projected), &expected, 1e-4, &format!("{condition} projector"));
    }
}

#[test]
fn token_and_summed_log_probs_with_a_shared_prefix() {
    let golden = Golden::open();
    let model = model(&golden);
    for condition in CONDITIONS {
        let groups: Vec<_> = (0..golden.prompts())
            .map(|i| {
                let answer_start = golden.ids(&format!("p{i}.prompt_ids")).len();
                let answered = |side: &str| {
                    TokenizedCompletion::new(golden.ids(&format!("p{i}.{side}.input_ids")), answer_start)
                };
                (vec![i], vec![answered("chosen"), answered("rejected")])
            })
            .collect();
        let images = (0..golden.prompts()).map(|i| image(&golden, &model, condition, i)).collect();
        let batch = ScoreBatch::new(model.config(), images, &groups).unwrap();
        let (logps, mask) = model.completion_logps(&batch, Adapters::On).unwrap();
        let width = logps.dims()[1];
        let logps = floats(logps);
        let mask: Vec<bool> = mask.into_data().iter::<bool>().collect();
        for i in 0..golden.prompts() {
            for (s, side) in ["chosen", "rejected"].into_iter().enumerate() {
                let row = 2 * i + s;
                let (expected, _) = golden.floats(&format!("{condition}.p{i}.{side}.token_logps"));
                let here = row * width..row * width + expected.len();
                assert!(mask[here.clone()].iter().all(|on| *on));
                assert!(mask[here.end..(row + 1) * width].iter().all(|on| !*on));
                close(&logps[here.clone()], &expected, 1e-4, &format!("{condition} p{i} {side}"));
                let sum: f64 = logps[here].iter().map(|logp| f64::from(*logp)).sum();
                let wanted = golden.result(condition, i, &format!("{side}_logp_f64"));
                assert!((sum - wanted).abs() < 1e-3, "{condition} p{i} {side}: {sum} and {wanted}");
            }
        }
    }
}

#[test]
fn logits_at_response_positions() {
    let golden = Golden::open();
    let model = model(&golden);
    for condition in CONDITIONS {
        for i in 0..golden.prompts() {
            for side in ["chosen", "rejected"] {
                let ids = golden.ids(&format!("p{i}.{side}.input_ids"));
                let (expected, shape) = golden.floats(&format!("{condition}.p{i}.{side}.logits"));
                let logits =
                    model.logits(&ids, &[image(&golden, &model, condition, i)], Adapters::On).unwrap();
                let [tokens, vocab] = logits.dims();
                assert_eq!(vocab, shape[1]);
                let rows = logits.narrow(0, tokens - 1 - shape[0], shape[0]);
                close(&floats(rows), &expected, 1e-4, &format!("{condition} p{i} {side} logits"));
            }
        }
    }
}

#[test]
fn greedy_tokens_batched_and_alone() {
    let golden = Golden::open();
    let model = model(&golden);
    for condition in CONDITIONS {
        let prompts: Vec<_> = (0..golden.prompts())
            .map(|i| {
                let tokens = golden.ids(&format!("{condition}.p{i}.greedy_ids")).len();
                let ids = golden.ids(&format!("p{i}.prompt_ids"));
                Prompt::new(
                    ModelInput::new(ids, vec![image(&golden, &model, condition, i)]),
                    Sampling::greedy(tokens),
                )
            })
            .collect();
        // the golden run ignores the end token
        let together = model.generate(&prompts, &GenerationSettings::default(), Adapters::On).unwrap();
        for (i, prompt) in prompts.iter().enumerate() {
            let expected = golden.ids(&format!("{condition}.p{i}.greedy_ids"));
            assert_eq!(together[i].ids, expected, "{condition} p{i} batched");
            let alone = model
                .generate(std::slice::from_ref(prompt), &GenerationSettings::default(), Adapters::On)
                .unwrap();
            assert_eq!(alone[0].ids, expected, "{condition} p{i} alone");
        }
    }
}

/// Continuous batching: answers end by length or end token, and waiting prompts take their places.
#[test]
fn greedy_tokens_continuous() {
    let golden = Golden::open();
    let model = model(&golden);
    let condition = CONDITIONS[0];
    let expected = |i: usize| golden.ids(&format!("{condition}.p{i}.greedy_ids"));
    let eos = expected(0)[expected(0).len() / 2];
    let prompts: Vec<_> = (0..9)
        .map(|place| {
            let i = place % golden.prompts();
            let tokens = (place * 5) % (expected(i).len() + 1);
            let seen = ModelInput::new(
                golden.ids(&format!("p{i}.prompt_ids")),
                vec![image(&golden, &model, condition, i)],
            );
            let prompt = Prompt::new(seen.clone(), Sampling::greedy(tokens));
            // a contrast with itself changes nothing, and takes two rows
            if place % 4 == 1 { prompt.with_contrast(ContrastInput::new(seen, 1.0, 0.0)) } else { prompt }
        })
        .collect();
    for at_a_time in [1, 2, 4, 9, 20] {
        let at_a_time = NonZeroUsize::new(at_a_time).unwrap();
        let answers = model
            .generate_continuous(&prompts, at_a_time, &GenerationSettings::ending_at([eos]), Adapters::On)
            .unwrap();
        for (place, (prompt, answer)) in prompts.iter().zip(answers).enumerate() {
            let all = expected(place % golden.prompts());
            let whole = &all[..prompt.sampling.max_new_tokens];
            let end = whole.iter().position(|id| *id == eos);
            assert_eq!(answer.ids, whole[..end.unwrap_or(whole.len())], "{place}, {at_a_time} at a time");
            let finish = if end.is_some() { FinishReason::Stop } else { FinishReason::Length };
            assert_eq!(answer.finish, finish, "{place}, {at_a_time} at a time");
        }
    }
}

/// Each answer is passed on when it ends: short ones before long ones that were started earlier.
#[test]
fn answers_are_passed_on_when_they_end() {
    let golden = Golden::open();
    let model = model(&golden);
    let prompt = |tokens| {
        let ids = golden.ids("p0.prompt_ids");
        let input = ModelInput::new(ids, vec![image(&golden, &model, CONDITIONS[0], 0)]);
        Prompt::new(input, Sampling::greedy(tokens))
    };
    let prompts = [5, 2, 0, 3].map(prompt);
    let two = NonZeroUsize::new(2).unwrap();
    let all = model.generate_continuous(&prompts, two, &GenerationSettings::default(), Adapters::On).unwrap();
    let answers = |most: usize| {
        let mut answers = Vec::new();
        let mut receive = |prompt, answer| {
            answers.push((prompt, answer));
            if answers.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        model
            .generate_each(&prompts, two, &GenerationSettings::default(), Adapters::On, &mut receive)
            .unwrap();
        answers
    };
    let expected = [2, 1, 0, 3].map(|prompt| (prompt, all[prompt].clone()));
    assert_eq!(answers(4), expected);
    assert_eq!(answers(2), expected[..2], "after the consumer stops");
}

/// The draws of a prompt depend on its own seed only.
#[test]
fn draws_are_those_of_a_prompt_alone() {
    let golden = Golden::open();
    let model = model(&golden);
    let prompts: Vec<_> = (0..7)
        .map(|place| {
            let i = place % golden.prompts();
            let seen = ModelInput::new(
                golden.ids(&format!("p{i}.prompt_ids")),
                vec![image(&golden, &model, "clean", i)],
            );
            let tokens = 3 + 2 * (place % 4);
            Prompt::new(seen, Sampling::greedy(tokens).with_temperature(1.0).with_seed(place as u64))
        })
        .collect();
    let at_a_time = |count| {
        let count = NonZeroUsize::new(count).unwrap();
        let answers =
            model.generate_continuous(&prompts, count, &GenerationSettings::default(), Adapters::On).unwrap();
        answers.into_iter().map(|answer| answer.ids).collect::<Vec<_>>()
    };
    let at_a_time = &at_a_time;
    let alone = at_a_time(1);
    assert!(alone.iter().zip(&prompts).all(|(ids, prompt)| ids.len() == prompt.sampling.max_new_tokens));
    for count in [2, 3, 7] {
        assert_eq!(at_a_time(count), alone, "{count} at a time");
    }
    // nor on other generations at the same time, inside or outside of rayon's pool
    std::thread::scope(|threads| {
        let others = [1, 2, 3, 7].map(|count| threads.spawn(move || at_a_time(count)));
        let (one, other) = rayon::join(|| at_a_time(2), || at_a_time(3));
        let others = others.map(|thread| thread.join().unwrap());
        assert!(others.into_iter().chain([one, other]).all(|answers| answers == alone));
    });
}

/// Half precision rounds each weight and activation to 8 or 11 bits, and sums in f32.
#[test]
fn half_precision_is_near() {
    let golden = Golden::open();
    for (dtype, off) in [(FloatDType::BF16, 0.03), (FloatDType::F16, 0.004)] {
        if !device().supports_dtype(dtype) {
            continue;
        }
        let options = LoadOptions::default().with_dtype(dtype);
        let model = Vlm::from_pretrained(&golden.checkpoint(), &options, &device()).unwrap();
        for i in 0..golden.prompts() {
            let ids = golden.ids(&format!("p{i}.chosen.input_ids"));
            let (expected, shape) = golden.floats(&format!("clean.p{i}.chosen.logits"));
            let logits = model.logits(&ids, &[image(&golden, &model, "clean", i)], Adapters::On).unwrap();
            let [tokens, _] = logits.dims();
            let rows = logits.narrow(0, tokens - 1 - shape[0], shape[0]);
            close(&floats(rows), &expected, off, &format!("{dtype:?} p{i} logits"));
        }
    }
}
