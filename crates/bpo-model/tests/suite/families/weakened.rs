//! Weakened images of each family.

use bpo_distort::features::attended_tokens;
use bpo_distort::{Distortion, Family};
use bpo_model::{Adapters, ImageQuestion, ModelError, ModelInput, Prompt, VlmResponder, WeakenedImage};
use bpo_pairs::{Contrast, ContrastMode, Sampling};
use image::RgbImage;

use super::case::{Layout, Loaded, cases, each_checkpoint, photo};
use crate::support::read_json;

const TOKENS: usize = 8;

/// Draws of an answer, so that small differences change one.
const DRAWS: u64 = 12;

/// Asks about photographs of which the first is weakened.
struct Asked {
    responder: VlmResponder,
    photos: Vec<RgbImage>,
    other: RgbImage,
}

impl Asked {
    /// One draw of an answer.
    fn answer(&mut self, distortion: Option<&Distortion>, contrast: Option<Contrast>) -> String {
        self.draw(0, distortion, contrast)
    }

    /// Many draws of an answer.
    fn answers(&mut self, distortion: Option<&Distortion>) -> Vec<String> {
        (0..DRAWS).map(|seed| self.draw(seed, distortion, None)).collect()
    }

    fn draw(&mut self, seed: u64, distortion: Option<&Distortion>, contrast: Option<Contrast>) -> String {
        let sampling = Sampling::greedy(TOKENS).with_temperature(2.0).with_seed(seed);
        let weakened = |distortion| WeakenedImage { distortion, seed: 7, other: Some(&self.other), contrast };
        let question = ImageQuestion {
            images: self.photos.iter().collect(),
            frames: Vec::new(),
            weakened: distortion.map(weakened),
            system: None,
            history: &[],
            prompt: "What is in the picture?",
            answer_prefix: "",
            sampling: &sampling,
        };
        self.responder.answer(&[question]).remove(0).unwrap().text
    }
}

/// Every distortion gives an answer, and the same one again. What changes nothing gives the clean
/// answer; a hidden image is not seen.
#[test]
fn images_are_weakened_by_every_distortion() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let photos = vec![photo("wide")];
        let responder = VlmResponder::new(loaded.model, loaded.processor);
        let mut asked = Asked { responder, photos, other: photo("square") };
        let clean = asked.answer(None, None);
        for family in Family::all() {
            if let Some(identity) = family.identity() {
                assert_eq!(
                    asked.answer(Some(&identity), None),
                    clean,
                    "{}: {}",
                    checkpoint.name,
                    family.name()
                );
            }
            let strongest = family.severity(bpo_distort::Severity::MAX);
            for distortion in strongest.iter() {
                let answer = asked.answer(Some(distortion), None);
                assert_eq!(asked.answer(Some(distortion), None), answer, "{}: {distortion}", checkpoint.name);
                let mut nothing = Contrast::new(ContrastMode::Vcd);
                (nothing.alpha, nothing.plausibility) = (0.0, 0.0);
                let contrasted = asked.answer(Some(distortion), Some(nothing));
                assert_eq!(contrasted, clean, "{}: {distortion}", checkpoint.name);
            }
        }
        // the same photograph upside down has the same layout
        let hidden: Distortion = "mask-tokens:share=1".parse().unwrap();
        let (seen, unseen) = (asked.answers(None), asked.answers(Some(&hidden)));
        image::imageops::rotate180_in_place(&mut asked.photos[0]);
        assert_eq!(asked.answers(Some(&hidden)), unseen, "{}", checkpoint.name);
        assert_ne!(asked.answers(None), seen, "{}: the photograph is not seen", checkpoint.name);
    });
}

/// Tolerance of attention to a token.
const ATTENTION: f32 = 2e-6;

/// The attention to image tokens is that of transformers in each layer, with tiles, grids and several
/// images; the tokens that get the most are hidden.
#[test]
fn the_attended_tokens_are_those_of_transformers() {
    each_checkpoint(|checkpoint| {
        if checkpoint.layout == Layout::V5 {
            return;
        }
        let loaded = Loaded::of(checkpoint);
        let cases = cases(checkpoint);
        let mut several = 0;
        for entry in read_json(&checkpoint.case.join("attention.json")).as_array().unwrap() {
            let case = &cases[entry["case"].as_u64().unwrap() as usize];
            let input = ModelInput::new(case.prompt_ids.clone(), loaded.images(case));
            let layers: Vec<Vec<f32>> = serde_json::from_value(entry["layers"].clone()).unwrap();
            let count = layers.len() as i32;
            let attention = |layer| loaded.model.image_attention(&input, layer, Adapters::On).unwrap();
            for (number, expected) in (0..).zip(&layers) {
                let found = attention(number);
                assert_eq!(found, attention(number - count), "{}", checkpoint.name);
                let tokens: Vec<usize> = input.images.iter().map(|image| image.tokens()).collect();
                assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), tokens);
                let found = found.concat();
                assert_eq!(found.len(), expected.len(), "{}", checkpoint.name);
                let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= ATTENTION, "{} layer {number}: off by {worst}", checkpoint.name);
            }
            for layer in [count, -count - 1] {
                let error = loaded.model.image_attention(&input, layer, Adapters::On).unwrap_err();
                let is_named = matches!(error, ModelError::NoSuchLayer { layer: found, layers }
                    if found == layer && layers == count as usize);
                assert!(is_named && !error.is_of_request(), "{error}");
            }

            let (mut asked, mut hidden) = (input.clone(), input.clone());
            for (image, attention) in hidden.images.iter_mut().zip(attention(1)) {
                image.hidden = attended_tokens(&attention, 0.4);
                assert!(!image.hidden.is_empty());
            }
            asked.images.iter_mut().for_each(|image| image.attended = vec![(0.4, 1)]);
            several += asked.images.len();
            let sampling = Sampling::greedy(TOKENS).with_temperature(2.0).with_seed(3);
            let prompts = [asked, hidden, input].map(|input| Prompt::new(input, sampling.clone()));
            let settings = &loaded.processor.generation;
            let together = loaded.model.generate(&prompts, settings, Adapters::On).unwrap();
            assert_eq!(together[0], together[1], "{}", checkpoint.name);
            let alone = loaded.model.generate(&prompts[..1], settings, Adapters::On).unwrap();
            assert_eq!(alone[0], together[0], "{}", checkpoint.name);
        }
        assert!(several > 0, "{}", checkpoint.name);
    });
}
