//! Each model family against transformers, on every case in `tests/families`.
//!
//! `tools/golden/families` makes the cases and describes their files. `BPO_FAMILIES` names another
//! directory of cases, so that other seeds can be checked.

mod case;
mod frames;
mod generation;
mod quantized;
mod training;
mod trl;
mod weakened;

use std::num::NonZeroUsize;

use bpo_model::{Adapters, ImageInput, ModelInput, Processor, Prompt, ScoreBatch, TokenizedCompletion, Vlm};
use bpo_pairs::Sampling;
use burn::tensor::FloatDType;
use burn::tensor::activation::log_softmax;

use crate::support::{device, floats};
use case::{Case, Checkpoint, Layout, Loaded, cases, each_checkpoint};

/// Tolerance of summed log-probabilities, in nats.
const NATS: f64 = 1e-3;

/// Tolerance of pixel values.
const PIXEL: f32 = 1e-5;

#[test]
fn pixels_are_those_of_transformers() {
    each_checkpoint(|checkpoint| {
        let processor = checkpoint.processor();
        for (name, photo) in checkpoint.photos() {
            let input = processor.image.process(&photo).unwrap();
            assert_eq!(
                processor.image.layout(photo.width(), photo.height()).unwrap(),
                input.layout,
                "{name}"
            );
            let (expected, size) = checkpoint.pixels(&name);
            let values: Vec<f32> = input.tiles.iter().flat_map(|tile| tile.data.iter().copied()).collect();
            assert_eq!(values.len(), size, "{}: {name}", checkpoint.name);
            let sampled = values.iter().step_by(checkpoint.sample());
            let worst = sampled.zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= PIXEL, "{}: {name} is off by {worst}", checkpoint.name);
        }
    });
}

#[test]
fn ids_are_those_of_transformers() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        for case in cases(checkpoint) {
            let images = loaded.images(&case);
            let layouts: Vec<_> = images.iter().map(|image| &image.layout).collect();
            let ids = loaded.processor.prompt_ids(None, &case.history, &case.prompt, &layouts).unwrap();
            assert_eq!(ids, case.prompt_ids, "{}: {}", checkpoint.name, case.prompt);
            for answer in &case.answers {
                let encoded = loaded
                    .processor
                    .encode_completion(None, &case.history, &case.prompt, &answer.text, &layouts)
                    .unwrap();
                assert_eq!(
                    (encoded.ids, encoded.answer_start),
                    (answer.ids.clone(), ids.len()),
                    "{}",
                    answer.text
                );
            }
        }
    });
}

/// Of images that are so thin that no patch of a tile shows them, only the tile with the whole image
/// and the ends of rows are left. Number of tokens and the first logits are those of transformers 5.23.
#[test]
fn thin_images_are_those_of_transformers() {
    const NEXT: [([u32; 2], usize, [f32; 4]); 2] = [
        ([1, 4000], 20, [-2.33847, 1.87327, 0.7278, -0.15818]),
        ([4000, 1], 16, [-2.43099, 1.36992, 0.64101, 0.5324]),
    ];
    const ONEVISION: [([u32; 2], usize, [f32; 4]); 2] = [
        ([1, 4000], 20, [-0.25707, -0.29875, 0.4184, -0.29537]),
        ([4000, 1], 16, [-0.37957, -0.19226, 0.47852, -0.20818]),
    ];
    each_checkpoint(|checkpoint| {
        let name = &checkpoint.name;
        let expected = match name.split(' ').next() {
            Some("llava_next") => NEXT,
            Some("llava_onevision") => ONEVISION,
            _ => return,
        };
        let loaded = Loaded::of(checkpoint);
        for ([width, height], tokens, first) in expected {
            let photo = image::RgbImage::from_pixel(width, height, image::Rgb([200, 30, 30]));
            let input = loaded.processor.image.process(&photo).unwrap();
            assert_eq!(input.tokens(), tokens, "{name}: {width}x{height}");
            let ids = loaded.processor.prompt_ids(None, &[], "What?", &[&input.layout]).unwrap();
            let logits = loaded.model.logits(&ids, &[input], Adapters::On).unwrap();
            let [rows, vocab] = logits.dims();
            let last = &floats(logits)[(rows - 1) * vocab..];
            let worst = last.iter().zip(first).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: {width}x{height}: {:?}", &last[..4]);
        }
    });
}

/// A batch with the cases as groups, and its images.
fn batch(loaded: &Loaded, cases: &[Case]) -> ScoreBatch {
    let (mut images, mut groups) = (Vec::new(), Vec::new());
    for case in cases {
        let own: Vec<usize> = (images.len()..images.len() + case.images.len()).collect();
        images.extend(loaded.images(case));
        let start = case.prompt_ids.len();
        let answers = case.answers.iter().map(|answer| TokenizedCompletion::new(answer.ids.clone(), start));
        groups.push((own, answers.collect()));
    }
    ScoreBatch::new(loaded.model.config(), images, &groups).unwrap()
}

/// Summed log-probabilities of all answers, case by case.
fn sums(model: &Vlm, batch: &ScoreBatch, adapters: Adapters) -> Vec<f64> {
    let (logps, _) = model.completion_logps(batch, adapters).unwrap();
    let [_, tokens] = logps.dims();
    floats(logps).chunks(tokens).map(|row| row.iter().map(|logp| f64::from(*logp)).sum()).collect()
}

/// The sum of an answer by the plain forward pass.
fn plain(model: &Vlm, case: &Case, answer: &[u32], images: &[ImageInput]) -> f64 {
    let logits = model.logits(answer, images, Adapters::On).unwrap();
    let [_, vocab] = logits.dims();
    let logps = floats(log_softmax(logits, 1));
    let logp = |at: usize| f64::from(logps[(at - 1) * vocab + answer[at] as usize]);
    (case.prompt_ids.len()..answer.len()).map(logp).sum()
}

#[test]
fn log_probs_are_those_of_transformers() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let cases = cases(checkpoint);
        let expected: Vec<f64> =
            cases.iter().flat_map(|case| case.answers.iter().map(|answer| answer.logp)).collect();
        let near = |found: &[f64], expected: &[f64], what: &str| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < NATS, "{}, {what}: {found}, {expected}", checkpoint.name);
            }
        };
        // all together, each case alone, and each sequence by itself
        near(&sums(&loaded.model, &batch(&loaded, &cases), Adapters::On), &expected, "together");
        for (case, expected) in cases.iter().zip(expected.chunks(2)) {
            let alone = std::slice::from_ref(case);
            near(&sums(&loaded.model, &batch(&loaded, alone), Adapters::On), expected, &case.prompt);
            let images = loaded.images(case);
            let answers = case.answers.iter();
            let found: Vec<f64> =
                answers.map(|answer| plain(&loaded.model, case, &answer.ids, &images)).collect();
            near(&found, expected, "plain");
        }
    });
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let cases = cases(checkpoint);
        let settings = &loaded.processor.generation;
        let prompts: Vec<_> = cases
            .iter()
            .map(|case| {
                let input = ModelInput::new(case.prompt_ids.clone(), loaded.images(case));
                Prompt::new(input, Sampling::greedy(checkpoint.new_tokens()))
            })
            .collect();
        for at_a_time in [1, 3, cases.len()] {
            let at_a_time = NonZeroUsize::new(at_a_time).unwrap();
            let answers =
                loaded.model.generate_continuous(&prompts, at_a_time, settings, Adapters::On).unwrap();
            for (case, answer) in cases.iter().zip(answers) {
                let end = case.greedy_ids.iter().position(|id| settings.stop.contains(id));
                let expected = &case.greedy_ids[..end.unwrap_or(case.greedy_ids.len())];
                assert_eq!(answer.ids, expected, "{}: {}", checkpoint.name, case.prompt);
                let text = loaded.processor.text.decode(&answer.ids, true).unwrap();
                assert_eq!(text, case.greedy_text, "{}: {}", checkpoint.name, case.prompt);
            }
        }
    });
}

#[test]
fn saved_weights_are_those_that_were_loaded() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let batch = batch(&loaded, &cases(checkpoint));
        let expected = sums(&loaded.model, &batch, Adapters::On);
        let out = tempfile::tempdir().unwrap();
        let whole = out.path().join("whole");
        loaded.model.save_checkpoint(checkpoint.path(), &whole).unwrap();
        assert_eq!(sums(&case::load(&whole), &batch, Adapters::On), expected, "{}", checkpoint.name);
        #[cfg(unix)]
        {
            // a directory of links has all files
            let (links, whole) = (out.path().join("links"), out.path().join("of-links"));
            std::fs::create_dir(&links).unwrap();
            for file in std::fs::read_dir(checkpoint.path()).unwrap().map(|file| file.unwrap()) {
                std::os::unix::fs::symlink(file.path(), links.join(file.file_name())).unwrap();
            }
            loaded.model.save_checkpoint(&links, &whole).unwrap();
            let again = case::load(&whole);
            let processor = Processor::from_dir(&whole, again.config()).unwrap();
            again.config().check_processor(&processor).unwrap();
            assert_eq!(sums(&again, &batch, Adapters::On), expected, "{}", checkpoint.name);
        }
        // one file in the layout of the published checkpoints
        let copy = Checkpoint::new(&checkpoint.case, Layout::Published);
        loaded.model.save_weights(&copy.path().join("model.safetensors"), FloatDType::F32).unwrap();
        assert_eq!(sums(&case::load(copy.path()), &batch, Adapters::On), expected, "{}", checkpoint.name);
        Vlm::check_weights(copy.path(), &device()).unwrap();
    });
}
