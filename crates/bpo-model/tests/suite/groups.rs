//! Groups with a shared prefix against separate forward passes, and independence of the rest of the
//! batch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::support::{Golden, close, device, floats, gradients, input, llava, processor, waved};
use bpo_dpo::loss::{Loss, Objective, PairLogps, PairRows, PerPair, PreferenceLoss};
use bpo_dpo::{Adapters, Collate, GroupBatch, Policy, PromptGroup};
use bpo_model::ScoreBatch;
use bpo_model::TargetModules;
use bpo_model::{ImageError, ImageSource, VlmCollator};
use bpo_model::{LoadOptions, LoraConfig, ModelError, Vlm};
use bpo_model::{PixelValues, TokenizedCompletion};
use bpo_pairs::{PreferencePair, Turn};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;

/// Tolerance for sums with other rows or in another order.
const RELATIVE: f32 = 1e-5;

/// Tolerance of gradients: their terms have both signs and cancel, so rounding counts more.
const RELATIVE_OF_GRADIENTS: f32 = 5e-5;

/// The golden checkpoint with nonzero adapters on all of its parts, in training state.
fn policy() -> Vlm {
    let model =
        Vlm::from_pretrained(&Golden::open().checkpoint(), &LoadOptions::default(), &device()).unwrap();
    let lora = LoraConfig::default()
        .with_rank(4, 8.0)
        .with_target_modules(TargetModules::PeftAllLinear)
        .with_modules_to_save(&[]);
    waved(model.with_lora(&lora, 1).unwrap().train())
}

/// A prompt with any number of images, and its completions.
#[derive(Clone, Debug)]
struct Sample {
    images: Vec<usize>,
    completions: Vec<TokenizedCompletion>,
}

/// An image computed from a seed.
fn pixels(model: &Vlm, seed: usize) -> PixelValues {
    let vision = &llava(model).vision_config;
    let (channels, side) = (vision.num_channels, vision.image_size);
    let value = |i: usize| ((i * (seed + 3)) as f32 * 0.013).sin();
    PixelValues {
        data: (0..channels * side * side).map(value).collect(),
        channels,
        height: side,
        width: side,
    }
}

fn batch(model: &Vlm, samples: &[Sample]) -> ScoreBatch {
    let mut images = Vec::new();
    let groups: Vec<_> = samples
        .iter()
        .map(|sample| {
            let first = images.len();
            images.extend(sample.images.iter().map(|image| input(model, &pixels(model, *image))));
            ((first..images.len()).collect(), sample.completions.clone())
        })
        .collect();
    ScoreBatch::new(model.config(), images, &groups).unwrap()
}

/// Each completion as a group of its own.
fn apart(samples: &[Sample]) -> Vec<Sample> {
    let alone = |sample: &Sample| {
        let Sample { images, completions } = sample.clone();
        completions.into_iter().map(move |one| Sample { images: images.clone(), completions: vec![one] })
    };
    samples.iter().flat_map(alone).collect()
}

/// Summed log-probabilities of the completions of some forward passes.
fn sums(model: &Vlm, batches: &[ScoreBatch], adapters: Adapters) -> Tensor<1> {
    Tensor::cat(batches.iter().map(|batch| model.token_logps(batch, adapters).sum()).collect(), 0)
}

fn close_gradients(
    found: &BTreeMap<String, TensorData>,
    expected: &BTreeMap<String, TensorData>,
    what: &str,
) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (path, expected) in expected {
        let [found, expected] = [&found[path], expected].map(|data| data.iter::<f32>().collect::<Vec<_>>());
        close(&found, &expected, RELATIVE_OF_GRADIENTS, &format!("{what}: {path}"));
    }
}

/// DPO's losses of the first completion of each group against each of its others, and all gradients
/// of their mean.
fn losses(model: &Vlm, sizes: &[usize], batches: &[ScoreBatch]) -> (Vec<f32>, BTreeMap<String, TensorData>) {
    let mut rows = PairRows::default();
    let mut first = 0;
    for size in sizes {
        for rejected in first + 1..first + size {
            rows.chosen.push(first);
            rows.rejected.push(rejected);
        }
        first += size;
    }
    let reference = PairLogps::select(sums(&model.valid(), batches, Adapters::Off), &rows);
    let trained = PairLogps::select(sums(model, batches, Adapters::On), &rows);
    let objective = Objective::new(Loss::default(), 0.1);
    let losses = objective.forward(&trained, Some(&reference), &PerPair::default()).losses;
    (floats(losses.clone()), gradients(model, losses.mean()))
}

/// Whole conversations, through template and tokenizer.
fn conversations() -> Vec<PromptGroup> {
    let group = |image: &str, history: &[(&str, &str)], prompt: &str, completions: &[&str]| PromptGroup {
        images: vec![image.to_owned()],
        system: None,
        history: history
            .iter()
            .map(|(prompt, answer)| Turn { prompt: (*prompt).into(), answer: (*answer).into() })
            .collect(),
        prompt: prompt.to_owned(),
        weakened: None,
        completions: completions.iter().map(|text| (*text).to_owned()).collect(),
    };
    vec![
        group("a", &[], "<image>\nWhat is this?", &["A cat on a mat.", "A dog."]),
        group(
            "b",
            &[("<image>\nWhat is this?", "A street."), ("Is it wet?", "Yes, it has rained for a long time.")],
            "Who walks there?",
            &[
                "Nobody walks there.",
                "Nobody, but a dog",
                "Two women with umbrellas, and a child behind them.",
            ],
        ),
        group("a", &[], "Describe the picture.\n<image>", &["A", "A bird.", "A bird in a tree.", "Red."]),
        group(
            "c",
            &[("Hello <image>", "Hello.")],
            "What colour is it?",
            &["It is blue.", "It is blue and green."],
        ),
    ]
}

/// Counts how often each image is checked; has none to load.
struct Headers(Rc<RefCell<Vec<String>>>);

impl ImageSource for Headers {
    fn load(&mut self, name: &str) -> Result<image::RgbImage, ImageError> {
        Err(format!("the pixels of {name} are damaged").into())
    }

    fn size(&mut self, name: &str) -> Result<(u32, u32), ImageError> {
        self.0.borrow_mut().push(name.to_owned());
        if name == "gone" { Err("no such image".into()) } else { Ok((40, 30)) }
    }
}

#[test]
fn a_check_decodes_no_image_and_tokenizes() {
    let model = policy();
    let processor = || processor(&Golden::open().checkpoint());
    let checked = Rc::new(RefCell::new(Vec::new()));
    let mut collate = VlmCollator::new(processor(), &model, Headers(Rc::clone(&checked)));
    let groups = conversations();
    for group in groups.iter().chain(&groups) {
        collate.check(group).unwrap();
        let error = collate.collate(std::slice::from_ref(group)).unwrap_err();
        assert!(matches!(&error, ModelError::Image { name, .. } if *name == group.images[0]), "{error}");
    }
    assert_eq!(*checked.borrow(), ["a", "b", "c"], "each image once");
    let gone = PromptGroup { images: vec!["gone".into()], ..groups[0].clone() };
    assert!(matches!(collate.check(&gone), Err(ModelError::Image { .. })));
    // all else that collating refuses
    let with = |completions: &[&str]| PromptGroup {
        completions: completions.iter().map(|text| (*text).to_owned()).collect(),
        ..groups[0].clone()
    };
    assert!(matches!(collate.check(&with(&["A cat.", "A cat. "])), Err(ModelError::SameTokens { .. })));
    collate.check(&with(&[" "])).unwrap_err();
    let mut short = VlmCollator::new(processor(), &model, Headers(checked)).with_max_length(20, "the limit");
    short.check(&groups[1]).unwrap_err();
    let mut collate = collate.with_weakenings(vec!["no-image".parse().unwrap()], 0);
    let weakened = PromptGroup { weakened: Some(0), ..groups[0].clone() };
    assert!(matches!(collate.check(&weakened), Err(ModelError::Distort(_))));
}

/// A second distortion of the same kind draws anew, and the first one is what it is alone.
#[test]
fn each_distortion_gives_a_weakened_form() {
    let model = policy();
    let photograph = |_: &str| -> Result<image::RgbImage, ImageError> {
        Ok(image::RgbImage::from_fn(60, 50, |x, y| image::Rgb([x as u8 * 4, y as u8 * 5, (x * y) as u8])))
    };
    let prints = |distortions: &[&str], forms: &[Option<usize>]| {
        let distortions = distortions.iter().map(|text| text.parse().unwrap()).collect();
        let processor = processor(&Golden::open().checkpoint());
        let mut collate = VlmCollator::new(processor, &model, photograph).with_weakenings(distortions, 7);
        let group = |form: &Option<usize>| PromptGroup { weakened: *form, ..conversations()[0].clone() };
        let groups: Vec<_> = forms.iter().map(group).collect();
        groups.iter().for_each(|group| collate.check(group).unwrap());
        let batch = collate.collate(&groups).unwrap();
        let rows = collate.fingerprints(&batch).unwrap();
        // the tokens of completions are those whose log-probabilities are computed
        let tokens = model.valid().token_logps(&batch, Adapters::On);
        let counts: Vec<usize> = collate.completions(&batch).unwrap().iter().map(Vec::len).collect();
        assert_eq!(
            counts,
            floats(tokens.counts()).into_iter().map(|count| count as usize).collect::<Vec<_>>()
        );
        // each group has two completions
        rows.iter().step_by(2).map(|row| row.image).collect::<Vec<_>>()
    };
    let crop = "crop:keep=0.2..0.5";
    let all = prints(&[crop, crop, "blur:sigma=2"], &[None, Some(0), Some(1), Some(2)]);
    assert!((0..4).all(|one| (0..one).all(|other| all[one] != all[other])), "{all:?}");
    assert_eq!(prints(&[crop], &[None, Some(0)]), all[..2]);
}

#[test]
fn groups_checked_together_have_the_results_of_separate_checks() {
    let model = policy();
    let new = || {
        let images = Headers(Rc::new(RefCell::new(Vec::new())));
        VlmCollator::new(processor(&Golden::open().checkpoint()), &model, images)
    };
    let conversations = conversations();
    let group = |index: usize| {
        let mut group = conversations[index % conversations.len()].clone();
        group.completions.push(format!("Number {index}."));
        match index % 11 {
            1 => group.images = vec!["gone".into()],
            3 => group.completions.push(format!("Number {index}. ")),
            5 => group.completions.insert(0, " ".into()),
            // the prompt or an answer is too long, or the template takes more fuel than usual
            6 => group.prompt.push_str(&" long".repeat(index)),
            7 => group.completions.push("word ".repeat(index * 100)),
            8 => group.history = vec![Turn::new("Why?", "Because."); 40 * index].into(),
            9 => group.prompt.push_str("</s>"),
            _ => {}
        }
        group
    };
    let groups: Vec<_> = (0..100).map(group).collect();
    let text = |result: Result<(), ModelError>| result.map_err(|error| bpo_pairs::chain(&error));
    let apart: Vec<_> = groups.iter().map(|group| text(new().check(group))).collect();
    assert!(apart.iter().filter(|result| result.is_ok()).count() > 20);
    for count in [0, 1, 7, 100] {
        let together: Vec<_> = new().check_groups(&groups[..count]).into_iter().map(text).collect();
        assert_eq!(together, apart[..count]);
    }
}

#[test]
fn groups_give_the_losses_and_gradients_of_separate_forwards() {
    let model = policy();
    let processor = processor(&Golden::open().checkpoint());
    let image = |name: &str| {
        let shade = name.as_bytes()[0];
        Ok(image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([shade, (x * 6) as u8, (y * 8) as u8])))
    };
    let mut collate = VlmCollator::new(processor, &model, image);
    let groups = conversations();
    let sizes: Vec<_> = groups.iter().map(|group| group.completions.len()).collect();
    assert_eq!(sizes, [2, 3, 4, 2]);
    let together = [collate.collate(&groups).unwrap()];
    let alone: Vec<_> = groups
        .iter()
        .flat_map(|group| {
            let one = |text: &String| PromptGroup { completions: vec![text.clone()], ..group.clone() };
            group.completions.iter().map(one).collect::<Vec<_>>()
        })
        .collect();
    let each: Vec<_> =
        alone.iter().map(|group| collate.collate(std::slice::from_ref(group)).unwrap()).collect();
    let unshared = [collate.collate(&alone).unwrap()];
    let by_group: Vec<_> =
        groups.iter().map(|group| collate.collate(std::slice::from_ref(group)).unwrap()).collect();

    let (expected, slopes) = losses(&model, &sizes, &each);
    assert_eq!(expected.len(), 1 + 2 + 3 + 1);
    // all factors of the language model, the projector and the layers of the vision tower that run
    assert_eq!(slopes.len(), 2 * (7 * 2 + 2 + 6 * 2));
    for (batches, what) in
        [(&together[..], "one batch"), (&by_group, "a batch a group"), (&unshared, "nothing shared")]
    {
        let (found, gradients) = losses(&model, &sizes, batches);
        close(&found, &expected, RELATIVE, what);
        close_gradients(&gradients, &slopes, what);
    }
}

/// The rows of contrasts equal those of separate passes, and so do loss and gradients.
#[test]
fn contrasts_give_the_loss_and_gradients_of_separate_forwards() {
    let model = policy();
    let image = |name: &str| {
        let shade = name.as_bytes()[0];
        Ok(image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([shade, (x * 6) as u8, (y * 8) as u8])))
    };
    let mut collate = VlmCollator::new(processor(&Golden::open().checkpoint()), &model, image);
    let pair = |id: &str, images: [&str; 2], chosen: &str, rejected: &str, other: &str| -> PreferencePair {
        serde_json::from_value(serde_json::json!({
            "id": id, "images": [images[0]], "prompt": "<image>\nWhat is this?", "chosen": chosen,
            "rejected": rejected, "kind": "llm-hal", "contrast_images": [images[1]], "contrast_answer": other,
        }))
        .unwrap()
    };
    let pairs = [
        pair("0", ["a", "z"], "A cat on a mat.", "A dog.", "A street in the rain."),
        pair("1", ["a", "z"], "A cat.", "A dog.", "A street."),
        pair("2", ["z", "a"], "A street.", "A lane with trees.", "A cat on a mat."),
    ];
    let loss = Loss::Symmpo { lambda: 0.5, consistency: 0.01 };
    let objective = Objective::new(loss.clone(), 0.1);
    let mut of = |pairs: &[PreferencePair]| {
        let batch = GroupBatch::for_loss(loss.properties(), 0, pairs);
        let inputs = collate.collate(&batch.groups).unwrap();
        let sums = |model: &Vlm, adapters| {
            PairLogps::select(model.token_logps(&inputs, adapters).sum(), &batch.rows)
        };
        let (trained, reference) = (sums(&model, Adapters::On), sums(&model.valid(), Adapters::Off));
        (objective.forward(&trained, Some(&reference), &PerPair::default()).losses, batch.groups.len())
    };
    let (together, groups) = of(&pairs);
    assert_eq!(groups, 4, "two questions, each with the images of its contrasts");
    let mut alone: Vec<Tensor<1>> = Vec::new();
    for pair in &pairs {
        alone.push(of(std::slice::from_ref(pair)).0);
    }
    let alone = Tensor::cat(alone, 0);
    close(&floats(together.clone()), &floats(alone.clone()), RELATIVE, "losses");
    let slopes = gradients(&model, alone.sum());
    close_gradients(&gradients(&model, together.sum()), &slopes, "gradients");
}

/// Gradient checkpointing does not change results, whatever part of the model is trained.
#[test]
fn layers_computed_again_change_nothing() {
    let prompt: Vec<u32> = [&[1, 9][..], &[320; 16], &[30, 31]].concat();
    let answered = |ids: &[u32]| TokenizedCompletion::new([&prompt[..], ids].concat(), prompt.len());
    let completions = vec![answered(&[40, 41, 42]), answered(&[40, 43]), answered(&[50, 51, 52, 53])];
    let text = Sample {
        images: Vec::new(),
        completions: vec![
            TokenizedCompletion::new(vec![1, 60, 61, 62], 2),
            TokenizedCompletion::new(vec![1, 60, 63], 2),
        ],
    };
    let samples = [Sample { images: vec![1], completions }, text];
    let checkpoint = Golden::open().checkpoint();
    let loaded = || Vlm::from_pretrained(&checkpoint, &LoadOptions::default(), &device()).unwrap();
    let of_language = LoraConfig::default().with_rank(4, 8.0).with_modules_to_save(&[]);
    for (what, model) in [
        ("adapters everywhere", policy()),
        ("adapters of the language model", loaded().with_lora(&of_language, 1).unwrap().train()),
        ("in full", loaded().train().unfreeze(|_| true)),
    ] {
        let batch = batch(&model, &samples);
        let all = |model: &Vlm| {
            let sums = sums(model, std::slice::from_ref(&batch), Adapters::On);
            let values = floats(sums.clone());
            (values, gradients(model, weighted(sums, &[0, 1, 2, 3, 4])))
        };
        let (expected, slopes) = all(&model);
        let (found, again) = all(&model.clone().with_gradient_checkpointing(true).unwrap());
        close(&found, &expected, 1e-6, what);
        close_gradients(&again, &slopes, what);
        assert!(!slopes.is_empty(), "{what}");
    }
}

#[test]
fn what_is_random_is_not_computed_again() {
    let lora = LoraConfig::default().with_rank(4, 8.0).with_dropout(0.1);
    let model =
        Vlm::from_pretrained(&Golden::open().checkpoint(), &LoadOptions::default(), &device()).unwrap();
    let behind = model.clone().with_lora(&lora, 1).unwrap().with_gradient_checkpointing(true);
    let before = model.with_gradient_checkpointing(true).unwrap().with_lora(&lora, 1);
    for error in [behind.unwrap_err(), before.unwrap_err()] {
        assert!(error.to_string().contains("dropout"), "{error}");
    }
}

/// A group with random ids, whose completions may share their beginnings.
fn sample() -> impl Strategy<Value = Sample> {
    let ids = |length| prop::collection::vec(3u32..300, length);
    let completions = prop::collection::vec(ids(1..12usize), 1..5);
    (prop::collection::vec(0usize..4, 0..3), ids(1..10usize), ids(1..4usize), ids(0..3usize), completions)
        .prop_map(|(images, before, behind, shared, completions)| {
            let mut prompt = vec![1];
            prompt.extend(before);
            for _ in &images {
                prompt.extend([320; 16]);
                prompt.extend(&behind);
            }
            prompt.extend(behind);
            let answered = |completion: Vec<u32>| {
                let ids = [&prompt[..], &shared, &completion].concat();
                TokenizedCompletion::new(ids, prompt.len())
            };
            Sample { images, completions: completions.into_iter().map(answered).collect() }
        })
}

/// A sum of the log-probabilities with a different weight for each.
fn weighted(sums: Tensor<1>, order: &[usize]) -> Tensor<1> {
    let weights: Vec<_> = order.iter().map(|i| 0.3 + 0.7 * (*i as f32 * 1.7).sin()).collect();
    let weights = TensorData::new(weights, [order.len()]);
    let device = sums.device();
    (sums * Tensor::from_data(weights, &device)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Results do not depend on how completions are batched and ordered.
    #[test]
    fn batch_composition_changes_nothing(samples in prop::collection::vec(sample(), 1..5), turn in 0usize..4) {
        let model = policy();
        let count: usize = samples.iter().map(|sample| sample.completions.len()).sum();
        let straight: Vec<_> = (0..count).collect();
        let each: Vec<_> = apart(&samples).iter().map(|one| batch(&model, std::slice::from_ref(one))).collect();
        let expected = sums(&model, &each, Adapters::On);
        let slopes = gradients(&model, weighted(expected.clone(), &straight));
        let expected = floats(expected);

        // groups in another order, completions reversed
        let mut turned: Vec<(usize, Sample)> = Vec::new();
        let mut first = 0;
        for sample in &samples {
            turned.push((first, sample.clone()));
            first += sample.completions.len();
        }
        turned.rotate_left(turn % samples.len());
        let order: Vec<usize> = turned
            .iter()
            .flat_map(|(first, sample)| (*first..first + sample.completions.len()).rev())
            .collect();
        let turned: Vec<_> = turned
            .into_iter()
            .map(|(_, mut sample)| {
                sample.completions.reverse();
                sample
            })
            .collect();

        for (batches, order, what) in [
            (vec![batch(&model, &samples)], straight.clone(), "together"),
            (vec![batch(&model, &apart(&samples))], straight, "nothing shared"),
            (vec![batch(&model, &turned)], order, "turned"),
        ] {
            let found = sums(&model, &batches, Adapters::On);
            let wanted: Vec<_> = order.iter().map(|i| expected[*i]).collect();
            close(&floats(found.clone()), &wanted, RELATIVE, what);
            close_gradients(&gradients(&model, weighted(found, &order)), &slopes, what);
        }
    }
}
